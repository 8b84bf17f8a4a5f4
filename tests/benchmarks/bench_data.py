"""How fast data are examined, and how soon the first batch of a large corpus is there, with the memory that it takes.

    python tests/benchmarks/bench_data.py
    python tests/benchmarks/bench_data.py --files 2000 --utterances 300000

doctor    `asr-data check` of ten-second clips in so many processes: files a minute, and memory with a quarter of the
          files and with all (of the process that leads; a worker holds one file)
scale     a manifest as long as LibriSpeech's: read, files looked up, utterances that cannot be used left out, an epoch
          planned, and its first batch read and augmented: seconds, and peak memory

Each has a process of its own, whose peak memory is its own. The clips are speech-like noise in FLAC.
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
CLIPS = 200  # that the long manifest names over and over, under different ids
WORDS = ("THE", "OF", "AND", "TO", "IN", "HE", "WAS", "THAT", "IT", "HIS", "HER", "WITH", "AS", "HAD", "SHE", "FOR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="clips for the doctor (default: 1000)")
    parser.add_argument("--utterances", type=int, default=300_000, help="in the long manifest (default: 300000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of the doctor (default: processors)")
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
            found = measure("doctor", manifest, args)
            print(
                f"doctor   {count} clips of {CLIP_SECONDS:g} s in {args.processes} processes: "
                f"{60 * count / found['seconds']:.0f} files a minute, peak {found['gigabytes']:.2f} GB",
                flush=True,
            )
        manifest = write_cuts(folder / "long.jsonl", clips[:CLIPS], args.utterances, rng)
        found = measure("scale", manifest, args)
        print(
            f"scale    {args.utterances} utterances: first batch after {found['seconds']:.1f} s "
            f"(read {found['read']:.1f}, planned {found['planned']:.1f}), peak {found['gigabytes']:.2f} GB"
        )


def write_clip(path: Path, rng: np.random.Generator) -> Path:
    """Ten seconds of noise in syllables of 200 ms, with pauses."""
    samples = rng.normal(0.0, 0.05, round(CLIP_SECONDS * RATE))
    time_axis = np.arange(len(samples)) / RATE
    soundfile.write(path, samples * (0.55 + 0.45 * np.sin(2 * np.pi * 2.5 * time_axis)), RATE)
    return path


def write_cuts(path: Path, clips: list[Path], count: int, rng: np.random.Generator) -> Path:
    """A Lhotse CutSet of `count` utterances, whose recordings are the clips, again and again."""
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
    """The figures of one run in a process of its own."""
    command = [sys.executable, __file__, "--run", what, "--manifest", str(manifest)]
    command += ["--processes", str(args.processes)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def finish(start: float, **figures: float) -> None:
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    print(json.dumps({"seconds": time.perf_counter() - start, "gigabytes": peak, **figures}))


def run_doctor(args: argparse.Namespace) -> None:
    """Examines the manifest."""
    from asr.doctor.examination import examine

    start = time.perf_counter()
    examination = examine({str(args.manifest): "train"}, processes=args.processes)
    assert all(finding.level != "broken" for finding in examination.findings), examination.findings[0]
    finish(start)


def run_scale(args: argparse.Namespace) -> None:
    """Makes the task of a training on the manifest, and its first batch."""
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
    read = time.perf_counter() - start
    num_batches = task.num_batches(0)
    planned = time.perf_counter() - start - read
    batch = next(task.batches(0, start=0))
    assert batch.examples and num_batches > 1
    finish(start, read=read, planned=planned)


if __name__ == "__main__":
    main()
