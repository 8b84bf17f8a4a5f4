"""Speech Commands: single English words of one second, by thousands of speakers with their own microphones.

Maker: Pete Warden (Google), "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018, version 0.02.
105829 clips of 35 words; WAV, 16 kHz, 16 bit, mono.

Licence: Creative Commons Attribution 4.0.

Publisher: http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz (2.4 GB), here from the same storage over
https://. It gives no checksum; `CHECKSUM` is from TensorFlow Datasets and torchaudio.

Layout: WORD/SPEAKER_nohash_NUMBER.wav; validation_list.txt and testing_list.txt with lines of WORD/FILE; the noise in
_background_noise_ is left out (use it in training as `data.noise`). Lhotse's recipe is not used: it tests on another
archive, made for twelve classes, and its order changes with each call.

Splits: by the makers' lists; clips in neither list are train. No speaker is in two splits.
    train    84843      dev    9981       test    11005
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.corpora.corpus import Archive, Corpus, Entry, find, read_lines

URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
CHECKSUM = "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"


def _read(root: Path) -> Iterator[Entry]:
    folder = find(root, "testing_list.txt").parent
    split_of = dict.fromkeys(read_lines(folder / "validation_list.txt"), "dev")
    split_of |= dict.fromkeys(read_lines(folder / "testing_list.txt"), "test")
    names = {f"{path.parent.name}/{path.name}" for path in folder.glob("[!_.]*/*.wav")}
    for name in sorted(names | split_of.keys()):
        word, _, file = name.partition("/")
        yield Entry(
            split=split_of.get(name, "train"),
            id=f"{word}-{file.removesuffix('.wav')}",
            audio=folder / name,
            text=word,
            speaker=file.partition("_")[0],
        )


CORPUS = Corpus(
    name="Speech Commands",
    read=_read,
    archives=(Archive(url=URL, checksum=CHECKSUM),),
    sizes={"train": 84843, "dev": 9981, "test": 11005},
)
prepare = CORPUS.prepare
