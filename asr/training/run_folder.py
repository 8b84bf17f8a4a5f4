"""The run folder of any training: one process at a time, and one configuration."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from asr.compute.device import MakeCell, can_run, choose_precision
from asr.errors import AsrWarning, ConfigError
from asr.files import locks
from asr.files.model_config import CONFIG_FILE, resume_command
from asr.files.reading import read_json
from asr.files.writing import write_whole
from asr.options import differences, from_json, to_json
from asr.training.checkpoint import CHECKPOINTS
from asr.training.config import LanguageTrainingConfig, TrainingConfig

CHANGEABLE = frozenset(
    {
        *("name", "description"),
        *(f"loop.{name}" for name in ("epochs", "early_stop_epochs", "patience_steps", "checkpoint_minutes")),
    }
)
"""The options that a run may change when it resumes: they decide no step that has been done."""

_NAMED = 3  # options in a message

Config = TypeVar("Config", TrainingConfig, LanguageTrainingConfig)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder; the lock ends with the process.

    Raises:
        ConfigError: another process is training there, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"a training needs a folder, but {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / ".lock") as own:
        if not own:
            raise ConfigError(f"another process is training in {folder}; wait for it, or choose another folder")
        yield


def claim_run_folder(folder: Path, config: Config, *, device: torch.device, make_cell: MakeCell) -> Config:
    """The configuration with its precision chosen; in a new run folder, it is written as config.json.

    An old run folder must hold the same configuration, but for the options in `CHANGEABLE`, whose new values are
    written to config.json. Its precision replaces "auto", because a new measurement might choose another one and change
    the losses. If this processor cannot run it, the run continues in float32.

    Raises:
        ConfigError: the run in the folder has other options; the first differences are named, with the command that
            continues the run, and the one that starts another run from its model.
    Warns:
        AsrWarning: the run continues in float32.
    """
    path = folder / "config.json"
    if not any((folder / CHECKPOINTS).glob("step-*.pt")):  # no checkpoint yet: an option may have been wrong
        dtype = choose_precision(config.loop.precision, device, make_cell=make_cell, training=True)
        config = _with_precision(config, str(dtype).removeprefix("torch."))
        write_whole(path, json.dumps(to_json(config), ensure_ascii=False, indent=2) + "\n")
        return config
    try:
        before = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    old = from_json(type(config), before, where=str(path))
    precision = config.loop.precision
    if precision == "auto":
        config = _with_precision(config, old.loop.precision)
    changes = differences(to_json(old), to_json(config))
    if any(name not in CHANGEABLE for name in changes):
        raise ConfigError(_refusal(folder, config, changes, resume=resume_command(folder, before)))
    if changes:
        write_whole(path, json.dumps(to_json(config), ensure_ascii=False, indent=2) + "\n")
    if precision == "auto" and not can_run(make_cell, getattr(torch, config.loop.precision), device, training=True):
        message = (
            f"{folder} was trained in {config.loop.precision}, which this processor cannot run: continuing in float32"
        )
        warnings.warn(AsrWarning(message), stacklevel=2)
        return _with_precision(config, "float32")
    return config


def _refusal(folder: Path, config: Config, changes: Mapping[str, tuple[Any, Any]], *, resume: str) -> str:
    """Why a run cannot continue with other options; how to continue it, or start another from its model if possible."""
    fixed = [f"{name} was {old!r}, now {new!r}" for name, (old, new) in changes.items() if name not in CHANGEABLE]
    message = (
        f"{folder} holds a run with other options ({'; '.join(fixed[:_NAMED])}{'; ...' * (len(fixed) > _NAMED)}); to "
        f"continue it with its own: {resume}; to train with these, choose another folder"
    )
    parts = {change.partition(".")[0] for change in changes}
    if isinstance(config, LanguageTrainingConfig) or parts & {"text", "frontend", "encoder", "init", "init_alphabet"}:
        return message  # another model: it begins anew
    if config.frontend.pretrained:  # config.json names the encoder, but the model has it inside
        return message
    if not (folder / "model" / CONFIG_FILE).is_file():  # the run has not ended
        return message
    flags = " ".join(_flag(change, value) for change, (_, value) in changes.items())
    start = shlex.join(["--config", str(folder / "config.json"), "--init", str(folder / "model")])
    return f"{message}; to start there from the model of this run: asr-train --run NEW {start} {flags}"


def _flag(name: str, value: Any) -> str:
    """An option as it is typed."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    text = "none" if value is None else ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
    return f"--{name} {shlex.quote(text)}"


def _with_precision(config: Config, precision: str) -> Config:
    """The configuration with another precision."""
    return replace(config, loop=replace(config.loop, precision=precision))  # type: ignore[arg-type, type-var]
