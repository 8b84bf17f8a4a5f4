"""The words and confidences of a model on speech, on noise, and on languages that it was not trained on.

    python tests/benchmarks/bench_confidence.py English=data/dev.jsonl.gz noise=noise/background Mandarin=aishell/opus
    python tests/benchmarks/bench_confidence.py --model runs/english/model --limit-minutes 5 noise=noise/background

A set is a folder of sound files or a Lhotse CutSet. A good model outputs few words for noise and for unknown languages,
and these words have low confidences. For each set:

words/min   words per minute of sound
with words  share of the recordings with at least one word
confidence  mean over the words
over 0.5    share of the words with a confidence above 0.5
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import torch
from timing import machine

import asr
from asr.audio.source import SOUND_SUFFIXES
from asr.audio.waveform import duration_seconds
from asr.data.manifest import Utterance, read_manifest
from asr.recognition.recognizer import Recognizer

SURE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=PATH", help="a folder, or a manifest .jsonl or .jsonl.gz")
    parser.add_argument("--model", help="name or folder (default: the default model)")
    parser.add_argument("--greedy", action="store_true", help="decode greedily instead of with the model's own options")
    parser.add_argument("--limit-minutes", type=float, metavar="N", help="random minutes of each set (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    args = parser.parse_args()
    sets = {}
    for name, _, path in (argument.partition("=") for argument in args.sets):
        sets[name] = some(find_recordings(Path(path)), args.limit_minutes) if path else []
        if not sets[name]:
            parser.error(f"a set must be NAME=PATH, a manifest or a folder with sound files; got {name}={path}")

    torch.set_num_threads(args.threads)
    recognizer = asr.load(args.model, device="cpu", decoding={"beam_width": 1} if args.greedy else None)
    print(machine("torch", "numpy"))
    print(f"model {recognizer.model.config.name or args.model}, beam {recognizer.decoder.options.search.beam_width}")
    print(
        f"{'':16}{'recordings':>11}{'minutes':>9}{'words/min':>11}{'with words':>12}{'confidence':>12}{'over 0.5':>10}"
    )
    for name, recordings in sets.items():
        print(f"{name:16}{report(recognizer, recordings)}", flush=True)


def find_recordings(source: Path) -> list[Utterance]:
    """The utterances of a manifest; or of a folder, one for each sound file."""
    if source.is_file():
        return read_manifest(source)
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    return [Utterance(id=str(path), audio=path, duration_seconds=duration_seconds(path), text="") for path in paths]


def some(recordings: list[Utterance], minutes: float | None) -> list[Utterance]:
    """Recordings of about so many minutes, the same ones in each run; the last one may exceed the limit."""
    if minutes is None:
        return recordings
    shuffled = random.Random(0).sample(recordings, len(recordings))
    chosen = []
    remaining = 60 * minutes
    while remaining > 0 and shuffled:
        chosen.append(shuffled.pop())
        remaining -= chosen[-1].duration_seconds
    return chosen


def report(recognizer: Recognizer, recordings: list[Utterance]) -> str:
    """The figures of one set, for the table.

    Raises:
        AsrError: a recording cannot be read.
    """
    word_confidences = []  # for each recording, the confidence of each word
    for result in recognizer.results(recordings):
        if isinstance(result, asr.AsrError):
            raise result
        word_confidences.append([word.confidence for word in result.words])
    minutes = sum(recording.duration_seconds for recording in recordings) / 60
    confidences = [confidence for words in word_confidences for confidence in words]
    figures = f"{len(recordings):>11}{minutes:>9.1f}{len(confidences) / minutes:>11.1f}"
    figures += f"{100 * statistics.mean(map(bool, word_confidences)):>10.1f} %"
    if not confidences:
        return f"{figures}{'-':>12}{'-':>10}"
    sure = statistics.mean(confidence > SURE for confidence in confidences)
    return f"{figures}{statistics.mean(confidences):>12.3f}{100 * sure:>8.1f} %"


if __name__ == "__main__":
    main()
