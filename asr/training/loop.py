"""The epoch loop, once for every kind of model: read `fit` from top to bottom."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn
from tqdm import tqdm

from asr.errors import AsrError, DataError
from asr.files.writing import write_whole
from asr.training.checkpoint import latest_checkpoint, save_checkpoint
from asr.training.config import LoopOptions
from asr.training.distributed import (
    MEETING,
    agreed,
    from_first,
    gather,
    is_first,
    num_processes,
    rank,
    sum_gradients,
    total,
)
from asr.training.log import TrainingLog

CHECKPOINTS = "checkpoints"
WAITING_SHARE, WAITING_SECONDS = 0.05, 10.0  # of an epoch's time, and a process's: beyond both, someone should know
ALL_BLANK_STEPS = 300  # a model may say nothing for the first few hundred steps, and still learn

Item = TypeVar("Item")
Scaler: TypeAlias = torch.amp.GradScaler
NO_SCALING = torch.amp.GradScaler("cpu", enabled=False)


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """What a task says of one batch, or of this process's rows of it: then the numbers of all processes add up.

    Args:
        loss: scalar to minimise, with its graph.
        figures: numbers for the log, "loss" among them.
        skipped: ids of utterances that could not take part.
        ids: ids of all utterances, to name them when the loss is not finite.
        blank_share: share of frames whose best label is Φ; 0 where there is no such thing.
        notes: sentences for the log, of things that a person should know.
    """

    loss: Tensor
    figures: Mapping[str, float]
    skipped: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    blank_share: float = 0.0
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """What the loop needs of whatever is trained."""

    modules: nn.ModuleDict
    criterion: str  # the dev figure that decides which epochs are best; the lower, the better
    data_digest: str  # another one for other training data
    waiting_remedy: str  # the end of a sentence that says how long the trainer waits for data

    def num_batches(self, epoch: int) -> int: ...
    def batches(self, epoch: int, *, start: int) -> Iterator[Any]: ...
    def loss(self, batch: Any, *, generator: torch.Generator) -> BatchLoss: ...
    def evaluate(self) -> dict[str, float]: ...


class Interrupted(AsrError):
    """The run was asked to stop, and saved a checkpoint first."""


class Diverged(AsrError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class OutOfMemory(AsrError):
    """A GPU does not hold a batch."""


@contextmanager
def naming(ids: Sequence[str]) -> Iterator[None]:
    """Inside, memory of a GPU that runs out is told in one sentence, with what was being computed.

    Raises:
        OutOfMemory: it did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"the GPU's memory must hold a batch, but does not hold this one of {len(ids)}: {', '.join(ids)}; "
            "lower data.batch_seconds (of text, data.batch_size), or give each process a GPU of its own"
        ) from error


class Timed(Generic[Item]):
    """The items of an iterator, and the seconds that were waited for them."""

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


@dataclass(kw_only=True)
class Position:
    """Where a run is: everything of its state that is a plain number or name."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    failures: int = 0  # steps skipped in a row
    skipped: int = 0  # steps skipped in all
    all_blank: int = 0  # steps in a row in which the model said only Φ
    halvings: int = 0  # epochs that were not the best so far
    best: list[tuple[float, float, int]] = field(default_factory=list)  # (criterion, loss, epoch), best first


def fit(
    task: Task,
    options: LoopOptions,
    folder: Path,
    *,
    note: Callable[[str], None],
    progress: bool | None = None,
    after_epoch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train, evaluate each epoch, and leave the average of the best epochs in `task.modules`.

    The same call on the same folder goes on after any kill, from the last checkpoint that can be read. All processes of
    a group make the same call; each step is one of all of them together, and the first writes.

    Args:
        task: what to train.
        options: how.
        folder: the run folder; `log.jsonl`, `tensorboard/` and `checkpoints/` are made in it.
        note: called with one sentence for each thing a person should know.
        progress: a bar on stderr; None: when stderr is a terminal.
        after_epoch: called when the log has another epoch.
    Returns:
        The dev figures of the weights left in `task.modules`.
    Raises:
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
        Diverged: `options.patience_steps` steps in a row were not finite.
        DataError: there are checkpoints, but none can be read; or the log is damaged.
    """
    optimizer = make_optimizer(task.modules, options)
    scaler = make_scaler(task.modules, options)
    position = resume(task, optimizer, scaler, folder, note)
    saved_at = time.monotonic()
    with stop_signals() as stop, closing(open_log(folder, position)) as log:
        for epoch in range(position.epoch, options.epochs):
            if stalled(position, options):
                note(f"no epoch after {position.best[0][2]} was better: training ends early")
                break
            task.modules.train()
            num_batches = task.num_batches(epoch)
            began = time.perf_counter()
            batches = task.batches(epoch, start=position.batch)
            timed = Timed(batches)
            bar = tqdm(
                timed,
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
                with naming([f"batch {position.batch + 1} of epoch {epoch + 1}"]):  # tasks may know more of it
                    share = task.loss(batch, generator=generator)
                scale = scaler.get_scale()
                with naming(share.ids):
                    norm = update(
                        task.modules, optimizer, share.loss, rate=rate, clip_norm=options.clip_norm, scaler=scaler
                    )
                result = together(share)
                position.batch += 1
                position.step += 1
                log.write("step", step=position.step, **result.figures, rate=rate, gradient_norm=norm)
                bar.set_postfix(loss=f"{result.figures['loss']:.3f}", refresh=False)
                watch(position, result, norm, options, note, log, overflowed=1.0 <= scaler.get_scale() < scale)
                stopping, due = agreed(stop(), time.monotonic() - saved_at > 60 * options.checkpoint_minutes)
                if (stopping or due) and position.batch < num_batches:
                    save(task, optimizer, scaler, position, folder)
                    saved_at = time.monotonic()
                if stopping and position.batch < num_batches:
                    batches.close()  # type: ignore[attr-defined]
                    raise Interrupted(f"stopped in epoch {epoch + 1}; the same command goes on from here")
            waited, spent = total(timed.seconds, time.perf_counter() - began)
            figures = task.evaluate()
            log.write(
                "time", step=position.step, epoch=epoch + 1, seconds=spent / num_processes(), waiting=waited / spent
            )
            log.write("epoch", step=position.step, epoch=epoch + 1, **figures)
            best_before = position.best
            keep_best(task, position, figures, epoch, options, folder)
            position.epoch, position.batch = epoch + 1, 0
            save(task, optimizer, scaler, position, folder)
            if is_first():
                drop_others([*best_before, *position.best], folder)
            saved_at = time.monotonic()
            after_epoch()
            if waited > max(WAITING_SHARE * spent, WAITING_SECONDS * num_processes()):
                note(f"{waited / spent:.0%} of epoch {epoch + 1} went into waiting for data{task.waiting_remedy}")
            note(f"epoch {epoch + 1}: " + ", ".join(f"dev {name} {value:.4g}" for name, value in figures.items()))
            (stopping,) = agreed(stop())
            if stopping and position.epoch < options.epochs:
                raise Interrupted(f"stopped after epoch {epoch + 1}; the same command goes on from here")
    return average_best(task, position, folder, note)


class NoLog:
    """The log of the processes that write none."""

    def write(self, kind: str, *, step: int, **figures: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def open_log(folder: Path, position: Position) -> TrainingLog | NoLog:
    """The log, to go on with from `position`; only the first process has one."""
    return TrainingLog(folder, step=position.step) if is_first() else NoLog()


def seed_of(*numbers: int) -> int:
    """A seed, another one for each sequence of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def together(share: BatchLoss) -> BatchLoss:
    """What all processes' rows of a batch give, for each of them; the loss stays this process's own."""
    parts = gather((dict(share.figures), share.skipped, share.ids, share.blank_share, share.notes))
    figures, skipped, ids, blank_shares, notes = zip(*parts, strict=True)
    return BatchLoss(
        loss=share.loss,
        figures={name: sum(part[name] for part in figures) for name in share.figures},
        skipped=tuple(chain.from_iterable(skipped)),
        ids=tuple(chain.from_iterable(ids)),
        blank_share=sum(blank_shares),
        notes=tuple(dict.fromkeys(chain.from_iterable(notes))),
    )


def make_scaler(modules: nn.Module, options: LoopOptions) -> Scaler:
    """What scales losses where float16 is: also in bfloat16 on a GPU, where cuDNN's recurrent layers run in float16.

    Source: aten/src/ATen/cudnn/AutocastRNN.cpp of PyTorch, which casts to float16 whatever autocast is told.
    """
    on_gpu = any(parameter.is_cuda for parameter in modules.parameters())
    return torch.amp.GradScaler(
        "cuda", enabled=options.precision == "float16" or (options.precision == "bfloat16" and on_gpu)
    )


def make_optimizer(modules: nn.Module, options: LoopOptions) -> torch.optim.Optimizer:
    """One that decays matrices only: no biases and norms, nor what is 3 wide (convolution kernels, peepholes)."""
    matrices = [parameter for parameter in modules.parameters() if parameter.ndim >= 2 and min(parameter.shape) > 3]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in modules.parameters() if id(parameter) not in chosen]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate(options: LoopOptions, epochs_done: float, *, halvings: int) -> float:
    """The rate after `epochs_done` epochs: linear warm-up, then the schedule, down to its final share."""
    if epochs_done < options.warmup_epochs:
        return options.learning_rate * epochs_done / options.warmup_epochs
    if options.schedule == "plateau":
        return options.learning_rate * max(0.5**halvings, options.final_learning_rate)
    rest = max(options.epochs - options.warmup_epochs, 1e-9)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min((epochs_done - options.warmup_epochs) / rest, 1.0)))
    return options.learning_rate * (options.final_learning_rate + (1.0 - options.final_learning_rate) * cosine)


def update(
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    *,
    rate: float,
    clip_norm: float,
    scaler: Scaler = NO_SCALING,
) -> float:
    """One optimiser step with the gradient scaled down to `clip_norm`; gives the norm that it had before.

    Losses and gradients of all processes are added up. Nothing is changed when the loss or the gradient is not finite:
    the norm that comes back is then not finite either. For float16, whose small numbers end at 6e-8, the scaler makes
    the loss larger on the way back, and the gradients smaller afterwards; it tries less where they overflow.
    """
    optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(*total(loss.item())):
        return math.nan
    scaler.scale(loss).backward()
    sum_gradients(modules.parameters())
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(modules.parameters(), clip_norm).item()
    if math.isfinite(norm) and norm > 0:  # 0: every utterance was impossible, and momentum alone must not go on
        for group in optimizer.param_groups:
            group["lr"] = rate
        scaler.step(optimizer)
    scaler.update()
    return norm


def watch(
    position: Position,
    result: BatchLoss,
    norm: float,
    options: LoopOptions,
    note: Callable[[str], None],
    log: TrainingLog | NoLog,
    *,
    overflowed: bool,
) -> None:
    """Names and counts what goes wrong; raises when it goes wrong too often."""

    def say(sentence: str) -> None:
        note(sentence)
        log.write("note", step=position.step, text=sentence)

    for sentence in result.notes:
        say(sentence)
    if result.skipped:
        say(f"step {position.step}: no alignment, so not trained on: {', '.join(result.skipped)}")
    position.failures = 0 if math.isfinite(norm) or overflowed else position.failures + 1
    if overflowed:
        position.skipped += 1
        say(
            f"step {position.step}: a gradient overflowed in float16, step skipped; the loss is scaled less from now on"
        )
    if position.failures:
        position.skipped += 1
        say(
            f"step {position.step}: loss or gradient not finite, step skipped; the batch held {', '.join(result.ids)} "
            f"({position.skipped} skipped so far)"
        )
    if position.failures >= options.patience_steps:
        raise Diverged(
            f"{position.failures} steps in a row were not finite: lower the learning rate "
            f"({options.learning_rate:g}), or look at the utterances named above"
        )
    position.all_blank = position.all_blank + 1 if result.blank_share > 0.999 else 0
    if position.all_blank == ALL_BLANK_STEPS:
        say(
            f"the model has said nothing but Φ for {ALL_BLANK_STEPS} steps: check that transcripts belong to their "
            "recordings, try a lower learning rate, a longer warm-up or less dropout, or start with short utterances"
        )


def keep_best(
    task: Task, position: Position, figures: Mapping[str, float], epoch: int, options: LoopOptions, folder: Path
) -> None:
    """Keeps the weights of the best `options.average_best` epochs; ties of the criterion go to the lower loss."""
    entry = (figures[task.criterion], figures["loss"], epoch + 1)
    position.best = sorted([*position.best, entry])[: options.average_best]
    position.halvings += position.best[0] != entry
    if entry in position.best and is_first():
        state = {name: tensor.contiguous() for name, tensor in task.modules.state_dict().items()}
        write_whole(_weights_path(folder, epoch + 1), serialize(state))


def stalled(position: Position, options: LoopOptions) -> bool:
    """Whether the best epoch is so long ago that training should end."""
    return 0 < options.early_stop_epochs <= position.epoch - (position.best[0][2] if position.best else position.epoch)


def drop_others(best: Sequence[tuple[float, float, int]], folder: Path) -> None:
    """Deletes the weights of other epochs than `best`: those of the last checkpoint, and of its spare."""
    kept = {_weights_path(folder, epoch) for _, _, epoch in best}
    for path in (folder / CHECKPOINTS).glob("epoch-*.safetensors"):
        if path not in kept:
            path.unlink()


def average_best(task: Task, position: Position, folder: Path, note: Callable[[str], None]) -> dict[str, float]:
    """Leaves in `task.modules` the average of the best epochs, or the best epoch where that is better on dev.

    Raises:
        DataError: the weights of none of them can be read.
    """
    by_epoch, faults = from_first(lambda: _read_weights(folder, [epoch for _, _, epoch in position.best]))
    for fault in faults:
        note(f"{fault}; the average is without it")
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
    """The weights after each epoch whose file can be read, and what is wrong with the others."""
    states: dict[int, dict[str, Tensor]] = {}
    faults: list[str] = []
    for epoch in epochs:
        path = _weights_path(folder, epoch)
        try:
            states[epoch] = load_file(path)
        except (SafetensorError, OSError) as error:
            faults.append(f"{path}: the weights are damaged or missing: {error}")
    return states, faults


def save(task: Task, optimizer: torch.optim.Optimizer, scaler: Scaler, position: Position, folder: Path) -> None:
    """Write a checkpoint of everything that the next step depends on; what is random depends on the step alone."""
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
    """The position of the last readable checkpoint, everything of its state put back; or the start.

    Raises:
        DataError: none can be read; or the data are no longer those that the run began with.
    """
    state, faults = from_first(lambda: latest_checkpoint(folder / CHECKPOINTS))
    for fault in faults:
        note(f"{fault}; the checkpoint before it is used")
    if state is None:
        return Position()
    if state.get("data", task.data_digest) != task.data_digest:  # older ones do not say
        raise DataError("the training data have changed since the run began; choose another run folder", path=folder)
    task.modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    if scaler.is_enabled() and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    position = Position(**state["position"])
    position.best = [(criterion, loss, epoch) for criterion, loss, epoch in position.best]
    note(f"resuming after step {position.step}, in epoch {position.epoch + 1}")
    return position


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM only set what the function given tells; a second SIGINT interrupts at once.

    A process that `asr.training.launch` started leaves SIGINT to the one that did, which hands it on as SIGTERM. In
    another thread than the main one, where Python takes no signals, nothing is set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    listened = (signal.SIGTERM,) if MEETING in os.environ else (signal.SIGINT, signal.SIGTERM)
    received: list[int] = []

    def remember(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in listened}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _weights_path(folder: Path, epoch: int) -> Path:
    return folder / CHECKPOINTS / f"epoch-{epoch:04d}.safetensors"
