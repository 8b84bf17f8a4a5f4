"""LibriSpeech: a thousand hours of English audiobooks, the standard benchmark.

Maker: V. Panayotov, G. Chen, D. Povey and S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio
books", ICASSP 2015. FLAC, 16 kHz, 16 bit, mono; upper case, no punctuation.

Licence: Creative Commons Attribution 4.0 (the recordings are LibriVox's, public domain).

Publisher: https://www.openslr.org/12/, one archive per part; the MD5 sums are from its md5sum.txt.

Layout: LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac, and in the same folder SPEAKER-CHAPTER.trans.txt
with lines of `SPEAKER-CHAPTER-NUMBER TRANSCRIPT`. Lhotse's recipe reads it.

Parts, with a manifest each; no speaker is in two of them. "other" is harder to recognise.
    part                utterances    hours      archive
    train-clean-100     28539         100.6      6.3 GB
    train-clean-360     104014        363.6      23 GB
    train-other-500     148688        496.9      30 GB
    dev-clean           2703          5.4        337 MB
    dev-other           2864          5.1        314 MB
    test-clean          2620          5.4        346 MB
    test-other          2939          5.3        328 MB
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, lhotse_entries, read_by_lhotse, with_options
from asr.errors import ConfigError, DataError
from asr.options import option

_URL = "https://www.openslr.org/resources/12"
ARCHIVES = {
    "train-clean-100": Archive(url=f"{_URL}/train-clean-100.tar.gz", checksum="md5:2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": Archive(url=f"{_URL}/train-clean-360.tar.gz", checksum="md5:c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": Archive(url=f"{_URL}/train-other-500.tar.gz", checksum="md5:d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": Archive(url=f"{_URL}/dev-clean.tar.gz", checksum="md5:42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": Archive(url=f"{_URL}/dev-other.tar.gz", checksum="md5:c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": Archive(url=f"{_URL}/test-clean.tar.gz", checksum="md5:32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": Archive(url=f"{_URL}/test-other.tar.gz", checksum="md5:fb5a50374b501bb3bac4815ee91d3135"),
}
# The text for language models, https://www.openslr.org/11/ (1.5 GB): 803 million words of 14500 books, without those of
# the dev and test sets; upper case, one sentence per line. The MD5 sum is from the recipes of other toolkits.
LM_TEXT = Archive(
    url="https://www.openslr.org/resources/11/librispeech-lm-norm.txt.gz",
    checksum="md5:c83c64c726a1aedfe65f80aa311de402",
)
SIZES = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which parts of LibriSpeech to prepare.

    Raises:
        ConfigError: a part is none of `SIZES`.
    """

    parts: tuple[str, ...] = option((), f"prepare some of {', '.join(SIZES)} (default: those in the source, or all)")

    def __post_init__(self) -> None:
        if unknown := [part for part in self.parts if part not in SIZES]:
            raise ConfigError(f"parts must be some of {', '.join(SIZES)}, got {unknown[0]!r}", "parts")


def _corpus(options: Options, _: object) -> Corpus:
    return make_corpus("LibriSpeech", ARCHIVES, SIZES, options.parts)


prepare = with_options(_corpus, Options())


def make_corpus(
    name: str, archives: Mapping[str, Archive], sizes: Mapping[str, int], parts: tuple[str, ...] = ()
) -> Corpus:
    """A corpus in LibriSpeech's layout, of some parts, or of all parts in a folder."""
    return Corpus(
        name=name,
        read=partial(_read, parts=parts, known=tuple(sizes)),
        archives=tuple(archive for part, archive in archives.items() if part in (parts or archives)),
        sizes=sizes,
        choices={"parts": list(parts)},
    )


def _read(root: Path, *, parts: tuple[str, ...], known: tuple[str, ...]) -> Iterator[Entry]:
    from lhotse.recipes.librispeech import prepare_librispeech

    folders = {}
    for part in parts or known:
        try:
            folders[part] = find(root, f"{part}/*/*/*.trans.txt").parents[2]
        except DataError:
            if parts:
                raise
    if not folders:
        raise DataError(f"must hold one of {', '.join(known)}, as the publisher's archives do", path=root)
    for part, folder in folders.items():
        manifests = read_by_lhotse(folder, partial(prepare_librispeech, folder.parent, dataset_parts=part))
        yield from lhotse_entries(part, **manifests[part])
