"""Text for language models, in the spelling of a model's transcripts and without the sentences of test sets.

Each line of a text file is a sentence or a paragraph, as for `asr.lm.corpus`. The result has one sentence per line:
lines are split after a full stop, question or exclamation mark before a capital, but not after the abbreviations before
names. Mr, Mrs, Dr, and St before a name become Mister, Missus, Doctor and Saint, as they are spoken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from asr.corpora.overlap import Withheld
from asr.files.writing import replacing
from asr.lm.corpus import read_lines
from asr.text.normalization import TextOptions, normalize

_SPOKEN = {"Mr": "Mister", "Mrs": "Missus", "Dr": "Doctor", "St": "Saint"}
_TITLE = re.compile(r"\b(Mr|Mrs|Dr|St(?=\.?\s+[A-Z]))\b\.?")  # not the St of a street
_END = re.compile(r"""(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?]+["')]*\s+(?=["'(]*[A-Z])""")


def write_lm_text(
    sources: Iterable[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    *,
    withheld: Withheld,
    options: TextOptions,
    characters: Iterable[str],
    note: Callable[[str], None],
) -> Path:
    """Write the sentences of text files to one file, one normalised sentence per line, as a stream.

    A whole line is left out if it shares a run of words with the withheld texts, since a recording may cross a full
    stop. A sentence is left out if it has characters outside the alphabet, such as digits.

    Args:
        sources: text files.
        destination: plain UTF-8; it appears complete or not at all.
        withheld: of texts normalised with the same options.
        options: the normalisation.
        characters: of the model.
        note: called with one sentence per file about the sentences written and left out.
    Raises:
        DataError: a file is missing, damaged or not UTF-8.
    """
    alphabet = frozenset(characters)
    with replacing(destination) as file:
        for source in map(Path, sources):
            num_shared = num_foreign = num_written = num_words = 0
            for line in map(speak_titles, read_lines(source)):
                if withheld.shares(normalize(line, options)):
                    num_shared += 1
                    continue
                for sentence in split_sentences(line):
                    if not (spelled := normalize(sentence, options)):
                        continue
                    if alphabet.issuperset(spelled):
                        file.write(f"{spelled}\n".encode())
                        num_written += 1
                        num_words += spelled.count(" ") + 1
                    else:
                        num_foreign += 1
            note(
                f"{source.name}: {num_written} sentences of {num_words} words; left out {num_shared} lines that share "
                f"words with a dev or test set, and {num_foreign} sentences with digits or other characters that the "
                "model lacks"
            )
    return Path(destination)


def speak_titles(line: str) -> str:
    """The line with titles as they are spoken: Mr. and Mrs. Bennet -> Mister and Missus Bennet."""
    return _TITLE.sub(lambda title: _SPOKEN[title[1]], line)


def split_sentences(line: str) -> list[str]:
    """The sentences of a line in its original spelling."""
    return _END.sub(r"\g<0>\n", line).split("\n")
