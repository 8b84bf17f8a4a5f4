"""Word errors and latency of live recognition against its look-ahead, and its cost.

    python tests/benchmarks/bench_streaming.py data/test-clean.jsonl --limit 60
    python tests/benchmarks/bench_streaming.py data/test-clean.jsonl --look-ahead 1 --step 0.5 1 --window 3 5

Each utterance is a stream of its own, in blocks of 0.1 s, and 2 s of silence follow it. One thread; with several,
processor time counts all of them. For each setting:

left        context, the rest of the window: each look-ahead costs the same
WER         of the final text; `whole` is `transcribe` of the same recordings
stable      mean seconds from the end of a word to the update in which it is stable
final       mean seconds from the end of a word to the update in which it is final
partial     mean seconds, and 95th percentile, from the end of the first word to the first update with any word
changed     words of the final text that the last update before it had otherwise, in %
RTF         processor seconds for a second of sound
streams     1 / RTF: how many speakers one thread keeps up with
longest     processor seconds of the slowest update

Ends of words are those of the final text. Latencies are of the sound, plus the processor time of the update.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from timing import machine

import asr
from asr.compute.threads import set_threads
from asr.data.manifest import Utterance, read_manifest
from asr.data.waveforms import read_waveform
from asr.recognition.recognizer import Recognizer

RATE = 16_000
BLOCK = RATE // 10
SILENCE = 2 * RATE


@dataclass(kw_only=True)
class Measures:
    """What is measured, over all utterances."""

    texts: list[str] = field(default_factory=list)
    stable: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    partial: list[float] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    sound: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="utterances, .jsonl or .jsonl.gz")
    parser.add_argument("--model", help="name or folder (default: the default model)")
    parser.add_argument("--limit", type=int, default=60, help="utterances, spread over the manifest (default: 60)")
    parser.add_argument("--look-ahead", type=float, nargs="+", default=[0.3, 0.6, 1.0, 2.0])
    parser.add_argument("--step", type=float, nargs="+", default=[asr.StreamOptions.step])
    parser.add_argument(
        "--window", type=float, nargs="+", default=[5.0], help="left context and look-ahead, in seconds"
    )
    parser.add_argument("--endpoint-silence", type=float, nargs="+", default=[asr.StreamOptions.endpoint_silence])
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    args = parser.parse_args()
    set_threads(args.threads)
    recognizer = asr.load(args.model)
    utterances = read_manifest(args.manifest)
    utterances = utterances[:: max(1, len(utterances) // args.limit)][: args.limit]
    waveforms = [read_waveform(utterance, RATE) for utterance in utterances]
    print(machine("onnxruntime", "numpy"))
    print(f"{len(utterances)} utterances, {sum(map(len, waveforms)) / RATE:.0f} s, {args.threads} thread(s)")
    print(f"{'look-ahead step left pause':27}{'WER %':>7}{'stable':>8}{'final':>8}{'partial':>14}", end="")
    print(f"{'changed':>9}{'RTF':>7}{'streams':>9}{'longest':>9}")
    start = time.process_time()
    texts = [recognizer.transcribe(waveform, RATE, style="raw").text for waveform in waveforms]
    cost = (time.process_time() - start) / (sum(map(len, waveforms)) / RATE)
    print(f"{'whole':27}{100 * error_rate(utterances, texts, recognizer):7.2f}{'':39}{cost:7.3f}", flush=True)
    for look_ahead, step, window, endpoint_silence in itertools.product(
        args.look_ahead, args.step, args.window, args.endpoint_silence
    ):
        left_context = max(window - look_ahead, 0.0)
        options = asr.StreamOptions(
            look_ahead=look_ahead, step=step, left_context=left_context, endpoint_silence=endpoint_silence
        )
        measures = measure(recognizer, options, waveforms)
        name = f"{look_ahead:<10g} {step:<4g} {left_context:<4g} {endpoint_silence:<5g}"
        print(f"{name:27}{row(measures, error_rate(utterances, measures.texts, recognizer))}", flush=True)


def error_rate(utterances: Sequence[Utterance], texts: Sequence[str], recognizer: Recognizer) -> float:
    """WER of texts, both sides normalised as the model's texts."""
    options = recognizer.model.text
    return asr.wer(
        [asr.normalize(utterance.text, options) for utterance in utterances],
        [asr.normalize(text, options) for text in texts],
    )


def measure(recognizer: Recognizer, options: asr.StreamOptions, waveforms: Sequence[np.ndarray]) -> Measures:
    measures = Measures()
    for waveform in waveforms:
        listen(
            recognizer.stream(options, style="raw"), np.concatenate([waveform, np.zeros(SILENCE, np.float32)]), measures
        )
    return measures


def listen(stream: asr.Stream, waveform: np.ndarray, measures: Measures) -> None:
    """Give a stream one utterance, and add what happens to the measures."""
    first_partial = None
    words: list[asr.Word] = []
    shown: list[float] = []  # when each stable word of the open utterance came
    before, given = "", 0
    for end in [*range(BLOCK, len(waveform), BLOCK), len(waveform), None]:
        begun = time.process_time()
        update = stream.finish() if end is None else stream.accept(waveform[given:end], RATE)
        spent = time.process_time() - begun
        given = given if end is None else end
        now = given / RATE + spent
        measures.updates.append(spent)
        if first_partial is None and (update.text or update.segments):
            first_partial = now
        final = [word for segment in update.segments for word in segment.words]
        for index, word in enumerate(final):
            measures.final.append(now - word.end)
            measures.stable.append((shown[index] if index < len(shown) else now) - word.end)
        if final:
            expected = " ".join(word.text for word in final)
            counts = asr.text.metrics.word_errors(expected, before)
            measures.changed += [counts.substitutions + counts.insertions + counts.deletions, len(final)]
            shown = []
        words += final
        shown += [now] * (len(update.stable.split()) - len(shown))
        before = update.text
    if words and first_partial is not None:
        measures.partial.append(first_partial - words[0].end)
    measures.texts.append(" ".join(word.text for word in words))
    measures.sound += len(waveform) / RATE


def row(measures: Measures, rate: float) -> str:
    partial = f"{statistics.mean(measures.partial):.2f} ({np.percentile(measures.partial, 95):.2f})"
    cost = sum(measures.updates) / measures.sound
    changed = 100 * sum(measures.changed[::2]) / max(1, sum(measures.changed[1::2]))
    return (
        f"{100 * rate:7.2f}{statistics.mean(measures.stable):8.2f}{statistics.mean(measures.final):8.2f}{partial:>14}"
        f"{changed:9.1f}{cost:7.3f}{1 / cost:9.1f}{max(measures.updates):9.2f}"
    )


if __name__ == "__main__":
    main()
