"""TED-LIUM 3: 452 hours of TED talks.

Maker: Ubiqus and LIUM (University of Le Mans): F. Hernandez, V. Nguyen, S. Ghannay, N. Tomashenko and Y. Estève,
"TED-LIUM 3: twice as much data and corpus repartition for experiments on speaker adaptation", SPECOM 2018. 2351 talks
in English, one SPHERE file each, 16 kHz, 16 bit, mono; lower case, no punctuation.

Licence: Creative Commons BY-NC-ND 3.0; the talks are property of TED Conferences LLC.

Publisher: https://www.openslr.org/51/ (TEDLIUM_release-3.tgz, 54 GB). OpenSLR gives no checksum; `CHECKSUM` is from
torchaudio.

Layout: TEDLIUM_release-3/legacy/SPLIT/sph/TALK.sph and stm/TALK.stm, with lines of
    TALK CHANNEL SPEAKER START END <LABELS> TEXT
Lhotse's recipe is not used: it needs an external program for SPHERE files, which are read in place here. Lines to be
ignored in scoring are left out. In the text, marks such as {NOISE} and the (2) of a second pronunciation are removed,
and "it 's" becomes "it's"; <unk>, a word unknown to the makers' recogniser, stays.

Splits: the "legacy" ones; dev and test are those of TED-LIUM 1 and 2, transcribed by hand.
    train    268263 segments      dev    507      test    1155
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, read_lines
from asr.errors import DataError

URL = "https://www.openslr.org/resources/51/TEDLIUM_release-3.tgz"
CHECKSUM = "sha256:ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb"
SIZES = {"train": 268263, "dev": 507, "test": 1155}

_IGNORED = "ignore_time_segment_in_scoring"
_MARK = re.compile(r"\{[^}]*\}|\(\d+\)")


def _read(root: Path) -> Iterator[Entry]:
    legacy = find(root, "legacy/train/stm").parents[1]
    for split in SIZES:
        for stm in sorted((legacy / split / "stm").glob("*.stm")):
            yield from _read_stm(stm, split)


def _read_stm(stm: Path, split: str) -> Iterator[Entry]:
    audio = stm.parents[1] / "sph" / f"{stm.stem}.sph"
    for number, line in enumerate(read_lines(stm), start=1):
        if line.startswith(";;"):  # a comment
            continue
        try:
            talk, _, speaker, start, end, _, *words = line.split()
            start_seconds, end_seconds = float(start), float(end)
        except ValueError:
            message = f"must be TALK CHANNEL SPEAKER START END <LABELS> TEXT, got {line[:60]!r}"
            raise DataError(message, path=stm, line=number) from None
        if words == [_IGNORED]:
            continue
        yield Entry(
            split=split,
            id=f"{talk}-{number}",
            audio=audio,
            text=" ".join(_MARK.sub("", " ".join(words)).split()).replace(" '", "'"),
            speaker=speaker,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
        )


CORPUS = Corpus(name="TED-LIUM 3", read=_read, archives=(Archive(url=URL, checksum=CHECKSUM),), sizes=SIZES)
prepare = CORPUS.prepare
