"""Text for language models, in the spelling of a model's transcripts and without the sentences it will be tested on.

Files hold one item a line, a sentence or a paragraph of them, as `asr.lm.corpus` reads them. What comes out is one
sentence a line: parted after a full stop, question or exclamation mark before a capital, but not after the
abbreviations that stand before names.
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
    """The sentences of text files, in one file, one normalised sentence a line; read and written as a stream.

    A line is left out whole where it shares words with those withheld, since what is read aloud does not stop at a
    full stop; a sentence where it has characters outside the alphabet, digits among them, that nobody could read.

    Args:
        sources: text files.
        destination: plain UTF-8; complete, or not there at all.
        withheld: of texts normalised with the same options.
        options: the spelling.
        characters: those of the model; sentences with others are left out.
        note: called with one sentence about each file: what was kept and what was left out.
    Raises:
        DataError: a file is missing, damaged or not UTF-8.
    """
    alphabet = frozenset(characters)
    with replacing(destination) as file:
        for source in map(Path, sources):
            shared = foreign = kept = words = 0
            for line in read_lines(source):
                if withheld.shares(normalize(line, options)):
                    shared += 1
                    continue
                for sentence in split_sentences(line):
                    if not (spelled := normalize(sentence, options)):
                        continue
                    if alphabet.issuperset(spelled):
                        file.write(f"{spelled}\n".encode())
                        kept += 1
                        words += spelled.count(" ") + 1
                    else:
                        foreign += 1
            note(
                f"{source.name}: {kept} sentences of {words} words; left out {shared} lines that share words with a "
                f"dev or test set, and {foreign} sentences with digits or other characters that the model lacks"
            )
    return Path(destination)


def split_sentences(line: str) -> list[str]:
    """The sentences of a line as it is written."""
    return _END.sub(r"\g<0>\n", line).split("\n")
