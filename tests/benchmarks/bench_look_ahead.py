"""Word errors of the frames that a stream fixes, against look-ahead, for several models: what chunks in training give.

    python tests/benchmarks/bench_look_ahead.py data/test.jsonl.gz an4 runs/whole runs/chunked
    python tests/benchmarks/bench_look_ahead.py data/test.jsonl.gz english --look-ahead 0.3 1 --step 1

Each frame is decoded greedily from the window that fixes it, as in `recognizer.stream()`, but without a search and
without the second pass over a whole segment, so look-ahead decides alone. WER with 95 % bootstrap intervals, over
speakers where they are known; and the difference from the first model, with the p-value of a paired test. `whole` is
the whole utterance at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from timing import machine

import asr
from asr.compute.threads import set_threads
from asr.data.manifest import Utterance, read_manifest
from asr.data.waveforms import read_waveform
from asr.decoding.decoder import decode
from asr.recognition.recognizer import Recognizer
from asr.text.metrics import ErrorCounts, bootstrap_interval, paired_test, word_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="utterances, .jsonl or .jsonl.gz")
    parser.add_argument("model", nargs="+", help="names, model folders or run folders")
    parser.add_argument("--look-ahead", type=float, nargs="+", default=[0.1, 0.3, 0.6, 1.0])
    parser.add_argument("--step", type=float, default=asr.StreamOptions.step)
    parser.add_argument("--left-context", type=float, default=asr.StreamOptions.left_context)
    parser.add_argument("--limit", type=int, help="utterances, spread over the manifest (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    args = parser.parse_args()
    set_threads(args.threads)
    utterances = read_manifest(args.manifest)
    if args.limit:
        utterances = utterances[:: max(1, len(utterances) // args.limit)][: args.limit]
    speakers = [utterance.speaker for utterance in utterances]
    groups = speakers if None not in speakers and len(set(speakers)) > 1 else None
    print(machine("onnxruntime", "numpy"))
    print(f"{len(utterances)} utterances, {len(set(speakers))} speakers; step {args.step:g} s", end="")
    print(f", left context {args.left_context:g} s, {args.threads} thread(s)")
    recognizers = [asr.load(name, decoding=asr.DecodingOptions()) for name in args.model]
    for look_ahead in [*args.look_ahead, None]:
        first: list[ErrorCounts] = []
        for name, recognizer in zip(args.model, recognizers, strict=True):
            counts = errors(recognizer, utterances, look_ahead, step=args.step, left_context=args.left_context)
            first = first or counts
            print(f"{'whole' if look_ahead is None else f'{look_ahead:g} s':8}{name:40}", end="")
            print(row(counts, first, groups), flush=True)


def errors(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    look_ahead: float | None,
    *,
    step: float,
    left_context: float,
) -> list[ErrorCounts]:
    """The word errors of each utterance; look_ahead None: of whole utterances."""
    model = recognizer.model
    waveforms = [read_waveform(utterance, model.sample_rate) for utterance in utterances]
    if look_ahead is None:
        emissions = recognizer.all_log_probs(waveforms)
    else:
        sizes = [round(seconds / model.frame_seconds) for seconds in (step, left_context, look_ahead)]
        emissions = fixed_frames(recognizer, waveforms, *sizes)
    texts = [decode(emission, model.alphabet).text for emission in emissions]
    return [
        word_errors(asr.normalize(utterance.text, model.text), text)
        for utterance, text in zip(utterances, texts, strict=True)
    ]


def fixed_frames(
    recognizer: Recognizer, waveforms: Sequence[np.ndarray], step: int, left_context: int, look_ahead: int
) -> list[np.ndarray]:
    """(T, V) of each waveform, each frame from the first window with look-ahead after it; sizes in frames."""
    per_frame = recognizer.model.samples_per_frame
    windows, places = [], []  # samples; and the utterance and the frames of the window that become fixed
    for number, waveform in enumerate(waveforms):
        num_frames, fixed = recognizer.model.output_length(len(waveform)), 0
        for now in [*range(step, num_frames, step), num_frames]:
            upto = num_frames if now == num_frames else now - look_ahead
            if upto > fixed:
                first = max(fixed - left_context, 0)
                windows.append(waveform[first * per_frame : None if now == num_frames else now * per_frame])
                places.append((number, fixed - first, upto - first))
                fixed = upto
    parts: list[list[np.ndarray]] = [[] for _ in waveforms]
    for (number, start, end), emission in zip(places, recognizer.all_log_probs(windows), strict=True):
        parts[number].append(emission[start:end])
    return [np.concatenate(part) for part in parts]


def row(counts: Sequence[ErrorCounts], first: Sequence[ErrorCounts], groups: Sequence[Hashable] | None) -> str:
    total = sum(counts, ErrorCounts())
    low, high = bootstrap_interval(counts, groups=groups)
    test = paired_test(counts, first, groups=groups)
    wrong = total.substitutions + total.insertions + total.deletions
    return (
        f"{100 * total.rate:6.2f} % ({100 * low:.2f} to {100 * high:.2f}){wrong:5} of {total.reference_length}"
        f"{100 * test.difference:+8.2f} ({100 * test.low:+.2f} to {100 * test.high:+.2f}), p {test.p_value:.3f}"
    )


if __name__ == "__main__":
    main()
