"""What a model writes where there is nothing for it to write, beside what it writes of speech that it can follow.

    python tests/benchmarks/bench_confidence.py English=data/dev.jsonl.gz noise=noise/background Mandarin=aishell/opus
    python tests/benchmarks/bench_confidence.py --model runs/english/model --limit-minutes 5 noise=noise/background

A set is a folder of sound files or a Lhotse CutSet. An honest model writes little of noise and of languages that it
does not know, and what it writes has low confidence. For each set:

words/min   words for each minute of sound
with words  share of the recordings with at least one word
confidence  mean over the words
over 0.5    share of the words whose confidence is above 0.5
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
    parser.add_argument("sets", nargs="+", metavar="NAME=PLACE", help="a folder, or a manifest .jsonl or .jsonl.gz")
    parser.add_argument("--model", help="name or folder (default: the default model)")
    parser.add_argument("--greedy", action="store_true", help="decode so, not as the model comes")
    parser.add_argument("--limit-minutes", type=float, metavar="N", help="of each set, at random (default: all of it)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    args = parser.parse_args()
    sets = {}
    for name, _, place in (given.partition("=") for given in args.sets):
        sets[name] = some(find_recordings(Path(place)), args.limit_minutes) if place else []
        if not sets[name]:
            parser.error(f"a set must be NAME=PLACE, a manifest or a folder with sound files; got {name}={place}")

    torch.set_num_threads(args.threads)
    recognizer = asr.load(args.model, device="cpu", decoding={"beam_width": 1} if args.greedy else None)
    print(machine("torch", "numpy"))
    print(f"model {recognizer.model.config.name or args.model}, beam {recognizer.decoder.options.search.beam_width}")
    print(
        f"{'':16}{'recordings':>11}{'minutes':>9}{'words/min':>11}{'with words':>12}{'confidence':>12}{'over 0.5':>10}"
    )
    for name, recordings in sets.items():
        print(f"{name:16}{report(recognizer, recordings)}", flush=True)


def find_recordings(place: Path) -> list[Utterance]:
    """The utterances of a manifest, or a folder's sound files, each as one."""
    if place.is_file():
        return read_manifest(place)
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    return [Utterance(id=str(path), audio=path, duration_seconds=duration_seconds(path), text="") for path in paths]


def some(recordings: list[Utterance], minutes: float | None) -> list[Utterance]:
    """So many minutes of them, drawn alike each time; the last one may go beyond."""
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
    written = []  # for each recording, the confidence of each word
    for result in recognizer.results(recordings):
        if isinstance(result, asr.AsrError):
            raise result
        written.append([word.confidence for word in result.words])
    minutes = sum(recording.duration_seconds for recording in recordings) / 60
    confidences = [confidence for words in written for confidence in words]
    figures = f"{len(recordings):>11}{minutes:>9.1f}{len(confidences) / minutes:>11.1f}"
    figures += f"{100 * statistics.mean(map(bool, written)):>10.1f} %"
    if not confidences:
        return f"{figures}{'-':>12}{'-':>10}"
    sure = statistics.mean(confidence > SURE for confidence in confidences)
    return f"{figures}{statistics.mean(confidences):>12.3f}{100 * sure:>8.1f} %"


if __name__ == "__main__":
    main()
