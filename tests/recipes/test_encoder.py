"""The folder of a pretrained encoder from made-up wheels: parts joined in order, the checksum compared."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asr.acoustic.pretrained import read_origin
from asr.acoustic.whisper import WhisperEncoder, load_whisper
from asr.acoustic.whisper_weights import read_encoder
from recipes.english import encoder as recipe
from tests.whispers import TINY, whole_state, write_ctranslate2, write_openai


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> WhisperEncoder:
    """Of random weights, and known to the recipe."""
    torch.manual_seed(0)
    encoder = WhisperEncoder(TINY).eval()
    monkeypatch.setattr(recipe, "ENCODERS", {recipe.fingerprint(encoder.state_dict()): "someone/tiny"})
    monkeypatch.setattr("asr.acoustic.whisper_weights.HEAD_WIDTH", 4)
    return encoder


@pytest.fixture
def parts(encoder: WhisperEncoder, tmp_path: Path) -> list[bytes]:
    """The model.bin of CTranslate2 in eleven parts."""
    write_ctranslate2(tmp_path / "whole", encoder)
    content = (tmp_path / "whole").read_bytes()
    size = -(-len(content) // 11)
    return [content[start : start + size] for start in range(0, len(content), size)]


def make_wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def test_parts_in_wheels_and_folders_are_joined_in_the_order_of_their_numbers(
    encoder: WhisperEncoder, parts: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"whisper_tiny/data/model.bin.part{number}": part for number, part in enumerate(parts, start=1)}
    names = sorted(files)  # part10 and part11 are before part2
    first = make_wheel(tmp_path / "a.whl", {name: files[name] for name in names[6:]} | {"x/model.bin.txt": b"no"})
    folder = tmp_path / "unpacked"
    for name in names[:6]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])
    made = tmp_path / "made"
    assert recipe.main([str(first), str(folder), str(made)]) == 0
    assert capsys.readouterr().out == f"{made}: the encoder of someone/tiny, licence MIT\n"
    for name, value in load_whisper(made).state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name].half().float()), name
    assert {**read_origin(made), "sha256": ""} == {"name": "someone/tiny", "licence": "mit", "sha256": ""}


def test_the_tensors_have_one_checksum_whatever_file_they_come_from(
    encoder: WhisperEncoder, parts: list[bytes], tmp_path: Path
) -> None:
    write_openai(tmp_path / "tiny.pt", encoder)
    state = {f"model.encoder.{name}": value.half().contiguous() for name, value in whole_state(encoder).items()}
    (tmp_path / "hf").mkdir()
    save_file(state, tmp_path / "hf" / "model.safetensors")
    wheel = make_wheel(tmp_path / "whole.whl", {"package/model/model.bin": b"".join(parts)})
    (tmp_path / "model.bin").write_bytes(b"".join(parts))
    for number, source in enumerate((tmp_path / "tiny.pt", tmp_path / "hf", wheel, tmp_path / "model.bin")):
        assert recipe.make_encoder([source], tmp_path / f"made-{number}") == "someone/tiny"


def test_other_tensors_are_refused(encoder: WhisperEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.no_grad():
        encoder.layers[1].fc2.bias[3] += 0.01
    write_ctranslate2(tmp_path / "model.bin", encoder)
    checksum = recipe.fingerprint(read_encoder(tmp_path / "model.bin")[0])
    assert recipe.main([str(tmp_path / "model.bin"), str(tmp_path / "made")]) == 1
    message = "must hold the encoder of someone/tiny, but its tensors have another SHA-256"
    assert f"model.bin: {message}, {checksum}\n" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_the_checksum_depends_on_names_shapes_and_values() -> None:
    tensors = [
        {"a": torch.zeros(2, 3)},
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.ones(2, 3)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(1)},
    ]
    assert len({recipe.fingerprint(weights) for weights in tensors}) == len(tensors)
    positions = {"embed_positions.weight": torch.ones(1)}
    assert recipe.fingerprint(tensors[0]) == recipe.fingerprint(tensors[0] | positions)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([2, 3], "each of its parts once, from 1 on, but there are"),
        ([1, 3], "each of its parts once, from 1 on, but there are"),
        ([1, 1], "each of its parts once, from 1 on, but there are"),
        ([], "must hold a model.bin, whole or in parts, but there is none"),
        ([1], "must be a whole CTranslate2 model"),
    ],
)
def test_missing_parts_are_named(parts: list[bytes], tmp_path: Path, numbers: list[int], message: str, capsys) -> None:
    wheels = [
        make_wheel(tmp_path / f"{place}.whl", {f"p/model.bin.part{number}": parts[number - 1]})
        for place, number in enumerate(numbers)
    ] or [make_wheel(tmp_path / "empty.whl", {"p/__init__.py": b""})]
    assert recipe.main([*map(str, wheels), str(tmp_path / "made")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_a_damaged_wheel_is_named(parts: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path / "a.whl", {"p/model.bin": b"".join(parts)})
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    assert recipe.main([str(wheel), str(tmp_path / "made")]) == 1
    assert "a.whl: must be a whole wheel: " in capsys.readouterr().err
    wheel.write_bytes(content[:1000])
    assert recipe.main([str(wheel), str(tmp_path / "made")]) == 1
    assert "a.whl: must be a whole wheel: " in capsys.readouterr().err


def test_a_full_disk_is_no_damaged_wheel(
    encoder: WhisperEncoder, parts: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "whole.whl", {"package/model/model.bin": b"".join(parts)})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recipe.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        recipe.make_encoder([wheel], tmp_path / "made")
    assert type(caught.value) is OSError
