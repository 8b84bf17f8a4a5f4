"""A training in its run folder: configuration in, log, checkpoints, curve and model out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from asr.acoustic.model import AcousticModel
from asr.compute.cells import make_cell
from asr.compute.device import check_precision, deterministic, find_device
from asr.errors import ConfigError
from asr.options import to_json
from asr.output.pictures import training_curve
from asr.training.acoustic import AcousticTask
from asr.training.config import TrainingConfig
from asr.training.distributed import from_first, is_first, joined, num_processes
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
    """Train a model in a run folder, or go on with a run that was interrupted there.

    In processes that torchrun started, all make this call, and train together; only the first notes and writes.

    Args:
        config: everything that decides the result; the run folder keeps it as config.json.
        folder: the run folder: log.jsonl, curve.png, tensorboard/, checkpoints/, and model/ at the end.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        note: called with one sentence for each thing a person should know.
        progress: bars on stderr; None: when stderr is a terminal.
        processes: how many to start for the training, each with its part of torch's threads, or a GPU of its own; the
            script that calls needs its `if __name__ == "__main__"`.
        workers: processes that read and augment the sound for each of those; 0: a thread does. Batches are the same.
    Returns:
        The trained model, as it stands in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration, or another process trains in it; or the device
            lacks what the configuration asks for.
        DataError: the manifests or the lexicon cannot be used.
        Interrupted, Diverged: see `fit`.
        ProcessDied, WorkerDied: one of the processes was killed.
        OutOfMemory: a GPU does not hold the largest batch.
    """
    folder = Path(folder)
    if processes > 1:
        how = {"note": note, "device": device, "progress": progress, "workers": workers}
        launch(train_acoustic_model, config, folder, processes=processes, **how)  # type: ignore[arg-type]
        return AcousticModel.load(folder / "model").eval().to(find_device(device))
    with deterministic(config.deterministic), joined(device) as place, ExitStack() as stack:
        check_precision(config.loop.precision, place)
        if config.ctc_backend == "cudnn" and place.type != "cuda":
            raise ConfigError(f"ctc_backend cudnn needs a CUDA device, not {place}: try auto")
        from_first(lambda: stack.enter_context(locked(folder)))
        if not is_first():
            note, progress = _nothing, False
        return _train(config, folder, place=place, note=note, progress=progress, workers=workers)


def _train(
    config: TrainingConfig,
    folder: Path,
    *,
    place: torch.device,
    note: Callable[[str], None],
    progress: bool | None,
    workers: int,
) -> AcousticModel:
    """`train_acoustic_model`, in a folder that is this training's own."""
    cell = partial(make_cell, config.encoder.cell)
    config = from_first(lambda: claim_run_folder(folder, config, device=place, make_cell=cell))
    torch.manual_seed(config.loop.seed)
    task = AcousticTask(config, device=place, note=note, workers=workers)
    millions = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    note(
        f"{len(task.train_examples)} utterances, {task.train_hours():.2f} hours, to train on, "
        f"{len(task.dev_examples)} to choose by; {millions:.1f} M weights, {config.loop.precision} on {place}"
        + (f" in {num_processes()} processes" if num_processes() > 1 else "")
    )
    task.rehearse()
    after_epoch = partial(draw_curve, folder) if is_first() else _nothing
    figures = fit(task, config.loop, folder, note=note, progress=progress, after_epoch=after_epoch)
    provenance = {
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


def _nothing(*_: object) -> None:
    """What the other processes than the first do where that one speaks or writes."""


def draw_curve(folder: Path) -> None:
    """Draws the log's curve.png; not where matplotlib, which comes with asr[train], is missing."""
    if find_spec("matplotlib"):
        training_curve(read_log(folder), folder / "curve.png")


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
