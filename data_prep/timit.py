"""TIMIT: 630 speakers of eight dialects of US English read ten sentences each, with phones marked by hand.

Maker: Texas Instruments and MIT; J. Garofolo et al., "TIMIT Acoustic-Phonetic Continuous Speech Corpus", LDC93S1, 1993.
5.4 hours; SPHERE (though named .WAV), 16 kHz, 16 bit, mono.

Licence: the Linguistic Data Consortium's, for a fee.

Publisher: https://catalog.ldc.upenn.edu/LDC93S1. It cannot be downloaded by a program; give your copy with --source.

Layout, in upper or lower case:
    TRAIN/DR1/FCJF0/SA1.WAV      SPHERE, or RIFF as SA1.WAV.wav or SA1.wav
    TRAIN/DR1/FCJF0/SA1.TXT      0 46797 She had your dark suit in greasy wash water all year.
Audio is read in place (Lhotse's recipe needs an external program for SPHERE files). The text is the sentence as
printed; the times of words and phones (.WRD, .PHN) are not used.

Splits: the makers' train and test, without the two sentences that all speakers read (SA1 and SA2). 24 of the test
speakers are the core test set and 50 others are dev, by Lhotse's lists and as in Kaldi's recipe; the rest are left out.
    train    3696 (462 speakers)      dev    400 (50)      test    192 (24)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.corpora.corpus import Corpus, Entry, read_lines
from asr.errors import DataError

HOME = "https://catalog.ldc.upenn.edu/LDC93S1"


def _read(root: Path) -> Iterator[Entry]:
    from lhotse.recipes.timit import get_speakers

    dev, test = map(set, get_speakers())
    for path in sorted(root.rglob("*/*/*.[Tt][Xx][Tt]")):
        part, region, speaker = (folder.name.lower() for folder in (path.parents[2], path.parents[1], path.parent))
        sentence = path.stem.lower()
        if part not in ("train", "test") or not region.startswith("dr") or sentence.startswith("sa"):
            continue
        split = "train" if part == "train" else "dev" if speaker in dev else "test" if speaker in test else None
        if split is None:
            continue
        fields = " ".join(read_lines(path)).split()
        if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):
            raise DataError(
                f"must be FIRST LAST TEXT, with numbers of samples, got {' '.join(fields)[:60]!r}", path=path
            )
        yield Entry(
            split=split, id=f"{speaker}-{sentence}", audio=_audio(path), text=" ".join(fields[2:]), speaker=speaker
        )


def _audio(text: Path) -> Path:
    """The recording of a text; a converted one comes first."""
    names = (f"{text.stem}{suffix}" for suffix in (".WAV.wav", ".wav", ".WAV"))
    paths = [text.with_name(name) for name in names]
    return next((path for path in paths if path.is_file()), paths[-1])


CORPUS = Corpus(name="TIMIT", read=_read, home=HOME, sizes={"train": 3696, "dev": 400, "test": 192})
prepare = CORPUS.prepare
