"""Mini LibriSpeech: five hours of LibriSpeech for training and two for dev, for quick recipes.

Maker: Kaldi's developers, from LibriSpeech (see `asr.corpora.librispeech`). Licence: Creative Commons Attribution 4.0.

Publisher: https://www.openslr.org/31/, 459 MB in two archives; the MD5 sums are from its md5sum.txt.

Layout: LibriSpeech's. Lhotse's recipe reads it.

Parts, with a manifest each:
    train-clean-5     1519 utterances     5.3 hours     28 speakers of train-clean-100
    dev-clean-2       1089 utterances     2.0 hours     of dev-clean
"""

from __future__ import annotations

from asr.corpora.corpus import Archive
from asr.corpora.librispeech import make_corpus

_URL = "https://www.openslr.org/resources/31"
ARCHIVES = {
    "train-clean-5": Archive(url=f"{_URL}/train-clean-5.tar.gz", checksum="md5:5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": Archive(url=f"{_URL}/dev-clean-2.tar.gz", checksum="md5:6d7ab67ac6a1d2c993d050e16d61080d"),
}
CORPUS = make_corpus("Mini LibriSpeech", ARCHIVES, {"train-clean-5": 1519, "dev-clean-2": 1089})
prepare = CORPUS.prepare
