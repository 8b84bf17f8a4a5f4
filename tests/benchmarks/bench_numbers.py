"""Sentences with figures, spelled in words by `asr.text.numbers` and written in figures again.

    python tests/benchmarks/bench_numbers.py common_voice_sentences.txt.xz novels_dev.txt.xz novels_test.txt.xz

A TEXT has a sentence or paragraph a line. Of each, `--limit` lines are taken, spread over the file, whose numbers in
figures have two digits or more and are no full hours: the others are written in words. A line has come back if its
digits are among those that are written, in the same order; numbers in words may add others.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from timing import machine

from asr.lm.corpus import read_lines
from asr.readable.numbers import write_numbers
from asr.text.numbers import spell_numbers

_NUMBER = re.compile("[0-9]+(?:[.,:][0-9]+)*")
_NO_WORD = re.compile(r"[^\w']+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT")
    parser.add_argument("--limit", type=int, default=1500, help="lines of each text (default: 1500)")
    parser.add_argument("--show", action="store_true", help="print those that did not come back")
    args = parser.parse_args()
    print(machine("num2words"))
    for path in args.texts:
        lines = [line for line in read_lines(path) if has_figures(line)]
        lines = lines[:: max(1, len(lines) // args.limit)][: args.limit]
        num_same = 0
        for line in lines:
            spoken = " ".join(_NO_WORD.sub(" ", spell_numbers(line)).lower().split())
            written = write_numbers(spoken)
            digits = iter(re.findall("[0-9]", written))
            is_same = all(digit in digits for digit in re.findall("[0-9]", line))
            num_same += is_same
            if args.show and not is_same:
                print(line, spoken, written, sep="\n  ")
        print(f"{path.name}: {num_same} of {len(lines)} came back")


def has_figures(line: str) -> bool:
    """Whether there are numbers in figures, none below ten and no full hour."""
    numbers = _NUMBER.findall(line)
    return bool(numbers) and all(re.match("[1-9][0-9]", number) and not number.endswith(":00") for number in numbers)


if __name__ == "__main__":
    main()
