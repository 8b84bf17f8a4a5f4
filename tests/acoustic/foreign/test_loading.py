"""Which model a name or a folder means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import asr
from asr.acoustic.foreign.loading import find_foreign
from asr.errors import DataError, InputError


def write(folder: Path, *names: str, **config: Any) -> Path:
    for name in names:
        (folder / name).touch()
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("names", "config", "loader"),
    [
        (("weights.safetensors",), {"format_version": 1}, None),
        (("model.safetensors",), {"architectures": ["HubertForCTC"]}, "_load_hugging_face"),
        (("pytorch_model.bin", "onnx.txt"), {"architectures": ["Wav2Vec2ForCTC"]}, "_load_hugging_face"),
        (("model.onnx",), {"architectures": ["Wav2Vec2ForCTC"]}, "_load_onnx"),
        (("model.onnx", "tokens.txt"), {}, "_load_onnx"),
    ],
)
def test_folders(tmp_path: Path, names: tuple[str, ...], config: dict[str, Any], loader: str | None) -> None:
    load: Any = find_foreign(write(tmp_path, *names, **config))
    assert (load and load.func.__name__) == loader


def test_names_and_files(tmp_path: Path) -> None:
    pytest.importorskip("torchaudio")
    (tmp_path / "ctc.onnx").touch()
    assert find_foreign("torchaudio:NAME").args == ("NAME",)  # type: ignore[union-attr]
    assert find_foreign(tmp_path / "ctc.onnx").args == (tmp_path / "ctc.onnx",)  # type: ignore[union-attr]
    assert find_foreign("english") is None
    assert find_foreign(tmp_path / "missing") is None


def test_a_folder_does_not_hide_the_embedded_model_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an4").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_foreign("an4") is None
    assert asr.load("an4").model.name == "an4"
    with pytest.raises(DataError, match="this folder is none of them"):
        find_foreign("./an4")


@pytest.mark.parametrize(
    ("names", "config", "message"),
    [
        (
            (),
            {},
            "a model must be a folder of asr .*, of Hugging Face .*, or with an ONNX .*; this folder is none",
        ),
        (
            ("model.safetensors",),
            {"architectures": ["WhisperForConditionalGeneration"]},
            "but is WhisperForConditional",
        ),
        (("model.safetensors",), {"model_type": "wav2vec2"}, "architectures must name a CTC model, .*, but is none"),
        (("a.onnx", "b.onnx"), {}, "must have one ONNX model"),
    ],
)
def test_unknown_folders(tmp_path: Path, names: tuple[str, ...], config: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        asr.load(write(tmp_path, *names, **config))


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "parakeet.nemo").touch()
    with pytest.raises(InputError, match=r"not the file .*parakeet.nemo; export it to ONNX with NeMo's model.export"):
        asr.load(tmp_path / "parakeet.nemo")


def test_a_folder_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="no model 'no/such/folder': give a model folder, or one of the embedded mod"):
        asr.load("no/such/folder")
