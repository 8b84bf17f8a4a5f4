"""Every corpus in miniature, in its publisher's layout; each maker gives what its manifests must hold."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from asr.cli.data_prepare import CORPORA

Expected = dict[str, list[tuple[str, str | None, str]]]  # by split: id, speaker, text

KINDS = {".sph": ("NIST", "PCM_16"), ".mp3": ("MP3", "MPEG_LAYER_III"), ".opus": ("OGG", "OPUS")}


def sound(path: Path, seconds: float = 0.5, *, kind: str = "", rate: int = 16000) -> None:
    """A tone of a pitch of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 200 + len(path.name) * 13 + sum(path.name.encode())
    waveform = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    file_format, subtype = KINDS.get(kind or path.suffix, (None, None))
    soundfile.write(path, waveform, rate, format=file_format, subtype=subtype)


def text(path: Path, *lines: str) -> None:
    """A file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_yesno(root: Path) -> Expected:
    names = [f"{number >> 1 & 1}_{number & 1}_0_0_1_0_1_{number >> 2 & 1}" for number in range(8)]
    for name in names:
        sound(root / "waves_yesno" / f"{name}.wav", rate=8000)
    text(root / "waves_yesno" / "README", "Read me.")
    words = {"0": "NO", "1": "YES"}
    return {"train": [(name, "global", " ".join(words[digit] for digit in name.split("_"))) for name in sorted(names)]}


def make_fsdd(root: Path) -> Expected:
    folder = root / "free-spoken-digit-dataset-1306d2c6" / "recordings"
    for name in ("0_theo_0", "7_jackson_4", "3_theo_5", "9_george_9", "1_theo_10", "8_lucas_49"):
        sound(folder / f"{name}.wav", rate=8000)
    text(folder.parent / "metadata.py", "metadata = {}")
    return {
        "train": [("1_theo_10", "theo", "one"), ("8_lucas_49", "lucas", "eight")],
        "dev": [("3_theo_5", "theo", "three"), ("9_george_9", "george", "nine")],
        "test": [("0_theo_0", "theo", "zero"), ("7_jackson_4", "jackson", "seven")],
    }


def make_librispeech(root: Path, parts: tuple[str, str] = ("train-clean-100", "dev-clean")) -> Expected:
    lines = {
        parts[0]: {"103-1240-0000": "CHAPTER ONE MISSUS RACHEL LYNDE", "103-1240-0001": "THAT HAD ITS SOURCE"},
        parts[1]: {"84-121123-0000": "GO DO YOU HEAR"},
    }
    for part, spoken in lines.items():
        for name in spoken:
            speaker, chapter, _ = name.split("-")
            folder = root / "LibriSpeech" / part / speaker / chapter
            sound(folder / f"{name}.flac")
            text(folder / f"{speaker}-{chapter}.trans.txt", *(f"{name} {said}" for name, said in spoken.items()))
    text(root / "LibriSpeech" / "SPEAKERS.TXT", ";ID  |SEX| SUBSET           |MINUTES| NAME")
    return {
        part: [(name, name.split("-")[0], said) for name, said in sorted(spoken.items())]
        for part, spoken in lines.items()
    }


def make_mini_librispeech(root: Path) -> Expected:
    return make_librispeech(root, ("train-clean-5", "dev-clean-2"))


def make_ljspeech(root: Path) -> Expected:
    folder = root / "LJSpeech-1.1"
    for name in ("LJ001-0001", "LJ001-0007"):
        sound(folder / "wavs" / f"{name}.wav", rate=22050)
    text(
        folder / "metadata.csv",
        'LJ001-0001|Printing, in the "only sense"|Printing, in the "only sense"',
        "LJ001-0007|the Bible of 1455,|the Bible of fourteen fifty-five,",
    )
    return {
        "all": [
            ("LJ001-0001", "ljspeech", 'Printing, in the "only sense"'),
            ("LJ001-0007", "ljspeech", "the Bible of fourteen fifty-five,"),
        ]
    }


def make_commonvoice(root: Path) -> Expected:
    folder = root / "cv-corpus-20.0-2024-12-06" / "pt"
    said = {"train": 'A "boa' + " tarde.", "dev": "Não sei.", "test": "Já é?"}
    for number, (split, sentence) in enumerate(said.items()):
        clip = f"common_voice_pt_{number}.mp3"
        sound(folder / "clips" / clip, rate=32000)
        text(folder / f"{split}.tsv", "client_id\tpath\tsentence\tage", f"c{number}\t{clip}\t{sentence}\t")
    return {
        split: [(f"common_voice_pt_{number}", f"c{number}", sentence)]
        for number, (split, sentence) in enumerate(said.items())
    }


def make_tedlium3(root: Path) -> Expected:
    legacy = root / "TEDLIUM_release-3" / "legacy"
    for split, talk in (("train", "A_2009"), ("dev", "B_2010"), ("test", "C_2011")):
        sound(legacy / split / "sph" / f"{talk}.sph", 2.0)
        text(
            legacy / split / "stm" / f"{talk}.stm",
            ";; a comment",
            f"{talk} 1 {talk} 0 0.50 <o,,unknown> ignore_time_segment_in_scoring",
            f"{talk} 1 {talk} 0.50 1.25 <o,f0,male> {{NOISE}} it 's a(2) <unk>",
            f"{talk} 1 {talk} 1.25 2.00 <o,f0,male> good",
        )
    return {
        split: [(f"{talk}-3", talk, "it's a <unk>"), (f"{talk}-4", talk, "good")]
        for split, talk in (("train", "A_2009"), ("dev", "B_2010"), ("test", "C_2011"))
    }


def make_mls(root: Path) -> Expected:
    expected: Expected = {}
    for number, split in enumerate(("train", "dev", "test")):
        name = f"10{number}_77_000001"
        folder = root / "mls_polish_opus" / split
        sound(folder / "audio" / f"10{number}" / "77" / f"{name}.opus")
        text(folder / "transcripts.txt", f"{name}\tto jest żółw")
        expected[split] = [(name, f"10{number}", "to jest żółw")]
    return expected


def make_speechcommands(root: Path) -> Expected:
    for name in ("yes/aa_nohash_0.wav", "yes/bb_nohash_1.wav", "no/aa_nohash_0.wav", "_background_noise_/tap.wav"):
        sound(root / name)
    text(root / "validation_list.txt", "yes/bb_nohash_1.wav")
    text(root / "testing_list.txt", "no/aa_nohash_0.wav")
    return {
        "train": [("yes-aa_nohash_0", "aa", "yes")],
        "dev": [("yes-bb_nohash_1", "bb", "yes")],
        "test": [("no-aa_nohash_0", "aa", "no")],
    }


def make_aishell(root: Path) -> Expected:
    folder = root / "data_aishell"
    lines, expected = ["BAC009S0999W0001 没有 录音"], {}
    for split, speaker in (("train", "S0002"), ("dev", "S0724"), ("test", "S0764")):
        name = f"BAC009{speaker}W0122"
        with tarfile.open(mkdir(folder / "wav") / f"{speaker}.tar.gz", "w:gz") as tar:
            for spoken in (name, f"BAC009{speaker}W0999"):  # the second has no transcript
                content = io.BytesIO()
                soundfile.write(content, np.zeros(8000), 16000, format="WAV")
                member = tarfile.TarInfo(f"{split}/{speaker}/{spoken}.wav")
                member.size = len(content.getvalue())
                tar.addfile(member, io.BytesIO(content.getvalue()))
        lines.append(f"{name} 而 对  ｋ 线 app")
        expected[split] = [(name, speaker, "而对K线APP")]
    text(folder / "transcript" / "aishell_transcript_v0.8.txt", *lines)
    return expected


def make_thchs30(root: Path) -> Expected:
    folder = root / "data_thchs30"
    expected: Expected = {}
    for split, name in (("train", "A11_0"), ("dev", "C4_500"), ("test", "D11_750")):
        sound(folder / "data" / f"{name}.wav")
        text(folder / "data" / f"{name}.wav.trn", "绿 是 l = 阳春", "lv4 shi4 yang2 chun1", "l v4 sh ix4")
        mkdir(folder / split)
        for suffix in (".wav", ".wav.trn"):
            (folder / split / f"{name}{suffix}").symlink_to(Path("..") / "data" / f"{name}{suffix}")
        expected[split] = [(name, name.split("_")[0], "绿是阳春")]
    return expected


def make_vctk(root: Path) -> Expected:
    text(root / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION COMMENTS", "p225  23  F  English  England")
    for microphone in ("mic1", "mic2"):
        sound(root / "wav48_silence_trimmed" / "p225" / f"p225_001_{microphone}.flac", rate=48000)
    text(root / "txt" / "p225" / "p225_001.txt", "Please call Stella.")
    return {"all": [("p225_001_mic2", "p225", "Please call Stella.")]}


def make_timit(root: Path) -> Expected:
    expected: Expected = {}
    places = {"train": "TRAIN/DR1/FCJF0", "dev": "TEST/DR1/FAKS0", "test": "TEST/DR1/MDAB0", "": "TEST/DR1/FDAC1"}
    for split, place in places.items():
        speaker = place[-5:].lower()
        if split == "":
            speaker = "nobody"
            place = "TEST/DR1/NOBODY"
        for sentence in ("SA1", "SX37"):
            sound(root / "TIMIT" / place / f"{sentence}.WAV", kind=".sph")
            text(root / "TIMIT" / place / f"{sentence}.TXT", "0 46797 She had your dark suit. ")
        if split:
            expected[split] = [(f"{speaker}-sx37", speaker, "She had your dark suit.")]
    return expected


def make_kaldi(root: Path) -> Expected:
    sound(root / "a" / "talk.wav", 2.0)
    sound(root / "a" / "other.flac")
    text(root / "train" / "wav.scp", f"talk {root}/a/talk.wav", f"other flac -c -d -s {root}/a/other.flac |")
    text(root / "train" / "segments", "u1 talk 0.25 1.0", "u2 talk 1.0 -1", "u3 other 0 0.5")
    text(root / "train" / "text", "u1 hello there", "u2", "u3 you")
    text(root / "train" / "utt2spk", "u1 ann", "u2 ann", "u3 u3")
    text(root / "dev" / "wav.scp", "d1 a/other.flac")
    text(root / "dev" / "text", "d1 you")
    return {
        "dev": [("d1", None, "you")],
        "train": [("u1", "ann", "hello there"), ("u2", "ann", ""), ("u3", None, "you")],
    }


def mkdir(path: Path) -> Path:
    """The folder, made."""
    path.mkdir(parents=True, exist_ok=True)
    return path


MAKERS: dict[str, Callable[[Path], Expected]] = {
    name: globals()[f"make_{name}"] for name in CORPORA if name != "an4"
}  # AN4 has tests of its own
