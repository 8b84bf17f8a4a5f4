"""The speed of checking data, and the time and memory until the first training batch of a large corpus.

    python tests/benchmarks/bench_data.py
    python tests/benchmarks/bench_data.py --files 2000 --utterances 300000

doctor    `asr-data check` of ten-second clips in several processes: files per minute, and peak memory of the main
          process with a quarter of the files and with all files (each worker has one file in memory)
scale     a manifest as long as LibriSpeech's: read it, look up its files, leave out unusable utterances, plan an epoch,
          read and augment the first batch: seconds and peak memory

Each measurement runs in a separate process, for a peak memory of its own. The clips are speech-like noise in FLAC.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from timing import machine

RATE = 16_000
CLIP_SECONDS = 10.0
CLIPS = 200  # repeated in the long manifest under different ids
WORDS = ("THE", "OF", "AND", "TO", "IN", "HE", "WAS", "THAT", "IT", "HIS", "HER", "WITH", "AS", "HAD", "SHE", "FOR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="clips for the doctor (default: 1000)")
    parser.add_argument(
        "--utterances", type=int, default=300_000, help="utterances in the long manifest (default: 300000)"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="processes of the doctor (default: one per processor)"
    )
    parser.add_argument("--run", choices=("doctor", "scale"), help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        (run_doctor if args.run == "doctor" else run_scale)(args)
        return
    print(machine("torch", "numpy", "soundfile"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        clips = [write_clip(folder / f"clip-{number}.flac", rng) for number in range(max(args.files, CLIPS))]
        for count in (args.files // 4, args.files):
            manifest = write_cuts(folder / f"{count}.jsonl", clips[:count], count, rng)
            figures = measure("doctor", manifest, args)
            print(
                f"doctor   {count} clips of {CLIP_SECONDS:g} s in {args.processes} processes: "
                f"{60 * count / figures['seconds']:.0f} files per minute, peak {figures['gigabytes']:.2f} GB",
                flush=True,
            )
        manifest = write_cuts(folder / "long.jsonl", clips[:CLIPS], args.utterances, rng)
        figures = measure("scale", manifest, args)
        print(
            f"scale    {args.utterances} utterances: first batch after {figures['seconds']:.1f} s "
            f"(reading {figures['read']:.1f}, planning {figures['plan']:.1f}), peak {figures['gigabytes']:.2f} GB"
        )


def write_clip(path: Path, rng: np.random.Generator) -> Path:
    """Ten seconds of noise in syllables of 200 ms, with pauses."""
    samples = rng.normal(0.0, 0.05, round(CLIP_SECONDS * RATE))
    time_axis = np.arange(len(samples)) / RATE
    soundfile.write(path, samples * (0.55 + 0.45 * np.sin(2 * np.pi * 2.5 * time_axis)), RATE)
    return path


def write_cuts(path: Path, clips: list[Path], count: int, rng: np.random.Generator) -> Path:
    """A Lhotse CutSet of `count` utterances, whose recordings are the clips, repeated in turn."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            name, words = f"utterance-{number:06}", " ".join(rng.choice(WORDS, rng.integers(15, 30)))
            samples = round(CLIP_SECONDS * RATE)
            source = {"type": "file", "channels": [0], "source": str(clips[number % len(clips)])}
            supervision = {"id": name, "recording_id": name, "start": 0.0, "duration": CLIP_SECONDS, "channel": 0}
            cut = {
                "id": name,
                "start": 0.0,
                "duration": CLIP_SECONDS,
                "channel": 0,
                "supervisions": [{**supervision, "text": words, "speaker": f"s{number % 1000}"}],
                "recording": {
                    "id": name,
                    "sources": [source],
                    "sampling_rate": RATE,
                    "num_samples": samples,
                    "duration": CLIP_SECONDS,
                },
                "type": "MonoCut",
            }
            file.write(json.dumps(cut) + "\n")
    return path


def measure(what: str, manifest: Path, args: argparse.Namespace) -> dict[str, float]:
    """The figures of one run in a separate process."""
    command = [sys.executable, __file__, "--run", what, "--manifest", str(manifest)]
    command += ["--processes", str(args.processes)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def finish(start: float, **figures: float) -> None:
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    print(json.dumps({"seconds": time.perf_counter() - start, "gigabytes": peak, **figures}))


def run_doctor(args: argparse.Namespace) -> None:
    """Examine the manifest."""
    from asr.doctor.examination import examine

    start = time.perf_counter()
    examination = examine({str(args.manifest): "train"}, processes=args.processes)
    assert all(finding.level != "broken" for finding in examination.findings), examination.findings[0]
    finish(start)


def run_scale(args: argparse.Namespace) -> None:
    """Prepare a training on the manifest, and its first batch."""
    import torch

    from asr.training.acoustic_task import prepare_acoustic_task
    from asr.training.config import DataOptions, LoopOptions, TrainingConfig

    start = time.perf_counter()
    dev = args.manifest.with_name("dev.jsonl")
    with args.manifest.open() as lines:
        dev.write_text("".join(line for line, _ in zip(lines, range(100), strict=False)))
    config = TrainingConfig(
        data=DataOptions(train=(str(args.manifest),), dev=(str(dev),)), loop=LoopOptions(precision="float32")
    )
    task = prepare_acoustic_task(config, device=torch.device("cpu"), note=lambda _: None)
    read_seconds = time.perf_counter() - start
    num_batches = task.num_batches(0)
    plan_seconds = time.perf_counter() - start - read_seconds
    batch = next(task.batches(0, start=0))
    assert batch.examples and num_batches > 1
    finish(start, read=read_seconds, plan=plan_seconds)


if __name__ == "__main__":
    main()
