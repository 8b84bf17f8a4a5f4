"""Kokoro between packages that stand in for its own: what they are asked, and what is made of their answers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asr.errors import ConfigError, DataError, InputError
from recipes.english.kokoro import Kokoro


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A voice model of 3 styles that says its input, and packages that say IPA of what they are given."""

    class Session:
        def __init__(self, path: str, options: object, providers: list[str]):
            if Path(path).read_bytes() != b"network":
                raise RuntimeError("no protobuf")

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name=name) for name in ("style", "tokens", "speed")]

        def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert {name: (value.dtype, value.shape[:1]) for name, value in given.items()} == {
                "tokens": (np.int64, (1,)), "style": (np.float32, (1,)), "speed": (np.float32, (1,)),
            }  # fmt: skip
            said.append((given["tokens"].tolist(), given["style"].tolist(), given["speed"].item()))
            return [np.ones((1, 2400), dtype=np.float32)]

    said: list[tuple[list[list[int]], list[list[float]], float]] = []
    backend = SimpleNamespace(phonemize=lambda sentences, strip: sentences)
    modules = {
        "onnxruntime": SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session, said=said),
        "phonemizer.backend": SimpleNamespace(EspeakBackend=lambda language, **_: backend),
        "phonemizer.backend.espeak.wrapper": SimpleNamespace(
            EspeakWrapper=SimpleNamespace(set_library=str, set_data_path=str)
        ),
        "espeakng_loader": SimpleNamespace(get_library_path=str, get_data_path=str),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    root = tmp_path / "model"
    (root / "voices").mkdir(parents=True)
    (root / "model.onnx").write_bytes(b"network")
    (root / "vocab.json").write_text('{"vocab": {"b": 4, "W": 5, "ɪ": 7}}')
    np.repeat(np.arange(3, dtype="<f4"), 256).tofile(root / "voices" / "af_ann.bin")
    return root


def test_what_the_network_is_given(folder: Path) -> None:
    model = Kokoro(folder)
    waveform = model.speak("ba^ʊ-", voice="af_ann", speed=1.1)
    assert waveform.dtype == np.float32 and waveform.shape == (1600,)
    assert sys.modules["onnxruntime"].said == [([[0, 4, 5, 0]], [[1.0] * 256], pytest.approx(1.1))]
    for sentence in ("", "-", "bbbb"):
        with pytest.raises(InputError, match="must have 1 to 3 symbols"):
            model.speak(sentence, voice="af_ann", speed=1.0)


@pytest.mark.parametrize(
    ("heard", "american", "british"),
    [
        ("t^ʃˈe^ə d^ʒˈɔ^ɪ", "ʧˈAə ʤˈY", "ʧˈɛː ʤˈY"),
        ("ˈo^ʊ dˈe^ɪ mˈa^ɪ", "ˈO dˈA mˈI", "ˈɔʊ dˈA mˈI"),
        ("ɡˌə^ʊ lˈɪɾə^l", "ɡˌəʊ lˈɪTᵊl", "ɡˌQ lˈɪTᵊl"),
        ("bˈɜːd bˈʌʔn̩ ˈiːvn̩", "bˈɜɹd bˈʌtn ˈivᵊn", "bˈɜːd bˈʌtn ˈiːvᵊn"),
        ("fˈɑːðɚɹ ænd bˈɑː^ɹɹə", "fˈɑðəɹ ænd bˈɑɹə", "fˈɑːðəɹɹ ænd bˈɑːɹɹə"),
        ("nˌi^ə fˈɪə", "nˌiə fˈiə", "nˌɪə fˈɪə"),
    ],
)
def test_symbols(folder: Path, heard: str, american: str, british: str) -> None:
    model = Kokoro(folder)
    assert (model.symbols(heard, british=False), model.symbols(heard, british=True)) == (american, british)


def test_what_a_voice_model_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = folder / "voices" / "af_ann.bin"
    (folder / "model.onnx").write_bytes(b"text")
    with pytest.raises(DataError, match=r"model\.onnx: cannot be loaded: no protobuf"):
        Kokoro(folder).speak("b", voice="af_ann", speed=1.0)
    voice.write_bytes(b"12345")
    with pytest.raises(DataError, match=r"af_ann\.bin: must be rows of 256 float32, but has 5 bytes"):
        Kokoro(folder).speak("b", voice="af_ann", speed=1.0)
    (folder / "vocab.json").write_text("[]")
    with pytest.raises(DataError, match=r"vocab\.json: must be"):
        Kokoro(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"further packages .*onnxruntime.*: pip install onnxruntime espeakng-loader"):
        Kokoro(folder)
    voice.unlink()
    (folder / "vocab.json").unlink()
    with pytest.raises(ConfigError, match=r"lacks vocab\.json, voices/.* in .*model; see recipes/english/README\.md"):
        Kokoro(folder)
