"""MLS, Multilingual LibriSpeech: audiobooks in eight languages, from 100 to 44000 hours.

Maker: V. Pratap, Q. Xu, A. Sriram, G. Synnaeve and R. Collobert (Facebook), "MLS: A Large-Scale Multilingual Dataset
for Speech Research", Interspeech 2020. FLAC, 16 kHz, mono, or Opus; lower case, no punctuation.

Licence: Creative Commons Attribution 4.0 (the recordings are LibriVox's, public domain).

Publisher: https://www.openslr.org/94/, with an archive for each language and kind of file, from 2.5 GB (Portuguese,
Opus) to 2.4 TB (English, FLAC). No checksums are known.

Layout, the same in mls_LANGUAGE and mls_LANGUAGE_opus:
    mls_german/SPLIT/transcripts.txt     ID <tab> TEXT, with an ID of SPEAKER_BOOK_NUMBER
    mls_german/SPLIT/audio/SPEAKER/BOOK/SPEAKER_BOOK_NUMBER.flac (or .opus)
Lhotse's recipe is not used: it decodes each Opus file with FFmpeg to get its length.

Splits: the makers' train, dev and test; no speaker is in two of them. Segments are 10 to 20 seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from asr.corpora.corpus import Archive, Corpus, Entry, find, read_lines, with_options
from asr.errors import ConfigError, DataError
from asr.options import option

URL = "https://dl.fbaipublicfiles.com/mls"
LANGUAGES = ("dutch", "english", "french", "german", "italian", "polish", "portuguese", "spanish")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which part of MLS to prepare.

    Raises:
        ConfigError: the language is none of `LANGUAGES`.
    """

    language: str = option("", f"download or choose this language: {', '.join(LANGUAGES)}")
    audio: Literal["opus", "flac"] = option("opus", "kind of files to download")

    def __post_init__(self) -> None:
        if self.language not in ("", *LANGUAGES):
            raise ConfigError(f"language must be one of {', '.join(LANGUAGES)}, got {self.language!r}", "language")


def _corpus(options: Options, source: str | os.PathLike[str] | None) -> Corpus:
    """Raises: ConfigError: neither a source nor a language is given."""
    if source is None and not options.language:
        raise ConfigError(f"the language to download must be one of {', '.join(LANGUAGES)}, but none is given")
    suffix = "_opus" if options.audio == "opus" else ""
    return Corpus(
        name="MLS",
        read=partial(_read, language=options.language),
        archives=(Archive(url=f"{URL}/mls_{options.language}{suffix}.tar.gz"),),
        choices={"language": options.language},
    )


prepare = with_options(_corpus, Options())


def _read(root: Path, *, language: str) -> Iterator[Entry]:
    is_corpus = root.name.startswith(f"mls_{language}")
    folder = find(root, "train/transcripts.txt" if is_corpus else f"mls_{language}*/train/transcripts.txt").parents[1]
    for split in ("train", "dev", "test"):
        path = folder / split / "transcripts.txt"
        for number, line in enumerate(read_lines(path), start=1):
            name, tab, text = line.partition("\t")
            parts = name.split("_")
            if not tab or len(parts) != 3:
                raise DataError(
                    f"must be SPEAKER_BOOK_NUMBER, a tab and a text, got {line[:60]!r}", path=path, line=number
                )
            flac = folder / split / "audio" / parts[0] / parts[1] / f"{name}.flac"
            audio = flac if flac.is_file() else flac.with_suffix(".opus")
            yield Entry(split=split, id=name, audio=audio, text=text.strip(), speaker=parts[0])
