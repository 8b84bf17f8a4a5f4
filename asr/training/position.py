"""The position of a run, and its checkpoints: save everything that the next step depends on, and resume from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from asr.errors import DataError
from asr.training.checkpoint import CHECKPOINTS, latest_checkpoint, save_checkpoint
from asr.training.distributed import from_first
from asr.training.optimizer import Scaler
from asr.training.task import Task


@dataclass(kw_only=True)
class Position:
    """The position of a run: all of its state that is a plain number or name."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    failures: int = 0  # steps skipped in a row
    skipped: int = 0  # steps skipped in all
    all_blank: int = 0  # steps in a row in which the best label of every frame was Φ
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
