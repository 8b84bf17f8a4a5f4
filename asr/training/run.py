"""A training in its run folder: configuration in, log, checkpoints, curve and model out."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from asr.acoustic_model import AcousticModel
from asr.device import Precision, choose_precision, find_device
from asr.encoder import make_cell
from asr.errors import ConfigError
from asr.files import write_whole
from asr.options import first_difference, from_json, to_json
from asr.plots import training_curve
from asr.training.acoustic import AcousticTask
from asr.training.config import TrainingConfig
from asr.training.log import read_log
from asr.training.loop import CHECKPOINTS, fit


def train_acoustic_model(
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    note: Callable[[str], None] = print,
    progress: bool | None = None,
) -> AcousticModel:
    """Train a model in a run folder, or go on with a run that was interrupted there.

    Args:
        config: everything that decides the result; the run folder keeps it as config.json.
        folder: the run folder: log.jsonl, curve.png, tensorboard/, checkpoints/, and model/ at the end.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        note: called with one sentence for each thing a person should know.
        progress: bars on stderr; None: when stderr is a terminal.
    Returns:
        The trained model, as it stands in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration, or another process trains in it.
        DataError: the manifests or the lexicon cannot be used.
        Interrupted, Diverged: see `fit`.
    """
    place = find_device(device)
    with locked(Path(folder)):
        return _train(config, Path(folder), place=place, note=note, progress=progress)


def _train(
    config: TrainingConfig, folder: Path, *, place: torch.device, note: Callable[[str], None], progress: bool | None
) -> AcousticModel:
    """`train_acoustic_model`, in a folder that is this process's own."""
    config = claim_run_folder(folder, config, device=place)
    torch.manual_seed(config.loop.seed)
    task = AcousticTask(config, device=place, note=note)
    millions = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    note(
        f"{len(task.train_examples)} utterances, {task.train_hours():.2f} hours, to train on, "
        f"{len(task.dev_examples)} to choose by; {millions:.1f} M weights, {config.loop.precision} on {place}"
    )
    task.rehearse()
    figures = fit(task, config.loop, folder, note=note, progress=progress, after_epoch=partial(draw_curve, folder))
    provenance = {
        "training": to_json(without_folders(config)),
        "hours": round(task.train_hours(), 3),
        "dev": {name: round(value, 5) for name, value in figures.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    model = task.model
    model.config = replace(model.config, provenance=provenance)
    model.save(folder / "model")
    return model.eval()


def draw_curve(folder: Path) -> None:
    """Draws the log's curve.png; not where matplotlib, which comes with asr[train], is missing."""
    if find_spec("matplotlib"):
        training_curve(read_log(folder), folder / "curve.png")


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


def claim_run_folder(folder: Path, config: TrainingConfig, *, device: torch.device) -> TrainingConfig:
    """The configuration to train with, its precision settled; a new run folder gets it as config.json.

    An old run folder must hold the same configuration. Its precision stands where "auto" is asked for: measured again,
    it might come out otherwise, and the run would go on with other losses.

    Raises:
        ConfigError: the folder's run has other options; the first that differs is named.
    """
    path = folder / "config.json"
    if not any((folder / CHECKPOINTS).glob("step-*.pt")):  # nothing to lose: a first try may have named a wrong file
        dtype = choose_precision(
            config.loop.precision, device, make_cell=partial(make_cell, config.encoder.cell), training=True
        )
        config = with_precision(config, "bfloat16" if dtype == torch.bfloat16 else "float32")
        write_whole(path, json.dumps(to_json(config), ensure_ascii=False, indent=2) + "\n")
        return config
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if config.loop.precision == "auto":
        config = with_precision(config, from_json(TrainingConfig, before, where=str(path)).loop.precision)
    if difference := first_difference(to_json(from_json(TrainingConfig, before, where=str(path))), to_json(config)):
        raise ConfigError(
            f"{folder} holds a run with other options ({difference}); resume it with the same, or choose another folder"
        )
    return config


def with_precision(config: TrainingConfig, precision: Precision) -> TrainingConfig:
    """The configuration with that precision."""
    return replace(config, loop=replace(config.loop, precision=precision))


def without_folders(config: TrainingConfig) -> TrainingConfig:
    """The configuration with the names only of files and folders: what a model tells strangers of its training."""

    def names(paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(Path(path).name for path in paths)

    (noise, impulse_responses, lexicon, init) = names(
        (config.data.noise, config.data.impulse_responses, config.auxiliary.lexicon, config.init)
    )
    data = replace(
        config.data,
        train=names(config.data.train),
        dev=names(config.data.dev),
        noise=noise,
        impulse_responses=impulse_responses,
    )
    return replace(config, data=data, auxiliary=replace(config.auxiliary, lexicon=lexicon), init=init)
