"""VCTK: 110 speakers of English with many accents read some 400 sentences each; made for speech synthesis.

Maker: CSTR, University of Edinburgh: J. Yamagishi, C. Veaux and K. MacDonald, "CSTR VCTK Corpus: English Multi-speaker
Corpus for CSTR Voice Cloning Toolkit", version 0.92, 2019. 44 hours; FLAC, 48 kHz, mono, with two microphones.

Licence: Creative Commons Attribution 4.0.

Publisher: https://datashare.ed.ac.uk/handle/10283/3443 (VCTK-Corpus-0.92.zip, 11 GB). `CHECKSUM` is from torchaudio.

Layout: txt/p225/p225_001.txt; wav48_silence_trimmed/p225/p225_001_mic1.flac and _mic2.flac; speaker-info.txt. Lhotse's
recipe reads it, without missing items: texts of p315, the second microphone of p280, some recordings of p362.

Splits: no official ones; there is one manifest "all".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from asr.corpora.corpus import Archive, Corpus, Entry, find, lhotse_entries, read_by_lhotse, with_options
from asr.options import option

URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip"
CHECKSUM = "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c"
ARCHIVES = (Archive(url=URL, checksum=CHECKSUM),)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which recordings of VCTK to take."""

    microphone: Literal["mic1", "mic2"] = option("mic2", "mic1: omni-directional; mic2: small diaphragm condenser")


def _corpus(options: Options, _: object) -> Corpus:
    microphone = options.microphone
    read = partial(_read, microphone=microphone)
    return Corpus(name="VCTK", read=read, archives=ARCHIVES, choices={"microphone": microphone})


prepare = with_options(_corpus, Options())


def _read(root: Path, *, microphone: str) -> Iterator[Entry]:
    from lhotse.recipes.vctk import prepare_vctk

    folder = find(root, "wav48_silence_trimmed/").parent
    recipe = partial(prepare_vctk, folder, use_edinburgh_vctk_url=True, mic_id=microphone)
    yield from lhotse_entries("all", **read_by_lhotse(folder, recipe))
