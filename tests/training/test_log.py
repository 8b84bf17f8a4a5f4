"""The log goes on where its checkpoint stands, and survives a line cut short."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from asr.errors import DataError
from asr.training.log import TrainingLog, read_log


def write(folder: Path, *steps: int, resumed: int = 0) -> None:
    log = TrainingLog(folder, step=resumed)
    for step in steps:
        log.write("step", step=step, loss=float(step))
    log.close()


def steps(folder: Path) -> list[int]:
    return [record["step"] for record in read_log(folder)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "run")
    log.write("step", step=1, loss=0.1, gradient_norm=math.nan, rate=math.inf)
    log.write("note", step=1, text="step 1: nothing but Φ")
    log.write("epoch", step=1, epoch=1, wer=0.5)
    records = read_log(tmp_path / "run")  # before it is closed: each line is on its way at once
    log.close()
    assert records == [
        {"kind": "step", "step": 1, "loss": 0.1, "gradient_norm": None, "rate": None},
        {"kind": "note", "step": 1, "text": "step 1: nothing but Φ"},
        {"kind": "epoch", "step": 1, "epoch": 1, "wer": 0.5},
    ]


def test_every_line_is_json_that_others_read(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    log.write("step", step=1, loss=math.nan)
    log.close()

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {"kind": "step", "step": 1, "loss": None}


def test_a_resumed_log_drops_what_its_checkpoint_does_not_have(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    write(tmp_path, 3, 5, resumed=2)
    assert steps(tmp_path) == [1, 2, 3, 5]


def test_without_a_checkpoint_the_log_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    write(tmp_path, 1)
    assert steps(tmp_path) == [1]


def test_a_log_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    write(tmp_path, 8, resumed=7)
    assert steps(tmp_path) == [8]


@pytest.mark.parametrize("rest", ["", "{", '{"kind": "step", "st', '{"kind": "step"}', "7", '{"step": 3}', "\x00\x00"])
def test_a_last_line_cut_short_is_left_out(tmp_path: Path, rest: str) -> None:
    write(tmp_path, 1, 2)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(rest)
    assert steps(tmp_path) == [1, 2]
    write(tmp_path, 3, resumed=2)
    assert steps(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("line", [b"{", b"7", b"[]", b'{"kind": "step"}', b'{"step": 2}', b"\xff\xfe", b""])
def test_a_bad_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, 1, 2, 3)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    lines[1] = line
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(DataError, match=r"log.jsonl:2: not a record of the log: "):
        read_log(tmp_path)


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log.jsonl: the log cannot be read: No such file or directory"):
        read_log(tmp_path)


def test_tensorboard_has_the_same_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TrainingLog(tmp_path)
    for step in (1, 2):
        log.write("step", step=step, loss=1.0 / step, text="no number")
    log.write("epoch", step=2, wer=0.25)
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"step/loss", "epoch/wer"}
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(1, 1.0), (2, 0.5)]


def test_without_tensorboard_the_log_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    write(tmp_path, 1, 2)
    assert steps(tmp_path) == [1, 2]
    assert not (tmp_path / "tensorboard").exists()
