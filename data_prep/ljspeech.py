"""LJSpeech: one woman reads passages of seven non-fiction books; made for speech synthesis.

Maker: Keith Ito and Linda Johnson, 2017. 13100 clips, 24 hours, one speaker; WAV, 22.05 kHz, 16 bit, mono.

Licence: public domain.

Publisher: https://keithito.com/LJ-Speech-Dataset/ (LJSpeech-1.1.tar.bz2, 2.6 GB). It gives no checksum; `CHECKSUM` is
from torchaudio.

Layout: LJSpeech-1.1/wavs/LJ001-0001.wav; metadata.csv with lines of `LJ001-0001|text|text with numbers as words`.
Lhotse's recipe reads it; the third column, the words as spoken, becomes the text.

Splits: no official ones; the one manifest "all" has 13100 utterances.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, lhotse_entries, read_by_lhotse

URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
CHECKSUM = "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"


def _read(root: Path) -> Iterator[Entry]:
    from lhotse.recipes.ljspeech import prepare_ljspeech
    from lhotse.utils import fastcopy

    folder = find(root, "metadata.csv").parent
    sets = read_by_lhotse(folder, partial(prepare_ljspeech, folder))
    supervisions = [
        fastcopy(line, text=line.custom["normalized_text"], speaker="ljspeech") for line in sets["supervisions"]
    ]
    yield from lhotse_entries("all", sets["recordings"], supervisions)


CORPUS = Corpus(name="LJSpeech", read=_read, archives=(Archive(url=URL, checksum=CHECKSUM),), sizes={"all": 13100})
prepare = CORPUS.prepare
