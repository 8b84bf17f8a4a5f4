"""The epoch loop, once for every kind of model: read `fit` from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from tqdm import tqdm

from asr.errors import AsrError
from asr.training.best_weights import average_best, drop_others, keep_best, stalled
from asr.training.checkpoint import Position, resume, save
from asr.training.config import LoopOptions
from asr.training.distributed import agreed, is_first, num_processes, rank, stop_signals, total
from asr.training.log import TrainingLog
from asr.training.optimizer import learning_rate, make_optimizer, make_scaler, update
from asr.training.task import BatchLoss, Task, naming, seed_of, whole_batch

# Note the waiting for data if it exceeds this share of an epoch's time, and these seconds of a process.
WAITING_SHARE, WAITING_SECONDS = 0.05, 10.0
ALL_BLANK_STEPS = 300  # a model may output only Φ for the first few hundred steps, and still learn

Item = TypeVar("Item")


class Interrupted(AsrError):
    """The run was stopped by a signal, and has saved a checkpoint."""


class Diverged(AsrError):
    """Too many steps in a row had a loss or gradient that is not finite."""


def fit(
    task: Task,
    options: LoopOptions,
    folder: Path,
    *,
    note: Callable[[str], None],
    progress: bool | None = None,
    after_epoch: Callable[[], None] = lambda: None,
    start_figures: bool = False,
) -> dict[str, float]:
    """Train, evaluate after each epoch, and load the average of the best epochs into `task.modules`.

    After a kill, the same call on the same folder resumes from the last readable checkpoint. With another number of
    epochs it goes on, too, at the learning rates that a new run of that many epochs has from there. All processes of a
    group make the same call; they take each step together, and the first writes the files.

    Args:
        task: the model and its data.
        options: epochs, optimiser, schedule, checkpoints.
        folder: the run folder, for `log.jsonl`, `tensorboard/` and `checkpoints/`.
        note: called with each sentence for the user.
        progress: show a bar on stderr; None: if stderr is a terminal.
        after_epoch: called after each epoch is in the log.
        start_figures: also evaluate before the first step; the log has these figures as epoch 0.
    Returns:
        The dev figures of the weights in `task.modules`.
    Raises:
        Interrupted: by SIGINT or SIGTERM; a checkpoint is saved.
        Diverged: `options.patience_steps` steps in a row were not finite.
        DataError: no checkpoint can be read, or the log is damaged.
    """
    optimizer = make_optimizer(task.modules, options, rates=task.learning_rates)
    scaler = make_scaler(task.modules, options)
    position = resume(task, optimizer, scaler, folder, note)
    saved_at = time.monotonic()
    with stop_signals() as stop, open_log(folder, position) as log:
        if sentence := other_length(position, options):
            note(sentence)
            log("note", step=position.step, text=sentence)
        position.epochs = options.epochs
        if start_figures and not position.step:
            figures = task.evaluate()
            log("epoch", step=0, epoch=0, **figures)
            note("before training: " + ", ".join(f"dev {name} {value:.4g}" for name, value in figures.items()))
        for epoch in range(position.epoch, options.epochs):
            if stalled(position, options):
                note(f"no epoch after {position.best[0][2]} was better: training ends early")
                break
            task.modules.train()
            num_batches = task.num_batches(epoch)
            start_time = time.perf_counter()
            batches = task.batches(epoch, start=position.batch)
            timer = Timed(batches)
            bar = tqdm(
                timer,
                desc=f"epoch {epoch + 1}/{options.epochs}",
                total=num_batches,
                initial=position.batch,
                unit="batch",
                disable=None if progress is None else not progress,
                leave=False,
            )
            for batch in bar:
                epochs_done = epoch + (position.batch + 1) / num_batches
                rate = learning_rate(options, epochs_done, halvings=position.halvings)
                generator = torch.Generator().manual_seed(1_000_003 * options.seed + position.step)
                torch.manual_seed(seed_of(options.seed, position.step, rank()))  # of dropout
                with naming([f"batch {position.batch + 1} of epoch {epoch + 1}"]):  # a task may name the utterances
                    share = task.loss(batch, generator=generator)
                scale = scaler.get_scale()
                with naming(share.ids):
                    norm = update(
                        task.modules, optimizer, share.loss, rate=rate, clip_norm=options.clip_norm, scaler=scaler
                    )
                result = whole_batch(share)
                position.batch += 1
                position.step += 1
                log("step", step=position.step, **result.figures, rate=rate, gradient_norm=norm)
                bar.set_postfix(loss=f"{result.figures['loss']:.3f}", refresh=False)
                overflowed = 1.0 <= scaler.get_scale() < scale
                report_faults(position, result, norm, options, note, log, overflowed=overflowed)
                stopping, due = agreed(stop(), time.monotonic() - saved_at > 60 * options.checkpoint_minutes)
                if (stopping or due) and position.batch < num_batches:
                    save(task, optimizer, scaler, position, folder)
                    saved_at = time.monotonic()
                if stopping and position.batch < num_batches:
                    batches.close()  # type: ignore[attr-defined]
                    raise Interrupted(f"stopped in epoch {epoch + 1}; the same command resumes from here")
            waiting, seconds = total(timer.seconds, time.perf_counter() - start_time)
            figures = task.evaluate()
            shares = {"seconds": seconds / num_processes(), "waiting": waiting / seconds}
            log("time", step=position.step, epoch=epoch + 1, **shares)
            log("epoch", step=position.step, epoch=epoch + 1, **figures)
            best_before = position.best
            keep_best(task, position, figures, epoch, options, folder)
            position.epoch, position.batch = epoch + 1, 0
            save(task, optimizer, scaler, position, folder)
            if is_first():
                drop_others([*best_before, *position.best], folder)
            saved_at = time.monotonic()
            after_epoch()
            if waiting > max(WAITING_SHARE * seconds, WAITING_SECONDS * num_processes()):
                note(f"{waiting / seconds:.0%} of epoch {epoch + 1} was spent waiting for data{task.waiting_remedy}")
            note(f"epoch {epoch + 1}: " + ", ".join(f"dev {name} {value:.4g}" for name, value in figures.items()))
            (stopping,) = agreed(stop())
            if stopping and position.epoch < options.epochs:
                raise Interrupted(f"stopped after epoch {epoch + 1}; the same command resumes from here")
    return average_best(task, position, folder, note)


def other_length(position: Position, options: LoopOptions) -> str:
    """A sentence on a number of epochs that has changed since the checkpoint; empty if it has not."""
    if position.epochs in (0, options.epochs):
        return ""
    before = replace(options, epochs=position.epochs)
    rates = [learning_rate(loop, position.epoch + 1, halvings=position.halvings) for loop in (options, before)]
    return (
        f"the run has {options.epochs} epochs now, not {position.epochs}: after {position.epoch} of them, it goes on "
        f"at the learning rates of a new run of {options.epochs} epochs (at the end of epoch {position.epoch + 1}: "
        f"{rates[0]:.3g}, not {rates[1]:.3g})"
    )


def report_faults(
    position: Position,
    result: BatchLoss,
    norm: float,
    options: LoopOptions,
    note: Callable[[str], None],
    log: Callable[..., None],
    *,
    overflowed: bool,
) -> None:
    """Note the fault of a step, count it, and raise `Diverged` after too many steps in a row."""

    def say(sentence: str) -> None:
        note(sentence)
        log("note", step=position.step, text=sentence)

    for sentence in result.notes:
        say(sentence)
    if result.skipped:
        say(f"step {position.step}: no alignment, so left out: {', '.join(result.skipped)}")
    position.failures = 0 if math.isfinite(norm) or overflowed else position.failures + 1
    if overflowed:
        position.skipped += 1
        say(
            f"step {position.step}: a gradient overflowed in float16, step skipped; the loss scale is lower from now on"
        )
    if position.failures:
        position.skipped += 1
        say(
            f"step {position.step}: loss or gradient not finite, step skipped; the batch had {', '.join(result.ids)} "
            f"({position.skipped} skipped so far)"
        )
    if position.failures >= options.patience_steps:
        raise Diverged(
            f"{position.failures} steps in a row were not finite: lower the learning rate "
            f"({options.learning_rate:g}), or check the utterances named above"
        )
    position.all_blank = position.all_blank + 1 if result.blank_share > 0.999 else 0
    if position.all_blank == ALL_BLANK_STEPS:
        say(
            f"the model has output only Φ for {ALL_BLANK_STEPS} steps: check that transcripts belong to their "
            "recordings, try a lower learning rate, a longer warm-up or less dropout, or start with short utterances"
        )


class Timed(Generic[Item]):
    """The items of an iterator, and the seconds spent waiting for them."""

    def __init__(self, items: Iterator[Item]):
        self.seconds = 0.0
        self._items = items

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        start = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - start


@contextmanager
def open_log(folder: Path, position: Position) -> Iterator[Callable[..., None]]:
    """Yield the function that writes to the log; in all processes but the first, it does nothing."""
    if not is_first():
        yield lambda *_, **__: None
        return
    with closing(TrainingLog(folder, step=position.step)) as log:
        yield log.write
