"""Marks and capitals of the readable style on written texts and on speech, beside rules and the package truecase.

    python tests/benchmarks/bench_readable.py novels=novels_test.txt everyday=everyday_test.txt --speech test.jsonl
    python tests/benchmarks/bench_readable.py --speech test.jsonl --start

A text has a paragraph a line, with its marks and capitals, which are taken away and written again; the recipe writes
those that its training leaves out. A line of --speech is {"audio": path, "text": as it is written}. Texts have no
pauses. In speech, errors of the recogniser count too: a mark must follow the same word. The rules put a period at the
end of a paragraph, and in speech at each pause of half a second; and capitals after periods and in I.

, . ? !  F1 of each mark
all      F1 of all marks together
case     words that are written like the reference, of those that were recognised
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from timing import machine

from asr.lm.corpus import read_lines
from asr.readable.marked_text import COMMA, MARKS, PERIOD, MarkedWord, marked_words
from asr.readable.punctuator import english_punctuator
from asr.text.metrics import align_tokens
from asr.text.transcript import Word

PASSAGE, CONTEXT, AHEAD = 256, 32, 8  # words of a text at once, and around it
PAUSE = 0.5

Pair = tuple[MarkedWord | None, MarkedWord | None]  # reference and hypothesis of a word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="NAME=PATH", help="a text, a paragraph a line")
    parser.add_argument("--speech", type=Path, metavar="FILE", help="recordings with their written texts, JSON lines")
    parser.add_argument("--start", action="store_true", help="measure the time to read the model, in a fresh process")
    args = parser.parse_args()
    print(machine("onnxruntime", "numpy"))
    print(f"{'':30}" + "".join(f"{mark:>8}" for mark in (*MARKS[1:], "all", "case")))
    for name, _, path in (argument.partition("=") for argument in args.sets):
        lines = [words for line in read_lines(path) if (words := marked_words(line))]
        report(f"{name}, rules", list(zip_lines(lines, by_rules(lines))))
        if case := with_truecase(lines):
            report(f"{name}, truecase on our marks", list(zip_lines(lines, case)))
        start = time.process_time()
        own = by_network(lines)
        seconds = time.process_time() - start
        report(f"{name}, readable-en", list(zip_lines(lines, own)))
        print(f"{sum(map(len, lines)) / seconds:30,.0f} words a second of one processor")
    if args.speech:
        speech(args.speech)
    if args.start:
        command = "import time; from asr.readable import punctuator as p; import onnxruntime; t = time.perf_counter(); "
        command += "p.english_punctuator(); print(time.perf_counter() - t)"
        times = [float(subprocess.check_output([sys.executable, "-c", command])) for _ in range(7)]
        print(f"start: {np.median(times):.3f} s (median of 7, {min(times):.3f} to {max(times):.3f})")


def by_network(lines: Sequence[Sequence[MarkedWord]]) -> list[list[MarkedWord]]:
    """The words of all lines as one text, marked again."""
    punctuator = english_punctuator()
    words = [word.text for line in lines for word in line]
    marked: list[MarkedWord] = []
    while len(marked) < len(words):
        place = len(marked)
        passage = words[place : place + PASSAGE + AHEAD]
        marked += punctuator.mark(passage, context=marked[-CONTEXT:])[:PASSAGE]
    return cut(marked, lines)


def by_rules(lines: Sequence[Sequence[MarkedWord]]) -> list[list[MarkedWord]]:
    return [
        capitals([MarkedWord(word.text, 0) for word in line[:-1]] + [MarkedWord(line[-1].text, PERIOD)])
        for line in lines
    ]


def capitals(words: Sequence[MarkedWord]) -> list[MarkedWord]:
    """Capitals after periods, and in I."""
    written, before = [], PERIOD
    for word in words:
        plain = word.text.lower()
        is_capital = before == PERIOD or plain in ("i", "i'm", "i'll", "i've", "i'd")
        written.append(MarkedWord(plain.capitalize() if is_capital else plain, word.mark))
        before = word.mark
    return written


def with_truecase(lines: Sequence[Sequence[MarkedWord]]) -> list[list[MarkedWord]] | None:
    """Our marks with the case of the package truecase, sentence by sentence; None without it."""
    try:
        from truecase import get_truecaser
    except ImportError:
        return None
    caser = get_truecaser()
    marked = [word for line in by_network(lines) for word in line]
    cased: list[MarkedWord] = []
    sentence: list[MarkedWord] = []
    for place, word in enumerate(marked):
        sentence.append(word)
        if word.mark == PERIOD or place + 1 == len(marked):
            tokens = caser.get_true_case_from_tokens([each.text.lower() for each in sentence])
            cased += [MarkedWord(token, each.mark) for token, each in zip(tokens, sentence, strict=True)]
            sentence = []
    return cut(cased, lines)


def cut(words: list[MarkedWord], lines: Sequence[Sequence[MarkedWord]]) -> list[list[MarkedWord]]:
    ends = np.cumsum([len(line) for line in lines]).tolist()
    return [words[end - len(line) : end] for line, end in zip(lines, ends, strict=True)]


def zip_lines(lines: Sequence[Sequence[MarkedWord]], others: Sequence[Sequence[MarkedWord]]) -> Iterator[Pair]:
    for line, other in zip(lines, others, strict=True):
        yield from zip(line, other, strict=True)


def report(name: str, pairs: Sequence[Pair]) -> None:
    """A row of the table."""
    scores = []
    both = [(one.mark if one else 0, other.mark if other else 0) for one, other in pairs]
    for marks in (*([mark] for mark in range(1, len(MARKS))), range(1, len(MARKS))):
        right = sum(one == other and one in marks for one, other in both)
        total = sum((one in marks) + (other in marks) for one, other in both)
        scores.append(2 * right / total if total else float("nan"))
    same = [one.text == other.text for one, other in pairs if one and other and one.text.lower() == other.text.lower()]
    scores.append(sum(same) / max(len(same), 1))
    print(f"{name:30}" + "".join(f"{score:8.3f}" for score in scores) + f"{len(pairs):9} words", flush=True)


def speech(path: Path) -> None:
    """Rows for recordings: the text of the recogniser, and its true words without pauses."""
    import asr

    recognizer = asr.load(device="cpu")
    items = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    references = [marked_words(item["text"]) for item in items]
    start = cpu()
    transcripts = [recognizer.transcribe(item["audio"], style="raw") for item in items]
    raw_seconds = cpu() - start
    start = cpu()
    written = [marked_again(texts_of(each.words), pauses_of(each.words)) for each in transcripts]
    own_seconds = cpu() - start
    report("speech, rules", list(aligned(references, [paused(transcript.words) for transcript in transcripts])))
    silent = [marked_again(texts_of(each.words)) for each in transcripts]
    report("speech, without pauses", list(aligned(references, silent)))
    report("speech, readable-en", list(aligned(references, written)))
    true = [marked_again([word.text for word in reference]) for reference in references]
    report("true words, readable-en", list(zip_lines(references, true)))
    print(f"{own_seconds:.2f} s of the processor, beside {raw_seconds:.1f} s of recognition")


def marked_again(words: Sequence[str], pauses: np.ndarray | None = None) -> list[MarkedWord]:
    """The words of a recording, which ends with a sentence."""
    marked = english_punctuator().mark(words, pauses)
    if marked and marked[-1].mark in (0, COMMA):
        marked[-1] = MarkedWord(marked[-1].text, PERIOD)
    return marked


def pauses_of(words: Sequence[Word]) -> np.ndarray:
    gaps = [after.start - before.end for before, after in pairwise(words)]
    return np.array([*gaps, 2.0][: len(words)])


def texts_of(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def paused(words: Sequence[Word]) -> list[MarkedWord]:
    """The rules for speech."""
    ends = [*(after.start - before.end >= PAUSE for before, after in pairwise(words)), True]
    return capitals([MarkedWord(word.text, PERIOD * end) for word, end in zip(words, ends, strict=False)])


def aligned(references: Sequence[Sequence[MarkedWord]], hypotheses: Sequence[Sequence[MarkedWord]]) -> Iterator[Pair]:
    """The words of references and hypotheses, side by side where they belong together."""
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        ours, theirs = iter(reference), iter(hypothesis)
        for step in align_tokens([word.text.upper() for word in reference], [word.text.upper() for word in hypothesis]):
            yield (
                next(ours) if step.reference is not None else None,
                next(theirs) if step.hypothesis is not None else None,
            )


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
