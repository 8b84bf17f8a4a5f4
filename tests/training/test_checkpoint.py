"""Checkpoints survive what a kill, a full disk or a flipped bit does to them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.errors import DataError
from asr.training import checkpoint
from asr.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint


def state(step: int) -> dict[str, Any]:
    return {"weights": {"a": torch.full((50, 3), float(step))}, "position": {"step": step, "best": [(0.5, 1.0, 2)]}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, state(step), step=step)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new" / "checkpoints", state(7), step=7)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"]["a"], torch.full((50, 3), 7.0))
    assert loaded["position"] == {"step": 7, "best": [(0.5, 1.0, 2)]}
    assert path.name == "step-00000007.pt"


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 5, 9, 10, 100)
    assert names(tmp_path) == [
        "step-00000010.pt",
        "step-00000010.sha256",
        "step-00000100.pt",
        "step-00000100.sha256",
    ]
    latest, faults = latest_checkpoint(tmp_path)
    assert latest is not None and latest["position"]["step"] == 100
    assert faults == []


def test_weights_of_epochs_beside_them_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "epoch-0001.safetensors").write_bytes(b"x")
    save(tmp_path, 1, 2, 3)
    assert (tmp_path / "epoch-0001.safetensors").exists()


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) == (None, [])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "suffix", "fault"),
    [
        (flip, ".pt", r"step-00000002.pt: the checkpoint is damaged: its checksum is wrong"),
        (truncate, ".pt", r"step-00000002.pt: the checkpoint is damaged: its checksum is wrong"),
        (empty, ".pt", r"step-00000002.pt: the checkpoint is damaged: its checksum is wrong"),
        (flip, ".sha256", r"step-00000002.pt: the checkpoint is damaged: its checksum is wrong"),
        (lambda path: path.write_bytes(b"\xff\xfe"), ".sha256", r"the checkpoint is damaged: its checksum is"),
        (Path.unlink, ".sha256", r"step-00000002.sha256: the checkpoint cannot be read: No such file or directory"),
    ],
)
def test_a_damaged_one_is_refused_and_the_one_before_taken(
    tmp_path: Path, damage: Any, suffix: str, fault: str
) -> None:
    save(tmp_path, 1, 2)
    path = tmp_path / "step-00000002.pt"
    damage(path.with_suffix(suffix))
    with pytest.raises(DataError, match=fault):
        load_checkpoint(path)
    latest, (told,) = latest_checkpoint(tmp_path)
    assert latest is not None and latest["position"]["step"] == 1
    with pytest.raises(DataError, match=fault):
        raise DataError(told)


def test_if_none_can_be_read_that_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        truncate(path)
    with pytest.raises(DataError, match=r"no checkpoint can be read \(.*00002.pt.*00001.pt.*\); delete the folder"):
        latest_checkpoint(tmp_path)


def test_a_pickle_with_a_good_checksum_is_not_run(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-00000001.pt"
    torch.save({"a": Bomb(tmp_path / "exploded")}, path)
    path.with_suffix(".sha256").write_text(checkpoint.hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(
        DataError,
        match=r"step-00000001.pt: the checkpoint must hold only tensors, .*, but has something else, which",
    ) as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)  # torch's own message says how to run it
    assert not (tmp_path / "exploded").exists()


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_that_pickle_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("written", [0, 1])
def test_a_save_that_is_cut_leaves_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The process dies before the first or the second of the two files gets its name."""
    save(tmp_path, 1, 2)
    replace, calls = os.replace, []

    def die(source: Path, target: Path) -> None:
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
    latest, faults = latest_checkpoint(tmp_path)
    assert latest is not None and latest["position"]["step"] == 2
    assert faults == []
    save(tmp_path, 4)
    assert names(tmp_path) == [
        "step-00000002.pt",
        "step-00000002.sha256",
        "step-00000004.pt",
        "step-00000004.sha256",
    ]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".step-00000003.pt.tmp").write_bytes(b"half")
    save(tmp_path, 4)
    assert names(tmp_path) == ["step-00000004.pt", "step-00000004.sha256"]


def test_after_a_fall_back_the_damaged_one_makes_room_for_good_ones(tmp_path: Path) -> None:
    save(tmp_path, 80, 100)
    flip(tmp_path / "step-00000100.pt")
    save(tmp_path, 90)
    assert [name for name in names(tmp_path) if name.endswith(".pt")] == ["step-00000080.pt", "step-00000090.pt"]
    assert latest_checkpoint(tmp_path)[1] == []
