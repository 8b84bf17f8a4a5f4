"""Store the weights of the best epochs on disk during training, and average them at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from asr.errors import DataError
from asr.files.writing import write_whole
from asr.training.checkpoint import CHECKPOINTS, Position
from asr.training.config import LoopOptions
from asr.training.distributed import from_first, is_first
from asr.training.task import Task


def keep_best(
    task: Task, position: Position, figures: Mapping[str, float], epoch: int, options: LoopOptions, folder: Path
) -> None:
    """Keep the weights of the best `options.average_best` epochs; of equal epochs, the one with the lower loss."""
    entry = (figures[task.criterion], figures["loss"], epoch + 1)
    position.best = sorted([*position.best, entry])[: options.average_best]
    position.halvings += position.best[0] != entry
    if entry in position.best and is_first():
        state = {name: tensor.contiguous() for name, tensor in task.modules.state_dict().items()}
        write_whole(_weights_path(folder, epoch + 1), serialize(state))


def stalled(position: Position, options: LoopOptions) -> bool:
    """Whether there were `early_stop_epochs` epochs since the best one."""
    return 0 < options.early_stop_epochs <= position.epoch - (position.best[0][2] if position.best else position.epoch)


def drop_others(best: Sequence[tuple[float, float, int]], folder: Path) -> None:
    """Delete the weights of all epochs but `best`: those of the last checkpoint, and of the one before it."""
    best_paths = {_weights_path(folder, epoch) for _, _, epoch in best}
    for path in (folder / CHECKPOINTS).glob("epoch-*.safetensors"):
        if path not in best_paths:
            path.unlink()


def average_best(task: Task, position: Position, folder: Path, note: Callable[[str], None]) -> dict[str, float]:
    """Load the average of the best epochs into `task.modules`, or the best epoch if it is better on dev.

    Raises:
        DataError: no weights can be read.
    """
    by_epoch, faults = from_first(lambda: _read_weights(folder, [epoch for _, _, epoch in position.best]))
    for fault in faults:
        note(f"{fault}; the average is computed without it")
    if not by_epoch:
        raise DataError("the weights of no epoch can be read; delete the folder to start again", path=folder)
    states = list(by_epoch.values())
    task.modules.load_state_dict(states[0])
    single = task.evaluate()
    if len(states) == 1:
        return single
    mean = {name: torch.stack([state[name].double() for state in states]).mean(dim=0).float() for name in states[0]}
    task.modules.load_state_dict(mean)
    average = task.evaluate()
    epochs = ", ".join(map(str, by_epoch))
    better = (average[task.criterion], average["loss"]) <= (single[task.criterion], single["loss"])
    note(
        f"average of epochs {epochs}: dev {task.criterion} {average[task.criterion]:.4g}; best epoch alone "
        f"{single[task.criterion]:.4g}; the {'average' if better else 'best epoch'} is kept"
    )
    if not better:
        task.modules.load_state_dict(states[0])
    return average if better else single


def _read_weights(folder: Path, epochs: Sequence[int]) -> tuple[dict[int, dict[str, Tensor]], list[str]]:
    """The weights of each epoch whose file can be read, and a sentence about each other one."""
    states: dict[int, dict[str, Tensor]] = {}
    faults: list[str] = []
    for epoch in epochs:
        path = _weights_path(folder, epoch)
        try:
            states[epoch] = load_file(path)
        except (SafetensorError, OSError) as error:
            faults.append(f"{path}: the weights are damaged or missing: {error}")
    return states, faults


def _weights_path(folder: Path, epoch: int) -> Path:
    return folder / CHECKPOINTS / f"epoch-{epoch:04d}.safetensors"
