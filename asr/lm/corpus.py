"""Text for language models: the lines of files of any size, or the texts of manifests, normalised."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.data.manifest import is_manifest, read_manifest
from asr.errors import DataError, InputError
from asr.files.reading import open_regular
from asr.files.texts import text_lines, unpacked
from asr.text.normalization import TextOptions, normalize


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a text file, plain, .gz or .xz, without their ends; one line at a time is in memory.

    Raises:
        DataError: the file is missing, damaged or truncated, or a line is not in its encoding; see `asr.files.texts`.
    """
    path = Path(path)
    number = 0
    try:
        with open_regular(path) as file, unpacked(file, path) as content:
            for line in text_lines(content, path):
                number += 1
                yield line
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        where = f" after line {number}" if number else ""
        raise DataError(f"the text cannot be read{where}: {reason}", path=path) from None


def read_texts(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a text file, or the texts of a manifest's utterances."""
    if is_manifest(path):
        return (utterance.text for utterance in read_manifest(path))
    return read_lines(path)


def read_sentences(paths: Iterable[str | os.PathLike[str]], options: TextOptions) -> Iterator[str]:
    """The texts of several files, normalised; texts that become empty are left out.

    Raises:
        DataError: as `read_texts`; or a line has a mark, and the options refuse marks.
    """
    for path in paths:
        for number, line in enumerate(read_texts(path), start=1):
            try:
                sentence = normalize(line, options)
            except InputError as error:
                raise DataError(str(error), path=path, line=number) from None
            if sentence:
                yield sentence
