"""A recurrent language model trained in a run folder: configuration in; log, checkpoints and model out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from asr.compute.cells import make_cell
from asr.compute.device import deterministic, find_device
from asr.compute.runtime import check_precision
from asr.lm.rnn import LanguageModel
from asr.options import to_json
from asr.training.config import LanguageTrainingConfig
from asr.training.distributed import from_first, is_first, joined, only_first
from asr.training.language_task import LanguageTask, prepare_language_task, read_text
from asr.training.launch import launch
from asr.training.loop import fit
from asr.training.run_folder import claim_run_folder, locked


def train_language_model(
    config: LanguageTrainingConfig,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    note: Callable[[str], None] = print,
    progress: bool | None = None,
    processes: int = 1,
) -> LanguageModel:
    """Train a language model in a run folder, or resume the run in it.

    All processes that torchrun started make this call, and train together; only the first calls `note` and writes
    files. The others wait for at most half an hour while the first reads the text, which is too short for many
    gigabytes. With `processes`, the text is read before they start.

    Args:
        config: everything that decides the result; saved in the run folder as config.json.
        folder: the run folder: log.jsonl, tensorboard/, checkpoints/, the tokens of the text, and model/ at the end.
        device, note, progress, processes: as for `asr.training.acoustic.train_acoustic_model`.
    Returns:
        The trained model, as in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration, or another process trains in it.
        DataError: the text cannot be used, or has changed since the run began.
        Interrupted, Diverged: see `fit`.
        WorkerDied: a process was killed.
    """
    folder = Path(folder)
    cell = partial(make_cell, config.network.cell)
    if processes > 1:
        with locked(folder):
            config = claim_run_folder(folder, config, device=find_device(device), make_cell=cell)
            read_text(config, folder, note=note)
        launch(train_language_model, config, folder, processes=processes, note=note, device=device, progress=progress)
        return LanguageModel.load(folder / "model").to(find_device(device))
    with deterministic(config.deterministic), joined(device) as own_device, ExitStack() as stack:
        check_precision(config.loop.precision, own_device)
        from_first(lambda: stack.enter_context(locked(folder)))
        note, progress = only_first(note), progress if is_first() else False
        config = from_first(lambda: claim_run_folder(folder, config, device=own_device, make_cell=cell))
        torch.manual_seed(config.loop.seed)
        task = prepare_language_task(config, folder, device=own_device, note=note)
        figures = fit(task, config.loop, folder, note=note, progress=progress)
        model = task.model
        model.config = replace(model.config, provenance=provenance(config, task, figures))
        if is_first():
            model.save(folder / "model")
    return model.eval()


def provenance(config: LanguageTrainingConfig, task: LanguageTask, figures: dict[str, float]) -> dict[str, object]:
    """The training as the model folder describes it: the names of files, but not their folders."""
    train, dev = (tuple(Path(path).name for path in paths) for paths in (config.data.train, config.data.dev))
    data, initial = replace(config.data, train=train, dev=dev), Path(config.init).name
    return {
        "training": to_json(replace(config, data=data, init=initial)),
        "tokens": len(task.text.tokens),
        "dev": {name: round(value, 5) for name, value in figures.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
