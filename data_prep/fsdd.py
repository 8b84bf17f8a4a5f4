"""FSDD, the Free Spoken Digit Dataset: English digits by six men, trimmed close to the speech.

Maker: Zohar Jackson and contributors, since 2016; DOI badge 61622039 at Zenodo. 3000 recordings of one digit each, 50
of each digit by each of six speakers (accents of the USA, Belgium, Germany, Greece), 22 minutes; WAV, 8 kHz, 16 bit,
mono.

Licence: Creative Commons Attribution-ShareAlike 4.0.

Publisher: https://github.com/Jakobovski/free-spoken-digit-dataset, without checksums: GitHub packs archives on request,
not always into the same bytes. `URL` names a commit instead, whose recordings cannot change. Lhotse has no recipe.

Layout: recordings/7_jackson_32.wav: digit, speaker, number. FLAC files with these names are read too.

Splits: the makers test on recordings 0 to 4, a tenth; recordings 5 to 9 are dev here.
    train    2400      dev    300      test    300
All six speakers are in each. With `Options.held_out`, the 500 recordings of one speaker are the test set instead, and
the other five speakers are train (2250, with their test recordings) and dev (250).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, with_options
from asr.errors import ConfigError
from asr.options import option

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/1306d2c6da002dfb2fd1f113d8596d801648a085.tar.gz"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
ARCHIVES = (Archive(url=URL),)

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<number>\d+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which recordings of FSDD are for testing.

    Raises:
        ConfigError: the speaker is none of `SPEAKERS`.
    """

    held_out: str = option("", "test on all recordings of this speaker, and on no others")

    def __post_init__(self) -> None:
        if self.held_out not in ("", *SPEAKERS):
            raise ConfigError(f"held_out must be one of {', '.join(SPEAKERS)}, got {self.held_out!r}", "held_out")


def _corpus(options: Options, _: object) -> Corpus:
    held_out = options.held_out
    return Corpus(
        name="FSDD",
        read=partial(_read, held_out=held_out),
        archives=ARCHIVES,
        sizes={"train": 2250, "dev": 250, "test": 500} if held_out else {"train": 2400, "dev": 300, "test": 300},
        choices={"held_out": held_out},
    )


prepare = with_options(_corpus, Options())


def _read(root: Path, *, held_out: str) -> Iterator[Entry]:
    for path in sorted(find(root, "[0-9]_*_[0-9]*.*").parent.iterdir()):
        if not (name := _NAME.fullmatch(path.stem)):
            continue
        number, speaker = int(name["number"]), name["speaker"]
        is_test = speaker == held_out if held_out else number < 5
        yield Entry(
            split="test" if is_test else "dev" if 5 <= number < 10 else "train",
            id=path.stem,
            audio=path,
            text=WORDS[int(name["digit"])],
            speaker=speaker,
        )
