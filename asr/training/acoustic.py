"""An acoustic model trained in a run folder: configuration in; log, checkpoints, curve and model out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from asr.acoustic.model import AcousticModel
from asr.compute.cells import make_cell
from asr.compute.device import deterministic, find_device
from asr.compute.runtime import check_precision
from asr.errors import ConfigError
from asr.options import to_json
from asr.output.pictures import training_curve
from asr.training.acoustic_task import prepare_acoustic_task
from asr.training.config import TrainingConfig
from asr.training.distributed import from_first, is_first, joined, num_processes, only_first
from asr.training.launch import launch
from asr.training.log import read_log
from asr.training.loop import fit
from asr.training.run_folder import claim_run_folder, locked


def train_acoustic_model(
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    note: Callable[[str], None] = print,
    progress: bool | None = None,
    processes: int = 1,
    workers: int = 0,
) -> AcousticModel:
    """Train a model in a run folder, or resume the run in it, perhaps with another number of epochs.

    All processes that torchrun started make this call, and train together; only the first calls `note` and writes
    files.

    Args:
        config: everything that decides the result; saved in the run folder as config.json.
        folder: the run folder: log.jsonl, curve.png, tensorboard/, checkpoints/, and model/ at the end.
        device: "cpu", "cuda", or "auto" for CUDA where it exists.
        note: called with each sentence for the user.
        progress: show bars on stderr; None: if stderr is a terminal.
        processes: number of processes to train in, each with its share of torch's threads, or its own GPU; with more
            than one, the calling script needs its `if __name__ == "__main__"`.
        workers: processes for each of them that read and augment sound; 0: a thread does. Batches are the same.
    Returns:
        The trained model, as in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration (`run_folder.CHANGEABLE` may differ), or another
            process trains in it; or the device does not support the configuration.
        DataError: the manifests or the lexicon cannot be used.
        Interrupted, Diverged: see `fit`.
        WorkerDied: a process was killed.
        OutOfMemory: the largest batch does not fit on the GPU.
    """
    folder = Path(folder)
    if processes > 1:
        how = {"note": note, "device": device, "progress": progress, "workers": workers}
        launch(train_acoustic_model, config, folder, processes=processes, **how)  # type: ignore[arg-type]
        return AcousticModel.load(folder / "model").eval().to(find_device(device))
    with deterministic(config.deterministic), joined(device) as own_device, ExitStack() as stack:
        check_precision(config.loop.precision, own_device)
        if config.ctc_backend == "cudnn" and own_device.type != "cuda":
            raise ConfigError(f"ctc_backend cudnn needs a CUDA device, not {own_device}: try auto")
        from_first(lambda: stack.enter_context(locked(folder)))
        progress = progress if is_first() else False
        return _train(config, folder, device=own_device, note=only_first(note), progress=progress, workers=workers)


def _train(
    config: TrainingConfig,
    folder: Path,
    *,
    device: torch.device,
    note: Callable[[str], None],
    progress: bool | None,
    workers: int,
) -> AcousticModel:
    """`train_acoustic_model` in one process of the group, whose run folder is locked."""
    cell = partial(make_cell, config.encoder.cell)
    config = from_first(lambda: claim_run_folder(folder, config, device=device, make_cell=cell))
    torch.manual_seed(config.loop.seed)
    task = prepare_acoustic_task(config, device=device, note=note, workers=workers)
    millions = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    note(
        f"{len(task.train_examples)} utterances ({task.train_hours():.2f} hours) to train on, "
        f"{len(task.dev_examples)} for dev; {millions:.1f} M weights, {config.loop.precision} on {device}"
        + (f" in {num_processes()} processes" if num_processes() > 1 else "")
    )
    task.rehearse()
    after_epoch = only_first(partial(draw_curve, folder))
    figures = fit(
        task,
        config.loop,
        folder,
        note=note,
        progress=progress,
        after_epoch=after_epoch,
        start_figures=bool(config.init),
    )
    provenance = {
        **task.model.config.provenance,
        "training": to_json(without_folders(config)),
        "hours": round(task.train_hours(), 3),
        "dev": {name: round(value, 5) for name, value in figures.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    model = task.model
    model.config = replace(model.config, provenance=provenance)
    if is_first():
        model.save(folder / "model", files_from=config.init or None)
    return model.eval()


def draw_curve(folder: Path) -> None:
    """Draw curve.png from the log, if matplotlib is installed (it is part of asr[train])."""
    if find_spec("matplotlib"):
        training_curve(read_log(folder), folder / "curve.png")


def without_folders(config: TrainingConfig) -> TrainingConfig:
    """The configuration with the names of files but not their folders, for the provenance in a published model."""

    def name(path: str) -> str:
        return Path(path).name

    files = config.data
    data = replace(
        files,
        train=tuple(map(name, files.train)),
        dev=tuple(map(name, files.dev)),
        noise=name(files.noise),
        impulse_responses=name(files.impulse_responses),
        feature_cache=name(files.feature_cache) if files.feature_cache else None,
    )
    frontend, auxiliary = config.frontend, config.auxiliary
    if frontend.pretrained:
        frontend = replace(frontend, pretrained=name(frontend.pretrained))
    auxiliary = replace(auxiliary, lexicon=name(auxiliary.lexicon))
    return replace(config, data=data, frontend=frontend, auxiliary=auxiliary, init=name(config.init))
