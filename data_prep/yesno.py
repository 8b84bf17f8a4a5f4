"""yesno, the smallest corpus: one man says the Hebrew words for "yes" (ken) and "no" (lo), eight per recording.

Maker: a contributor to Kaldi who prefers to remain anonymous. 60 recordings, 480 words, 6 minutes, one speaker; WAV,
8 kHz, 16 bit, mono.

Licence: none is stated; it is offered for trying out Kaldi "for free".

Publisher: https://www.openslr.org/1/ (waves_yesno.tar.gz, 4.5 MB). OpenSLR gives no checksum; `CHECKSUM` is from
torchaudio.

Layout: waves_yesno/1_0_1_1_1_0_1_0.wav; 1 is YES and 0 is NO. There is no other transcript. FLAC files with these names
are read too.

Splits: Kaldi's recipe sorts the names, trains on the first 31 and tests on the other 29. The last four of its training
list are dev here. Lhotse's recipe is not used: it tests on every second recording, and needs 60 WAV files.
    train    27        dev    4        test    29
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find

URL = "https://www.openslr.org/resources/1/waves_yesno.tar.gz"
CHECKSUM = "sha256:c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73"

_NAME = re.compile(r"[01](_[01]){7}")
_WORDS = {"0": "NO", "1": "YES"}


def _read(root: Path) -> Iterator[Entry]:
    folder = find(root, "[01]_[01]_[01]_[01]_[01]_[01]_[01]_[01].*").parent
    names = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.stem))
    for number, path in enumerate(names):
        yield Entry(
            split="train" if number < 27 else "dev" if number < 31 else "test",
            id=path.stem,
            audio=path,
            text=" ".join(_WORDS[digit] for digit in path.stem.split("_")),
            speaker="global",  # as in Kaldi's recipe
        )


CORPUS = Corpus(
    name="yesno",
    read=_read,
    archives=(Archive(url=URL, checksum=CHECKSUM),),
    sizes={"train": 27, "dev": 4, "test": 29},
)
prepare = CORPUS.prepare
