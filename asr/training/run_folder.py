"""The run folder of any training: one process at a time, and one configuration from the first to the last day."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from asr.compute.device import MakeCell, can_run, choose_precision
from asr.errors import AsrWarning, ConfigError
from asr.files import locks
from asr.files.reading import read_json
from asr.files.writing import write_whole
from asr.options import first_difference, from_json, to_json
from asr.training.checkpoint import CHECKPOINTS
from asr.training.config import LoopOptions


class TrainingOptions(Protocol):
    """The configuration of a training, a dataclass."""

    @property
    def loop(self) -> LoopOptions: ...


Config = TypeVar("Config", bound=TrainingOptions)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in the same folder; the system lifts the lock when the process ends.

    Raises:
        ConfigError: another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / ".lock") as own:
        if not own:
            raise ConfigError(f"another process is training in {folder}; wait for it, or choose another folder")
        yield


def claim_run_folder(folder: Path, config: Config, *, device: torch.device, make_cell: MakeCell) -> Config:
    """The configuration to train with, its precision settled; a new run folder gets it as config.json.

    An old run folder must hold the same configuration. Its precision stands where "auto" is asked for: measured again,
    it might come out otherwise, and the run would go on with other losses. Where this processor cannot run it, the run
    goes on in float32 all the same.

    Raises:
        ConfigError: the folder's run has other options; the first that differs is named.
    Warns:
        AsrWarning: the run goes on in float32.
    """
    path = folder / "config.json"
    if not any((folder / CHECKPOINTS).glob("step-*.pt")):  # nothing to lose: a first try may have named a wrong file
        dtype = choose_precision(config.loop.precision, device, make_cell=make_cell, training=True)
        config = _with_precision(config, str(dtype).removeprefix("torch."))
        write_whole(path, json.dumps(to_json(config), ensure_ascii=False, indent=2) + "\n")
        return config
    try:
        before = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    old = from_json(type(config), before, where=str(path))
    wanted = config.loop.precision
    if wanted == "auto":
        config = _with_precision(config, old.loop.precision)
    if difference := first_difference(to_json(old), to_json(config)):
        raise ConfigError(
            f"{folder} holds a run with other options ({difference}); resume it with the same, or choose another folder"
        )
    if wanted == "auto" and not can_run(make_cell, getattr(torch, config.loop.precision), device, training=True):
        message = (
            f"{folder} was trained in {config.loop.precision}, which this processor cannot run: float32 from here on"
        )
        warnings.warn(AsrWarning(message), stacklevel=2)
        return _with_precision(config, "float32")
    return config


def _with_precision(config: Config, precision: str) -> Config:
    """The configuration with that precision."""
    return replace(config, loop=replace(config.loop, precision=precision))  # type: ignore[arg-type, type-var]
