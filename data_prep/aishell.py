"""AISHELL-1: 178 hours of read Mandarin, 400 speakers.

Maker: Beijing Shell Shell Technology: H. Bu, J. Du, X. Na, B. Wu and H. Zheng, "AISHELL-1: An Open-Source Mandarin
Speech Corpus and A Speech Recognition Baseline", O-COCOSDA 2017. WAV, 16 kHz, 16 bit, mono; simplified characters.

Licence: Apache License 2.0.

Publisher: https://www.openslr.org/33/ (data_aishell.tgz, 15 GB); the MD5 sum is from PaddleSpeech.

Layout:
    data_aishell/transcript/aishell_transcript_v0.8.txt     BAC009S0002W0122 而 对 楼市 成交 抑制 作用 最 大 的 限 购
    data_aishell/wav/S0002.tar.gz                           SPLIT/S0002/BAC009S0002W0122.wav, one archive per speaker
Each speaker's archive is unpacked to a folder of its name, unless this folder exists. Lhotse's recipe is not used: it
does not find these folders. The 325 recordings without a transcript are left out. Spaces between words are removed from
the text; letters, some of full width, become plain capitals.

Splits: the makers'; no speaker is in two of them.
    train    120098     dev    14326      test    7176

The sample of two speakers (S0150 and S0252, 500 utterances each) is read too: a folder with a manifest.tsv with the
columns path, transcript and speaker. It has no official splits: in the order of the SHA-256 of their ids, every tenth
utterance is dev and the next one test. With `Options.held_out`, all utterances of one speaker are the test set instead.
"""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asr.corpora.archives import extract
from asr.corpora.corpus import Archive, Corpus, Entry, find, read_lines, with_options
from asr.errors import ConfigError, DataError
from asr.options import option

URL = "https://www.openslr.org/resources/33/data_aishell.tgz"
CHECKSUM = "md5:2f494334227864a8a8fec932999db9d8"
ARCHIVES = (Archive(url=URL, checksum=CHECKSUM),)
SIZES = {"train": 120098, "dev": 14326, "test": 7176}

_COLUMNS = ("path", "transcript", "speaker")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to split the sample of AISHELL-1."""

    held_out: str = option("", "test on this speaker of the sample only, S0150 or S0252")


def _corpus(options: Options, source: str | os.PathLike[str] | None) -> Corpus:
    """Raises: ConfigError: the speaker to hold out is not in the sample, or the source is not the sample."""
    held_out = options.held_out
    sample = source is not None and (Path(source) / "manifest.tsv").is_file()
    if held_out and not sample:
        raise ConfigError("held_out is for the sample, with a manifest.tsv; no speaker is in two splits of AISHELL-1")
    return Corpus(
        name="AISHELL-1",
        read=partial(_read_sample, held_out=held_out) if sample else _read,
        archives=ARCHIVES,
        sizes={} if sample else SIZES,
        choices={"held_out": held_out},
    )


prepare = with_options(_corpus, Options())


def _read(root: Path) -> Iterator[Entry]:
    transcript = find(root, "transcript/aishell_transcript_v0.8.txt")
    texts = dict(line.partition(" ")[::2] for line in read_lines(transcript) if line)
    folder = transcript.parents[1] / "wav"
    for archive in sorted(folder.glob("*.tar.gz")):
        contents = folder / archive.name.removesuffix(".tar.gz")
        if not contents.is_dir():
            extract(archive, contents)
    for split in SIZES:
        paths = [*folder.glob(f"{split}/*/*.wav"), *folder.glob(f"*/{split}/*/*.wav")]
        for path in sorted(paths, key=lambda path: path.name):
            if path.stem in texts:
                text = _characters(texts[path.stem])
                yield Entry(split=split, id=path.stem, audio=path, text=text, speaker=path.parent.name)


def _read_sample(root: Path, *, held_out: str) -> Iterator[Entry]:
    path = root / "manifest.tsv"
    try:
        rows = list(csv.DictReader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE))
    except csv.Error as error:  # a field of more than a hundred thousand characters
        raise DataError(f"cannot be read: {error}", path=path) from error
    if not rows or not set(_COLUMNS) <= rows[0].keys():
        raise DataError(f"must have the columns {', '.join(_COLUMNS)}", path=path)
    for number, row in enumerate(rows, start=2):
        if None in row.values():
            raise DataError("must have a value in each column, but some are missing", path=path, line=number)
    speakers = sorted({row["speaker"] for row in rows})
    if held_out not in ("", *speakers):
        raise ConfigError(f"held_out must be one of {', '.join(speakers)}, got {held_out!r}")
    rows.sort(key=lambda row: hashlib.sha256(Path(row["path"]).stem.encode()).digest())
    for number, row in enumerate(rows):
        is_test = row["speaker"] == held_out if held_out else number % 10 == 1
        audio = root / row["path"]
        yield Entry(
            split="test" if is_test else "dev" if number % 10 == 0 else "train",
            id=audio.stem,
            audio=audio,
            text=_characters(row["transcript"]),
            speaker=row["speaker"],
        )


def _characters(text: str) -> str:
    return unicodedata.normalize("NFKC", "".join(text.split())).upper()
