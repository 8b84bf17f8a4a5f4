"""Checkpoints of a run: everything that the next step depends on, written completely and checked when read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from asr.errors import DataError
from asr.files.reading import open_regular
from asr.files.writing import write_whole
from asr.training.distributed import from_first
from asr.training.optimizer import Scaler
from asr.training.task import Task

CHECKPOINTS = "checkpoints"  # their folder in the run folder
KEEP = 2


@dataclass(kw_only=True)
class Position:
    """The position of a run: all of its state that is a plain number or name."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    failures: int = 0  # steps skipped in a row
    skipped: int = 0  # steps skipped in all
    all_blank: int = 0  # steps in a row with Φ as the best label of every frame
    epochs: int = 0  # that the run was to have when it was saved; 0 in old checkpoints
    halvings: int = 0  # epochs that were not the best so far
    best: list[tuple[float, float, int]] = field(default_factory=list)  # (criterion, loss, epoch), best first


def save(task: Task, optimizer: torch.optim.Optimizer, scaler: Scaler, position: Position, folder: Path) -> None:
    """Write a checkpoint of everything that the next step depends on; random numbers depend on the step alone."""
    state = {
        "modules": task.modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "position": asdict(position),
        "data": task.data_digest,
    }
    from_first(lambda: save_checkpoint(folder / CHECKPOINTS, state, step=position.step))


def resume(
    task: Task, optimizer: torch.optim.Optimizer, scaler: Scaler, folder: Path, note: Callable[[str], None]
) -> Position:
    """Restore the last readable checkpoint and return its position; without checkpoints, the start.

    Raises:
        DataError: no checkpoint can be read; or the training data have changed since the run began.
    """
    state, faults = from_first(lambda: latest_checkpoint(folder / CHECKPOINTS))
    for fault in faults:
        note(f"{fault}; the checkpoint before it is used")
    if state is None:
        return Position()
    if state.get("data", task.data_digest) != task.data_digest:  # old checkpoints have no digest
        raise DataError("the training data have changed since the run began; choose another run folder", path=folder)
    task.modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    if scaler.is_enabled() and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    position = Position(**state["position"])
    position.best = [(criterion, loss, epoch) for criterion, loss, epoch in position.best]
    note(f"resuming after step {position.step}, in epoch {position.epoch + 1}")
    return position


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int) -> Path:
    """Write `state` as the checkpoint of `step`, then delete all but this one and the one before.

    Checkpoints of later steps, which exist after a return to an earlier one, are deleted too, and so are files that a
    killed process left half written.

    Args:
        folder: the run's `checkpoints`; made if missing.
        state: tensors, numbers, strings, and lists and dicts of them.
        step: optimiser steps done; the order of the files.
    Returns:
        The file of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path.with_suffix(".sha256"), hashlib.sha256(buffer.getbuffer()).hexdigest())
    write_whole(path, buffer.getbuffer())
    steps = sorted(other.stem for other in folder.glob("step-*.pt") if other.stem <= path.stem)
    for other in folder.glob("*step-*"):  # .step-* are half-written files
        if other.stem not in steps[-KEEP:]:
            other.unlink()
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in `path`, tensors on the CPU.

    Raises:
        DataError: the file or its checksum is missing, truncated or changed.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        digest = path.with_suffix(".sha256").read_bytes()
    except OSError as error:
        raise DataError(f"the checkpoint cannot be read: {error.strerror}", path=error.filename or path) from None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DataError("the checkpoint is damaged: its checksum is wrong", path=path)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # torch's message advises to run code in the file
        raise DataError(
            "the checkpoint must hold only tensors, numbers, strings, lists and dicts, but has something else, which "
            "is not run; delete it to resume from the checkpoint before",
            path=path,
        ) from None


def latest_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest readable state, None without checkpoints, and a sentence about each newer damaged one."""
    faults: list[str] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return load_checkpoint(path), faults
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            f"no checkpoint can be read ({'; '.join(faults)}); delete the folder to start again", path=folder
        )
    return None, faults
