"""The effect of shifted frames on the text: the same recordings with a little silence in front.

    python tests/benchmarks/bench_shift.py data/dev.jsonl.gz --number 200
    python tests/benchmarks/bench_shift.py data/*-dev.jsonl.gz --model an4 --shifts-ms 10 20 30 40

Silence of a few milliseconds shifts the frames, and should not change the text. The recordings are evenly spaced in all
manifests together. Each is decoded greedily and with the model's own options ("default"), in float32. For each shift,
and for all shifts together:

changed     share of the recordings whose text differs from the text without silence
edits       word edits between the two texts, per hundred words
WER         against the reference; for all shifts the lowest and the highest, with the WER without silence
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from timing import machine

import asr
from asr.data.manifest import read_manifest
from asr.data.waveforms import read_waveform
from asr.text.metrics import ErrorCounts, word_errors
from asr.text.normalization import normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST", help=".jsonl or .jsonl.gz, with texts")
    parser.add_argument("--model", help="name or folder (default: the default model)")
    parser.add_argument("--number", type=int, default=200, metavar="N", help="number of recordings (default: 200)")
    parser.add_argument(
        "--shifts-ms",
        type=int,
        nargs="+",
        default=[10, 20, 30],
        metavar="MS",
        help="lengths of the silence (default: 10 20 30)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    everything = list(itertools.chain.from_iterable(map(read_manifest, args.manifests)))
    utterances = [everything[number * len(everything) // args.number] for number in range(args.number)]
    recognizer = asr.load(args.model, device="cpu", precision="float32")
    ways = {"greedy": recognizer.with_decoding({"beam_width": 1}).decoder, "default": recognizer.decoder}
    rate = recognizer.model.sample_rate
    waveforms = [read_waveform(utterance, rate) for utterance in utterances]
    references = [normalize(utterance.text, recognizer.model.config.text) for utterance in utterances]
    minutes = sum(map(len, waveforms)) / rate / 60
    print(f"{machine('torch', 'numpy')}; float32")
    print(f"model {recognizer.model.config.name or args.model}, {len(utterances)} recordings, {minutes:.0f} minutes")
    texts: dict[str, list[list[str]]] = {name: [] for name in ways}  # the texts of each shift, no silence first
    for shift_ms in (0, *args.shifts_ms):
        silence = np.zeros(shift_ms * rate // 1000, dtype=np.float32)
        emissions = [recognizer.log_probs((np.concatenate([silence, waveform]), rate)) for waveform in waveforms]
        for name, decoder in ways.items():
            transcripts = decoder.decode_many(emissions, durations_seconds=[None] * len(emissions))
            texts[name].append([transcript.text for transcript in transcripts])
            report(f"{name:12}{shift_ms:4} ms", texts[name][:1], texts[name][-1:], references)
    for name in ways:
        report(f"{name:12}    all", texts[name][:1], texts[name][1:], references)


def report(name: str, plain: list[list[str]], shifted: list[list[str]], references: list[str]) -> None:
    """Print the row of one shift, or of all shifts together."""
    pairs = [pair for texts in shifted for pair in zip(plain[0], texts, strict=True)]
    changed = sum(one != other for one, other in pairs) / len(pairs)
    edits = sum((word_errors(*pair) for pair in pairs), start=ErrorCounts())
    rates = [sum(map(word_errors, references, texts), start=ErrorCounts()).rate for texts in (*plain, *shifted)]
    errors = f"{rates[-1]:.2%}" if len(shifted) == 1 else f"{min(rates):.2%} to {max(rates):.2%}"
    print(f"{name}  changed {changed:6.1%}  edits {edits.rate:6.2%}  WER {errors}", flush=True)


if __name__ == "__main__":
    main()
