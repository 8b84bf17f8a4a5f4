"""THCHS-30: 30 hours of read Mandarin news, 50 speakers.

Maker: CSLT, Tsinghua University: D. Wang and X. Zhang, "THCHS-30: A Free Chinese Speech Corpus", 2015; recorded in
2002. WAV, 16 kHz, 16 bit, mono; simplified characters.

Licence: free for academic use by the maker's statement; Apache License 2.0 by OpenSLR's.

Publisher: https://www.openslr.org/18/ (data_thchs30.tgz, 6.4 GB); the MD5 sum is from PaddleSpeech.

Layout:
    data_thchs30/data/A11_0.wav         of speaker A11
    data_thchs30/data/A11_0.wav.trn     the transcript in three lines: words, pinyin and phones
    data_thchs30/train, dev, test       links to ../data/*.wav
Lhotse's recipe reads it; spaces between words are removed from the text.

Splits: the maker's; no speaker is in two of them.
    train    10000      dev    893        test    2495
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, lhotse_entries, read_by_lhotse

URL = "https://www.openslr.org/resources/18/data_thchs30.tgz"
CHECKSUM = "md5:2d2252bde5c8429929e1841d4cb95e90"


def _read(root: Path) -> Iterator[Entry]:
    from lhotse.recipes.thchs_30 import prepare_thchs_30

    parent = root.parent if (root / "data").is_dir() else find(root, "data_thchs30/data/").parents[1]
    sets = read_by_lhotse(parent, partial(prepare_thchs_30, parent))
    for split in ("train", "dev", "test"):
        texts = sets[split]["supervisions"].transform_text(lambda text: "".join(text.split()))
        yield from lhotse_entries(split, sets[split]["recordings"], texts)


CORPUS = Corpus(
    name="THCHS-30",
    read=_read,
    archives=(Archive(url=URL, checksum=CHECKSUM),),
    sizes={"train": 10000, "dev": 893, "test": 2495},
)
prepare = CORPUS.prepare
