"""Common Voice: sentences read by volunteers to their own microphones, in some 300 languages.

Maker: Mozilla and volunteers, since 2017. MP3, 32 or 48 kHz, mono. Sizes grow with each release, and differ by
language: from minutes to thousands of hours.

Licence: CC0 1.0 for the scripted speech; users agree not to identify the speakers.

Publisher: https://commonvoice.mozilla.org/datasets. It requires signing in and agreeing to the terms, so it cannot be
downloaded by a program: unpack the archive of a language and give its folder with --source.

Layout, the same in all releases since 2019:
    cv-corpus-VERSION/LANGUAGE/clips/common_voice_LANGUAGE_NUMBER.mp3
    cv-corpus-VERSION/LANGUAGE/train.tsv, dev.tsv, test.tsv       columns client_id, path, sentence and others;
                                                                  quotation marks are part of the text

Splits: the makers' "train", "dev" and "test"; no speaker is in two of them, and each sentence is in one only. Clips in
validated.tsv, other.tsv or invalidated.tsv only are left out. Lhotse's recipe is not used: it needs columns that early
releases lack, and does not report missing clips.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asr.corpora.corpus import Corpus, Entry, with_options
from asr.errors import ConfigError, DataError
from asr.files.reading import open_regular
from asr.files.texts import lines_with_ends
from asr.options import option

HOME = "https://commonvoice.mozilla.org/datasets"
_COLUMNS = ("client_id", "path", "sentence")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which language of Common Voice to prepare."""

    language: str = option("", "prepare this language of a source with several: de, pt, zh-CN, ...")


def _corpus(options: Options, _: object) -> Corpus:
    language = options.language
    read = partial(_read, language=language)
    return Corpus(name="Common Voice", read=read, home=HOME, choices={"language": language})


prepare = with_options(_corpus, Options())


def _read(root: Path, *, language: str) -> Iterator[Entry]:
    folder = _language_folder(root, language)
    for split in ("train", "dev", "test"):
        path = folder / f"{split}.tsv"
        try:
            with lines_with_ends(open_regular(path), errors="strict") as file:
                rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                for row in rows:
                    client, clip, sentence = (row.get(column) for column in _COLUMNS)
                    if not client or not clip or sentence is None:
                        message = f"must have {', '.join(_COLUMNS)}, got {[client, clip, sentence]}"
                        raise DataError(message, path=path, line=rows.line_num)
                    audio = folder / "clips" / clip
                    yield Entry(split=split, id=audio.stem, audio=audio, text=sentence.strip(), speaker=client)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot be read: {error}", path=path) from error


def _language_folder(root: Path, language: str) -> Path:
    folders = {
        path.parent.name: path.parent
        for pattern in ("", "*/", "*/*/", "*/*/*/")
        for path in root.glob(f"{pattern}train.tsv")
    }
    if not folders:
        raise DataError("must hold train.tsv, as the archive of a language does", path=root)
    if not language and len(folders) == 1:
        return next(iter(folders.values()))
    if language not in folders:
        raise ConfigError(f"the language must be one of {', '.join(sorted(folders))}, got {language!r}")
    return folders[language]
