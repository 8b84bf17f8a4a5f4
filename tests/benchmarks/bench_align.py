"""Our forced alignment against torchaudio's, in one run on one thread each, and the alignment of an hour of sound.

    python tests/benchmarks/bench_align.py
    python tests/benchmarks/bench_align.py --data runs/an4/data

one      one utterance at a time: AN4's test set if --data is the folder of its manifests, else random emissions
batch    64 utterances of different lengths in one padded batch; torchaudio takes one utterance at a time
hour     an hour of frames with 50,000 labels, in a separate process: seconds and peak memory

For `one` and `batch`, the number of equal paths is printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio
from timing import machine, ratios, spread, take_turns

import asr
from asr.ctc.alignment import align, align_batch, warm_up
from asr.data.manifest import read_manifest
from asr.text.normalization import normalize

HOUR = """
import resource, sys, time
import numpy as np
from asr.ctc.alignment import align, warm_up
warm_up()
rng = np.random.default_rng(0)
emission = rng.standard_normal((90_000, 28), dtype=np.float32)  # frames of 40 ms
emission -= np.logaddexp.reduce(emission, axis=1, keepdims=True)
labels = rng.integers(1, 28, size=50_000)
start = time.perf_counter()
align(emission, labels, blank=0)
unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with test.jsonl.gz")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine("torch", "torchaudio", "numba"))
    warm_up()

    utterances = spoken(args.data) if args.data else made_up(np.random.default_rng(0), 130)
    report("one", utterances, one_by_one, rounds=args.rounds)
    report("batch", made_up(np.random.default_rng(1), 64), as_batch, rounds=args.rounds)

    process = subprocess.run([sys.executable, "-c", HOUR], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, process.stdout.split())
    print(f"hour   {seconds:.1f} s, peak {gigabytes:.2f} GB")


Utterance = tuple[np.ndarray, np.ndarray]  # (T, V) log-probabilities, (U,) labels


def spoken(data: Path) -> list[Utterance]:
    """The emissions of the test set by the embedded model, and the labels of its references."""
    recognizer = asr.load("an4", device="cpu", precision="float32")
    model = recognizer.model
    return [
        (
            recognizer.log_probs(item.audio),
            np.array(model.alphabet.encode(normalize(item.text, model.config.text)), dtype=np.int64),
        )
        for item in read_manifest(data / "test.jsonl.gz")
    ]


def made_up(rng: np.random.Generator, count: int) -> list[Utterance]:
    """Random emissions of 2 to 20 seconds, with as many labels as speech has."""
    utterances = []
    for num_frames in rng.integers(50, 500, size=count):
        emission = 3 * rng.standard_normal((num_frames, 28), dtype=np.float32)
        emission -= np.logaddexp.reduce(emission, axis=1, keepdims=True)
        utterances.append((emission, rng.integers(1, 28, size=num_frames // 3)))
    return utterances


def one_by_one(utterances: list[Utterance]) -> list[np.ndarray]:
    return [align(emission, labels, blank=0).path for emission, labels in utterances]


def as_batch(utterances: list[Utterance]) -> list[np.ndarray]:
    frames, lengths = ([len(part) for part in parts] for parts in zip(*utterances, strict=True))
    emissions = np.zeros((len(utterances), max(frames), 28), dtype=np.float32)
    targets = np.zeros((len(utterances), max(lengths)), dtype=np.int64)
    for row, (emission, labels) in enumerate(utterances):
        emissions[row, : len(emission)], targets[row, : len(labels)] = emission, labels
    return [alignment.path for alignment in align_batch(emissions, targets, frames, lengths, blank=0, num_threads=1)]


def theirs(utterances: list[Utterance]) -> list[np.ndarray]:
    paths = []
    for emission, labels in utterances:
        path, _ = torchaudio.functional.forced_align(
            torch.from_numpy(emission)[None], torch.from_numpy(labels)[None], blank=0
        )
        paths.append(path[0].numpy())
    return paths


def report(
    name: str, utterances: list[Utterance], ours: Callable[[list[Utterance]], list[np.ndarray]], *, rounds: int
) -> None:
    """Print the number of equal paths, and the times."""
    same = sum(np.array_equal(*pair) for pair in zip(ours(utterances), theirs(utterances), strict=True))
    seconds = take_turns({"asr": lambda: ours(utterances), "torchaudio": lambda: theirs(utterances)}, rounds=rounds)
    print(
        f"{name:6} {len(utterances)} utterances, {same} paths equal: "
        f"asr {spread(seconds['asr'], scale=1000, unit='ms')}, "
        f"torchaudio {spread(seconds['torchaudio'], scale=1000, unit='ms')}, "
        f"{spread(ratios(seconds, 'torchaudio', 'asr'), digits=1)} times ours",
        flush=True,
    )


if __name__ == "__main__":
    main()
