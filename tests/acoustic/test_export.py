"""Our models in onnxruntime, beside themselves in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import asr
from asr.acoustic.config import ModelConfig
from asr.acoustic.export import export_onnx
from asr.acoustic.foreign.onnx_export import load_onnx
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.acoustic.pretrained import PretrainedFrontend
from asr.acoustic.shapes import Wav2Vec2Shape
from asr.cli.export import main
from asr.errors import ConfigError, DataError
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions
from tests import foreign_models
from tests.whispers import TINY

SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 8, "conv_channels": 2}
STACKED: dict[str, Any] = {"reduction": "stack", "time_strides": (2,), "pool_after_layer": 0}
LENGTHS = 24_000, 8_111, 16_161, 40_001


def make_model(frontend: dict[str, Any] | None = None, **encoder: Any) -> AcousticModel:
    torch.manual_seed(0)
    config = ModelConfig(
        characters=(" ", "A", "É", "'"),
        text=TextOptions(language="fr", case="keep"),
        frontend=FrontendOptions(**(frontend or {})),
        encoder=EncoderOptions(**(SMALL | encoder)),
        name="small",
    )
    model = AcousticModel(config).eval()
    if config.frontend.normalization == "global":
        size = config.frontend.num_features
        model.frontend.set_statistics(torch.linspace(5, 9, size), torch.linspace(1, 2, size))
    if isinstance(model.frontend, PretrainedFrontend) and model.frontend.layer_weights is not None:
        model.frontend.layer_weights.data = torch.tensor([0.5, -1.0, 2.0])
    return model


def exported_folder(model: AcousticModel, folder: Path) -> Path:
    """The ONNX export of a model, inside a folder."""
    model.save(folder / "model")
    export_onnx(folder / "model", folder / "exported")
    return folder / "exported"


@pytest.mark.parametrize(
    ("frontend", "encoder"),
    [
        ({}, {}),
        ({}, {"reduction": "stack", "time_strides": (3,), "pool_after_layer": 0}),
        ({}, {"bidirectional": False, "time_strides": (2, 2)}),
        ({}, {"merge": "concat", "projection": 8, "layer_norm": False}),
        ({}, {"cell": "gru", "residual": False}),
        ({}, {"cell": "rnn-tanh"}),
        ({"kind": "mfcc", "remove_dc_offset": False}, {}),
        ({"normalization": "global", "snip_edges": True}, {}),
        ({"normalization": "none", "window": "hamming", "preemphasis": 0.0, "sample_rate": 8000}, {}),
        ({"frame_shift_ms": 20.0, "frame_length_ms": 16.0, "num_mel_bins": 30}, {}),
        ({"whisper": TINY}, STACKED),
        ({"whisper": TINY, "pretrained_sum": True}, {}),
        ({"whisper": replace(TINY, normalize_output=False), "delta_order": 1}, {}),
        ({}, {"cell": "rnn-relu", "layer_norm": False}),
        ({}, {"cell": "peephole-lstm"}),
        ({"delta_order": 2}, {}),
        ({"kind": "mfcc", "delta_order": 1, "normalization": "none", "energy_floor": 1e4}, STACKED),
        ({"window": "rectangular", "snip_edges": True, "delta_order": 1}, {"time_strides": (3, 1)}),
    ],
)
def test_log_probs_are_those_of_torch(
    tmp_path: Path, rng: np.random.Generator, frontend: dict[str, Any], encoder: dict[str, Any]
) -> None:
    """On a ragged batch, of another size and other lengths than the one for the export."""
    model = make_model(frontend, **encoder)
    exported_folder(model, tmp_path)
    recognizer = asr.load(tmp_path / "exported", device="cpu")
    exported = recognizer.model
    assert (exported.name, exported.text, exported.alphabet) == ("small", model.text, model.alphabet)
    assert (exported.sample_rate, exported.samples_per_frame) == (model.sample_rate, model.samples_per_frame)
    sounds = foreign_models.waveforms(rng, *LENGTHS)
    expected = model.log_probs(sounds)
    for ours, theirs in zip(expected, exported.log_probs(sounds), strict=True):
        assert ours.std(axis=0).max() > 0.01
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    (alone,) = exported.log_probs(sounds[1:2])
    np.testing.assert_allclose(alone, expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frontend", [{}, {"snip_edges": True}, {"whisper": TINY}])
def test_any_lengths(tmp_path: Path, rng: np.random.Generator, frontend: dict[str, Any]) -> None:
    """Shorter than a frame, far longer than in the export, silent, or with silence far below the loudest sound."""
    model = make_model(frontend, **STACKED)
    exported_folder(model, tmp_path)
    exported = asr.load(tmp_path / "exported", device="cpu").model
    fading = foreign_models.waveforms(rng, 9_000)[0] * np.geomspace(1, 1e-9, 9_000, dtype=np.float32)
    for sounds in (
        *([sound] for sound in foreign_models.waveforms(rng, 1, 79, 80, 159, 160, 161, 399, 400, 401)),
        foreign_models.waveforms(rng, 321, 1, 320, 641, 80),
        foreign_models.waveforms(rng, 160_000, 1_000, 30),
        [np.zeros(8_000, np.float32), np.zeros(100, np.float32), fading],
    ):
        for ours, theirs in zip(model.log_probs(sounds), exported.log_probs(sounds), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5 if "whisper" in frontend else 1e-4)


@pytest.mark.parametrize("flags", [[], ["--int8"]])
def test_a_model_with_a_whisper_encoder(tmp_path: Path, flags: list[str]) -> None:
    """The text of the folder is that of the model; in int8, its matrices are, too, but for `fc2`."""
    import onnx

    make_model({"whisper": TINY}, **STACKED).save(tmp_path / "model")
    assert main([str(tmp_path / "model"), "--onnx", str(tmp_path / "exported"), *flags]) == 0
    ours, theirs = (asr.load(tmp_path / name, device="cpu") for name in ("model", "exported"))
    sound = asr.read_audio("tests/audio/merchant.flac", sample_rate=16_000)
    (expected,), (log_probs,) = ours.model.log_probs([sound]), theirs.model.log_probs([sound])
    np.testing.assert_allclose(np.exp(log_probs), np.exp(expected), atol=0.02 if flags else 1e-5)
    if not flags:
        assert theirs.transcribe("tests/audio/merchant.flac").text == ours.transcribe("tests/audio/merchant.flac").text
    kinds = [node.op_type for node in onnx.load(tmp_path / "exported" / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") == (3 * TINY.encoder_layers if flags else 0)
    assert kinds.count("Conv") == 3


def test_an_embedded_model_and_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The texts and times are those of the model in torch."""
    folder = tmp_path / "exported"
    assert main(["english", "--onnx", str(folder)]) == 0
    assert capsys.readouterr() == (f"{folder}\n", "")
    ours = asr.load("english", device="cpu", precision="float32", runtime="torch")
    theirs = asr.load(folder, device="cpu")
    options = theirs.decoder.options
    assert options.language.lm == str(folder / "ngram.safetensors")
    assert options.rescoring.source_lm == str(folder / "source.safetensors")
    rescoring = replace(options.rescoring, source_lm=ours.decoder.options.rescoring.source_lm)
    assert replace(options, language=ours.decoder.options.language, rescoring=rescoring) == ours.decoder.options
    for sound in ("tests/audio/merchant.flac", "tests/audio/cen8-mmxg-b.flac"):
        one, other = ours.transcribe(sound), theirs.transcribe(sound)
        assert one.text == other.text != ""
        assert [word.start for word in one.words] == [word.start for word in other.words]


@pytest.mark.parametrize(("name", "share"), [("an4", 0.3), ("english", 0.5)])
def test_int8_is_far_smaller_and_almost_as_exact(tmp_path: Path, name: str, share: float) -> None:
    """Trained weights: probabilities differ by two hundredths in a frame, on average, and few best labels."""
    sizes, probabilities = [], []
    (sound,) = [asr.read_audio("tests/audio/merchant.flac", sample_rate=16_000)]
    for flags in ([], ["--int8"]):
        folder = tmp_path / f"exported{len(flags)}"
        assert main([name, "--onnx", str(folder), "--quiet", *flags]) == 0
        sizes.append((folder / "model.onnx").stat().st_size)
        probabilities.append(np.exp(asr.load(folder, device="cpu").model.log_probs([sound])[0]))
    assert sizes[1] < share * sizes[0]
    assert np.abs(probabilities[1] - probabilities[0]).max(axis=1).mean() < 0.03
    assert (probabilities[1].argmax(axis=1) == probabilities[0].argmax(axis=1)).mean() > 0.95


def test_any_alphabet_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(make_model().config, characters=(" ", *"_#5<Ġé我'-"))
    folder = exported_folder(AcousticModel(config).eval(), tmp_path)
    assert load_onnx(folder / "model.onnx").alphabet == Alphabet(config.characters)


def test_an_exported_folder_is_replaced_and_another_one_is_not(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model")
    for _ in range(2):
        export_onnx(tmp_path / "model", tmp_path / "exported")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "model.onnx").write_bytes(b"a model of others")
    with pytest.raises(ConfigError, match="others exists and is no exported model, so it is not replaced"):
        export_onnx(tmp_path / "model", tmp_path / "others")
    assert (tmp_path / "others" / "model.onnx").read_bytes() == b"a model of others"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    with pytest.raises(ConfigError, match="letters exists and is no exported model, so it is not replaced"):
        export_onnx(tmp_path / "model", tmp_path / "letters")
    with pytest.raises(ConfigError, match="exported is a model of others or an exported one; only models of asr can"):
        export_onnx(tmp_path / "exported", tmp_path / "again")


def test_an_encoder_of_wav2vec2_cannot_be_exported(tmp_path: Path) -> None:
    model = make_model()
    model.config = replace(model.config, frontend=FrontendOptions(wav2vec2=Wav2Vec2Shape()))
    model.save(tmp_path / "model")
    message = "a pretrained encoder must be Whisper's to be exported to ONNX, not an encoder of wav2vec2"
    with pytest.raises(ConfigError, match=message):
        export_onnx(tmp_path / "model", tmp_path / "exported")


def test_metadata_that_is_damaged(tmp_path: Path) -> None:
    import onnx

    exported_folder(make_model(), tmp_path)
    path = tmp_path / "exported" / "model.onnx"
    document = onnx.load(path)
    next(entry for entry in document.metadata_props if entry.key == "sample_rate").value = "fast"
    onnx.save(document, path)
    with pytest.raises(DataError, match="the metadata of a model of asr must have text and sample_rate: "):
        asr.load(tmp_path / "exported")
