"""On a GPU: CTC in cuDNN against PyTorch's own kernel, the throughput of training, and its time waiting for data.

    python tests/benchmarks/bench_gpu.py
    python tests/benchmarks/bench_gpu.py --manifest train.jsonl.gz --batch-seconds 1200 --workers 0 4 12
    python tests/benchmarks/bench_gpu.py --part ctc
    python tests/benchmarks/bench_gpu.py --part trainer --librispeech 960 --batch-seconds 480

ctc       forward and backward pass of a ragged batch, from log_probs to their gradient, for each kernel: median
          milliseconds, and peak memory beyond the batch. The time of cuDNN includes padding the batch for it.
trainer   hours of audio per hour of `asr.training.loop.fit` (see bench_training.py) for each precision and number of
          worker processes, the throughput as a share of a bare loop over the same layers, and the share of the time
          spent waiting for data. Without a manifest: white noise as 16-bit WAV of 2 to 16 s, and random letters.
transcribe  real-time factor of a recogniser with this encoder on the same recordings, reading files and decoding
            included

--device cpu runs the benchmark without a GPU and without cuDNN, to test it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import bench_training
import numpy as np
import soundfile
import torch
from timing import machine, ratios, spread, take_turns

from asr.acoustic.options import EncoderOptions
from asr.compute.device import find_device
from asr.ctc.loss import ctc_loss
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import InputError
from asr.recognition.recognizer import Recognizer
from asr.training.acoustic_task import AcousticTask
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from asr.training.log import read_log
from asr.training.loop import fit
from recipes.librispeech import run as librispeech

TARGET_SHARE, TARGET_WAITING = 0.85, 0.05
NUM_LABELS = 29
PARTS = ("ctc", "trainer", "transcribe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    parser.add_argument("--device", default="cuda", help="(default: cuda)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[16, 64, 256], help="utterances in a batch (default: 16 64 256)"
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[100, 500, 2000], help="frames of an utterance (default: 100 500 2000)"
    )
    parser.add_argument(
        "--targets", type=int, nargs="+", default=[10, 60, 200], help="labels of a target (default: 10 60 200)"
    )
    parser.add_argument("--manifest", help="utterances to train on (default: noise)")
    parser.add_argument("--hours", type=float, default=20.0, help="hours of noise (default: 20)")
    parser.add_argument("--batch-seconds", type=float, default=600.0, help="seconds of sound in a batch (default: 600)")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32", "float16"], help="(default: all)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 4, 12], help="worker processes (default: 0 4 12)")
    parser.add_argument(
        "--librispeech",
        type=int,
        choices=tuple(librispeech.ENCODERS),
        help="use the encoder of the LibriSpeech recipe for these hours (default: asr-train's)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    args = parser.parse_args()
    try:
        device = find_device(args.device)
    except InputError as error:
        parser.error(f"{error}; to test without a GPU: --device cpu")
    args.encoder = librispeech.ENCODERS[args.librispeech] if args.librispeech else EncoderOptions()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{time.strftime('%Y-%m-%d')}; {name}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    print(machine("torch", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        if "ctc" in args.part:
            bench_ctc(args, device)
        if set(args.part) & {"trainer", "transcribe"} and not args.manifest:
            args.manifest = make_noise(Path(folder), hours=args.hours)
        if "trainer" in args.part:
            bench_trainer(args, device)
        if "transcribe" in args.part:
            bench_transcribe(args, device)


def bench_ctc(args: argparse.Namespace, device: torch.device) -> None:
    print(f"CTC, {NUM_LABELS} labels, lengths from half to all of the frames: ms and MB, median of {args.rounds}")
    print(f"{'B':>4} {'T':>5} {'U':>4} {'native':>16} {'cudnn':>16} {'native / cudnn':>22}")
    generator = torch.Generator().manual_seed(0)
    for size in args.sizes:
        for frames in args.frames:
            for longest in (count for count in args.targets if shortest(frames, count) <= frames):
                kernels = ctc_contenders(size, frames, longest, device, generator)
                megabytes = {name: peak_megabytes(kernel, device) for name, kernel in kernels.items()}
                seconds = take_turns(kernels, rounds=args.rounds, warmup=2)
                cells = [
                    f"{1e3 * statistics.median(seconds[name]):8.2f} {megabytes[name]:7.0f}" if name in seconds else "-"
                    for name in ("native", "cudnn")
                ]
                gain = spread(ratios(seconds, "native", "cudnn")) if "cudnn" in seconds else "-"
                print(f"{size:4} {frames:5} {longest:4} {cells[0]:>16} {cells[1]:>16} {gain:>22}")


def shortest(frames: int, longest: int) -> int:
    """Frames of the shortest utterance: half of the longest, or enough for any target without many repeats."""
    return max(frames // 2, longest + longest // 5)


def ctc_contenders(
    size: int, frames: int, longest: int, device: torch.device, generator: torch.Generator
) -> dict[str, Callable[[], None]]:
    """The kernels of the device, each as a function that runs it on one ragged batch."""
    log_probs = torch.randn(size, frames, NUM_LABELS, generator=generator).log_softmax(-1).to(device)
    input_lengths = torch.randint(shortest(frames, longest), frames + 1, (size,), generator=generator)
    target_lengths = torch.randint(longest // 2, longest + 1, (size,), generator=generator)
    targets = torch.randint(1, NUM_LABELS, (size, longest), generator=generator)

    def run(backend: str) -> None:
        leaf = log_probs.detach().requires_grad_()
        losses = ctc_loss(leaf, targets, input_lengths, target_lengths, blank=0, backend=backend)  # type: ignore[arg-type]
        losses[losses.isfinite()].sum().backward()
        synchronize(device)

    return {backend: partial(run, backend) for backend in ("native", "cudnn")[: 1 + (device.type == "cuda")]}


def peak_megabytes(function: Callable[[], None], device: torch.device) -> float:
    """The peak memory of a function on the device, without the memory in use before; 0 on the CPU."""
    if device.type != "cuda":
        function()
        return 0.0
    function()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def bench_trainer(args: argparse.Namespace, device: torch.device) -> None:
    for precision in args.precisions:
        config = TrainingConfig(
            data=DataOptions(train=(args.manifest,), dev=(args.manifest,), batch_seconds=args.batch_seconds),
            encoder=args.encoder,
            loop=LoopOptions(epochs=1, warmup_epochs=0.0, average_best=1, precision=precision),
        )
        torch.manual_seed(0)
        tasks = {
            f"{workers} workers": bench_training.first_batches(config, device=device, workers=workers)
            for workers in args.workers
        }
        first = next(iter(tasks.values()))
        batches = list(first.batches(0, start=0))
        hours = sum(int(batch.lengths.sum()) for batch in batches) / first.model.sample_rate / 3600
        print(f"trainer, {precision}: {len(batches)} batches, {3600 * hours:.0f} s of audio; {args.rounds} rounds")
        waiting: dict[str, list[float]] = {name: [] for name in tasks}
        contenders: dict[str, Callable[[], None]] = {
            name: partial(train, task, waiting[name]) for name, task in tasks.items()
        }
        contenders["bare"] = partial(waited_for, bench_training.bare_loop(first, batches), device)
        seconds = take_turns(contenders, rounds=args.rounds)
        for name, values in seconds.items():
            line = f"  {name:10} {spread([3600 * hours / value for value in values], digits=0)} hours of audio per hour"
            if name != "bare":
                shares, waits = ratios(seconds, "bare", name), waiting[name][-args.rounds :]
                fast, fed = statistics.median(shares) >= TARGET_SHARE, statistics.median(waits) <= TARGET_WAITING
                line += f"; {spread(shares)} of bare, target {TARGET_SHARE} {'met' if fast else 'MISSED'}"
                line += f"; waiting {spread(waits, unit='%', scale=100, digits=1)}, target {TARGET_WAITING:.0%} "
                line += "met" if fed else "MISSED"
            print(line)


def train(task: AcousticTask, waiting: list[float]) -> None:
    """Train one epoch in a new run folder; append the share of its time spent waiting for data."""
    with tempfile.TemporaryDirectory() as folder:
        fit(task, task.config.loop, Path(folder), note=lambda sentence: None, progress=False)
        waiting += [record["waiting"] for record in read_log(Path(folder)) if record["kind"] == "time"]


def bench_transcribe(args: argparse.Namespace, device: torch.device) -> None:
    config = TrainingConfig(data=DataOptions(train=(args.manifest,), dev=(args.manifest,)), encoder=args.encoder)
    model = bench_training.first_batches(config, device=torch.device("cpu")).model
    recognizer = Recognizer(model, device=str(device))
    sources = [utterance.audio for utterance in read_manifest(args.manifest)]
    progress: list[float] = []

    def run() -> None:
        progress.clear()
        for _ in recognizer.results(sources, progress=progress.append):
            pass

    seconds = take_turns({"all": run}, rounds=args.rounds)["all"]
    factors = [value / sum(progress) for value in seconds]
    print(
        f"transcribe, {recognizer.dtype}, one process: real-time factor {spread(factors, digits=5)}, "
        f"{sum(progress):.0f} s"
    )


def make_noise(folder: Path, *, hours: float) -> str:
    """Write a manifest of white noise with random letters as texts: half an hour of different noise, repeated."""
    rng = np.random.default_rng(0)
    utterances: list[Utterance] = []
    seconds = 0.0
    while seconds < 1800:
        duration = float(rng.uniform(2.0, 16.0))
        path = folder / f"{len(utterances):05d}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(16_000 * duration)), 16_000)
        duration = soundfile.info(path).duration
        text = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz "), int(12 * duration)))
        utterances.append(Utterance(id=path.stem, audio=path, duration_seconds=duration, text=f"a{text}"))
        seconds += duration
    repeats = range(max(round(3600 * hours / seconds), 1))
    repeated = [replace(utterance, id=f"{utterance.id}-{number}") for number in repeats for utterance in utterances]
    write_manifest(repeated, folder / "noise.jsonl")
    return str(folder / "noise.jsonl")


def waited_for(function: Callable[[], None], device: torch.device) -> None:
    function()
    synchronize(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
