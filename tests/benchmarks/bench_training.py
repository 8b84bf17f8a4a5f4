"""Training throughput of the trainer on a manifest, and its share of a bare loop over the same encoder.

    python tests/benchmarks/bench_training.py --manifest train.jsonl.gz
    python tests/benchmarks/bench_training.py --manifest train.jsonl.gz --batches 10 --threads 2 --precision float32

trainer   one epoch of `asr.training.loop.fit` with an AcousticTask: sound files, augmentation, features, log,
          TensorBoard and checkpoint, without the evaluation on dev and the averages at the end
bare      the same encoder and optimiser on random features of the same shapes, in the same order, with torch's CTC
          loss: the minimum cost of the matrix products
batches   reading and augmenting only; the trainer does this in a thread
features  frontend and masks only
checkpoint  writing one checkpoint only

Hours of audio are measured at the input of the model: after the change of speed, without padding.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from timing import machine, ratios, spread, take_turns
from torch import nn

from asr.compute.device import autocast, find_device
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.augmentation import draw_masks, hide
from asr.training.batches import Batch
from asr.training.checkpoint import Position, save
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from asr.training.loop import fit
from asr.training.optimizer import NO_SCALING, make_optimizer

TARGET_SHARE = 0.85


def first_batches(
    config: TrainingConfig, *, device: torch.device, limit: int = sys.maxsize, workers: int = 0
) -> AcousticTask:
    """The training task with at most `limit` batches in an epoch, and no evaluation."""
    task = prepare_acoustic_task(config, device=device, note=print, workers=workers)
    plan = task.plan
    task.plan = lambda epoch: [window[:limit] for window in plan(epoch)]  # type: ignore[method-assign]
    task.evaluate = lambda: {"wer": 1.0, "loss": 1.0}  # type: ignore[method-assign]
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, help="utterances to train on (a Lhotse CutSet)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="(default: auto)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    parser.add_argument(
        "--batches", type=int, default=sys.maxsize, metavar="N", help="batches of an epoch (default: all)"
    )
    parser.add_argument("--batch-seconds", type=float, default=60.0, help="seconds of sound in a batch (default: 60)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = TrainingConfig(
        data=DataOptions(train=(args.manifest,), dev=(args.manifest,), batch_seconds=args.batch_seconds),
        loop=LoopOptions(epochs=1, warmup_epochs=0.0, average_best=1, precision=args.precision),
    )
    task = first_batches(config, device=find_device(args.device), limit=args.batches)
    batches = list(task.batches(0, start=0))
    hours = sum(int(batch.lengths.sum()) for batch in batches) / task.model.sample_rate / 3600

    print(machine("torch", "numpy"))
    print(
        f"{len(batches)} batches of {args.batch_seconds:g} s with padding, {3600 * hours:.0f} s of audio, "
        f"{args.threads} threads, {task.objective.precision}, {task.objective.device}; median (range) of {args.rounds}"
    )
    seconds = take_turns(
        {
            "trainer": lambda: train(task),
            "bare": bare_loop(task, batches),
            "batches": lambda: list(task.batches(0, start=0)),
            "features": lambda: make_features(task, batches),
            "checkpoint": lambda: checkpoint(task),
        },
        rounds=args.rounds,
    )
    for name in ("trainer", "bare"):
        print(
            f"{name:10} {spread([hours / (value / 3600) for value in seconds[name]], digits=1)} hours of audio per hour"
        )
    for name in ("batches", "features", "checkpoint"):
        print(
            f"{name:10} {spread(ratios(seconds, name, 'trainer'), unit='%', scale=100, digits=1)} of the trainer's time"
        )
    shares = ratios(seconds, "bare", "trainer")
    met = "met" if statistics.median(shares) >= TARGET_SHARE else "MISSED"
    print(f"trainer's share of the bare loop's throughput: {spread(shares)}; target {TARGET_SHARE} {met}")


def train(task: AcousticTask) -> None:
    """Train one epoch in a new run folder."""
    with tempfile.TemporaryDirectory() as folder:
        fit(task, task.config.loop, Path(folder), note=lambda sentence: None, progress=False)


def bare_loop(task: AcousticTask, batches: list[Batch]) -> Callable[[], None]:
    """A function that trains one epoch on random features with the lengths and targets of the batches."""
    frontend = task.config.frontend
    encoder = task.model.encoder
    criterion = nn.CTCLoss(reduction="sum", zero_infinity=True)
    shapes = []
    for batch in batches:
        lengths = frontend.num_frames(batch.lengths)
        shapes.append((len(lengths), int(lengths.max()), lengths, *batch.targets()))
    longest = max(size * frames for size, frames, *_ in shapes)
    noise = torch.randn(longest * frontend.num_features, device=task.objective.device)

    def run() -> None:
        optimizer = make_optimizer(task.modules, task.config.loop)
        task.modules.train()
        for size, frames, lengths, targets, target_lengths in shapes:
            features = noise[: size * frames * frontend.num_features].view(size, frames, -1)
            with autocast(task.objective.precision, task.objective.device):
                log_probs, output_lengths = encoder(features, lengths.to(task.objective.device))
            loss = criterion(
                log_probs.transpose(0, 1), targets.to(task.objective.device), output_lengths, target_lengths
            )
            optimizer.zero_grad()
            (loss / target_lengths.sum()).backward()
            nn.utils.clip_grad_norm_(task.modules.parameters(), task.config.loop.clip_norm).item()
            optimizer.step()

    return run


@torch.no_grad()
def make_features(task: AcousticTask, batches: list[Batch]) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        features, lengths = task.model.frontend(batch.inputs.to(task.objective.device), batch.lengths)
        hide(features, *draw_masks(features, lengths, task.config.augment, generator))


def checkpoint(task: AcousticTask) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(task, make_optimizer(task.modules, task.config.loop), NO_SCALING, Position(), Path(folder))


if __name__ == "__main__":
    main()
