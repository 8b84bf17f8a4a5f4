"""Our models against other recognisers on the same recordings: errors, speed on one thread, memory, and start time.

    pip install pocketsphinx vosk faster-whisper
    python tests/benchmarks/recognizers.py data/test.jsonl.gz --limit 60
    python tests/benchmarks/recognizers.py data/test.jsonl.gz --model english --model runs/english/model \\
        --vosk-model vosk-model-small-en-us-0.15 --whisper-model faster-whisper-tiny.en

The manifest is a Lhotse CutSet of English speech. Each recogniser runs in a separate process on one CPU thread and gets
the same 16-bit samples at 16 kHz, one recording at a time; they take turns after each recording.

WER      of normalised texts; the 95 % interval is a bootstrap over the speakers, if they are known
RTF      seconds per second of sound, with the model loaded
GB       peak memory of the process
start    seconds from the start of a process to its text of the shortest recording, files cached: median and range

Our models decode greedily, with their own options but without rescoring ("unrescored"), and with their own options
("default"). pocketsphinx has a model in its wheel; Vosk and Whisper need a folder. Digits that Whisper writes count as
errors if the reference has words.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Rounds, machine, spread

# Do not load torch here: the peak memory of a child process starts at the memory of its parent.
if TYPE_CHECKING:
    from asr.data.manifest import Utterance

SAMPLE_RATE = 16000
DECODINGS = ("greedy", "unrescored", "default")
WORKER = Path(__file__).with_name("peer_recognizers.py")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Contender:
    """A recogniser in a separate process."""

    def __init__(self, command: list[str]):
        environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": str(WORKER.parents[2])}
        self.command = command
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def recognize(self, samples: Path) -> tuple[str, float]:
        """The text, and the seconds of its recognition in the process.

        Raises:
            RuntimeError: the process ended without an answer.
        """
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{samples}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended with status {self.process.wait()}")
        answer = json.loads(line)
        return answer["text"], answer["seconds"]

    def close(self) -> float:
        """End the process; its peak memory in gigabytes."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.stdout.close()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="utterances, .jsonl or .jsonl.gz")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use N utterances, evenly from all speakers (default: all)"
    )
    parser.add_argument(
        "--model", action="append", help="name or folder of our model; repeatable (default: the default model)"
    )
    parser.add_argument(
        "--decodings", nargs="*", choices=DECODINGS, default=[*DECODINGS], help="decodings of our models (default: all)"
    )
    parser.add_argument("--vosk-model", metavar="DIR", help="folder of an unpacked Vosk model")
    parser.add_argument(
        "--whisper-model",
        action="append",
        metavar="DIR",
        help="folder of a Whisper model in CTranslate2's format; repeatable",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the start time (default: 3)")
    args = parser.parse_args()

    print(machine("torch", "numpy"))
    commands, missing = choose(args)
    with tempfile.TemporaryDirectory() as temporary:
        recordings = write_samples(args.manifest, args.limit, Path(temporary))
        seconds = sum(utterance.duration_seconds for utterance in recordings.values())
        speakers = len({utterance.speaker for utterance in recordings.values()} - {None})
        print(f"{args.manifest.name}: {len(recordings)} utterances, {speakers or 'unknown'} speakers, {seconds:.0f} s")
        starts = time_starts(commands, min(recordings, key=lambda path: recordings[path].duration_seconds), args.rounds)
        contenders = {name: Contender(command) for name, command in commands.items()}
        results = take_turns(contenders, list(recordings))
        peaks = {name: contender.close() for name, contender in contenders.items()}
    width = max(map(len, [*commands, *missing]))
    print(f"{'':{width}}{'WER':>8}{'95 % interval':>17}{'RTF':>9}{'GB':>7}   start, s")
    for name, (texts, elapsed) in results.items():
        print(
            f"{name:{width}}{errors(list(recordings.values()), texts)}{elapsed / seconds:>9.4f}{peaks[name]:>7.2f}   "
            f"{spread(starts[name])}"
        )
    for name, reason in missing.items():
        print(f"{name:{width}} not measured: {reason}")


def choose(args: argparse.Namespace) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The arguments of each recogniser that can run, and the reasons why others cannot."""
    commands, missing = {}, {}
    for model in args.model or [""]:
        for decoding in args.decodings:
            commands[f"{model or 'the default model'}, {decoding}"] = ["asr", model, decoding]
    peers = [("pocketsphinx", ""), ("vosk", args.vosk_model)]
    peers += [("faster-whisper", folder) for folder in args.whisper_model or [None]]
    for package, folder in peers:
        try:
            name = f"{package} {version(package)}"
        except PackageNotFoundError:
            missing[package] = "not installed"
            continue
        if folder is None:
            missing[name] = "no model, see --help"
        else:
            commands[f"{name}, {Path(folder).name or 'its own model'}"] = [package, *([folder] if folder else [])]
    return commands, missing


def write_samples(manifest: Path, limit: int | None, folder: Path) -> dict[Path, Utterance]:
    """Write a file with the samples of each utterance; the numbers of utterances per speaker differ by at most one."""
    import numpy as np

    from asr.data.manifest import read_manifest
    from asr.data.waveforms import read_waveform

    utterances = read_manifest(manifest)
    random.Random(0).shuffle(utterances)
    counts: Counter[str | None] = Counter()
    turns = []
    for utterance in utterances:
        turns.append(counts[utterance.speaker])
        counts[utterance.speaker] += 1
    recordings = {}
    for number in sorted(range(len(utterances)), key=turns.__getitem__)[:limit]:
        waveform = read_waveform(utterances[number], SAMPLE_RATE)
        path = folder / f"{number}.raw"
        path.write_bytes(np.clip(np.rint(waveform * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes())
        recordings[path] = utterances[number]
    return recordings


def time_starts(commands: dict[str, list[str]], samples: Path, rounds: int) -> Rounds:
    """Seconds from the start of a process to its first text, in turns; the first round only fills the file cache."""
    starts: Rounds = {name: [] for name in commands}
    for number in range(-1, rounds):
        for name, command in commands.items():
            begin = time.perf_counter()
            contender = Contender(command)
            contender.recognize(samples)
            if number >= 0:
                starts[name].append(time.perf_counter() - begin)
            contender.close()
    return starts


def take_turns(contenders: dict[str, Contender], recordings: list[Path]) -> dict[str, tuple[list[str], float]]:
    """The texts of each recogniser, and the seconds for all of them, after a first recording that is not timed."""
    texts: dict[str, list[str]] = {name: [] for name in contenders}
    seconds = dict.fromkeys(contenders, 0.0)
    for contender in contenders.values():
        contender.recognize(recordings[0])
    for path in recordings:
        for name, contender in contenders.items():
            text, elapsed = contender.recognize(path)
            texts[name].append(text)
            seconds[name] += elapsed
    return {name: (texts[name], seconds[name]) for name in contenders}


def errors(utterances: list[Utterance], texts: list[str]) -> str:
    """Word error rate and interval, for the table."""
    from asr.text.metrics import ErrorCounts, bootstrap_interval, word_errors
    from asr.text.normalization import TextOptions, normalize

    english = TextOptions(language="en")
    pairs = zip(utterances, texts, strict=True)
    counts = [word_errors(normalize(utterance.text, english), normalize(text, english)) for utterance, text in pairs]
    speakers = [utterance.speaker for utterance in utterances]
    speakers_known = None not in speakers and len(set(speakers)) > 1
    low, high = bootstrap_interval(counts, groups=speakers if speakers_known else None)
    rate = sum(counts, start=ErrorCounts()).rate
    return f"{100 * rate:>6.2f} %{f'{100 * low:.2f} to {100 * high:.2f}':>17}"


if __name__ == "__main__":
    main()
