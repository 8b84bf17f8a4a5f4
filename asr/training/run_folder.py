"""The run folder of any training: one process at a time, and one configuration from the first to the last day."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from asr.device import MakeCell, choose_precision
from asr.errors import ConfigError
from asr.files import read_json, write_whole
from asr.options import first_difference, from_json, to_json
from asr.training.config import LoopOptions
from asr.training.loop import CHECKPOINTS


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
    with open(folder / ".lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another process is training in {folder}; wait for it, or choose another folder"
            ) from None
        yield


def claim_run_folder(folder: Path, config: Config, *, device: torch.device, make_cell: MakeCell) -> Config:
    """The configuration to train with, its precision settled; a new run folder gets it as config.json.

    An old run folder must hold the same configuration. Its precision stands where "auto" is asked for: measured again,
    it might come out otherwise, and the run would go on with other losses.

    Raises:
        ConfigError: the folder's run has other options; the first that differs is named.
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
    if config.loop.precision == "auto":
        config = _with_precision(config, old.loop.precision)
    if difference := first_difference(to_json(old), to_json(config)):
        raise ConfigError(
            f"{folder} holds a run with other options ({difference}); resume it with the same, or choose another folder"
        )
    return config


def _with_precision(config: Config, precision: str) -> Config:
    """The configuration with that precision."""
    return replace(config, loop=replace(config.loop, precision=precision))  # type: ignore[arg-type, type-var]
