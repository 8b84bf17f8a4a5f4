"""Every corpus in miniature, in its publisher's layout: read from a folder, from its archive, and from a server."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import tarfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import lhotse
import pytest

from asr.audio.waveform import read_audio
from asr.cli import data_prepare
from asr.corpora import aishell, commonvoice, fsdd, kaldi, librispeech, mls, timit, vctk, yesno
from asr.corpora.corpus import Archive, Corpus, Entry
from asr.data.manifest import read_manifest
from asr.errors import AsrWarning, ConfigError, DataError
from tests.archive_server import serving
from tests.miniatures import (
    MAKERS,
    Expected,
    make_commonvoice,
    make_fsdd,
    make_kaldi,
    make_librispeech,
    make_mini_librispeech,
    make_mls,
    make_speechcommands,
    make_timit,
    make_vctk,
    make_yesno,
    mkdir,
    sound,
    text,
)

DOWNLOADED = [name for name in MAKERS if name not in ("commonvoice", "kaldi", "timit")]


def found(made: dict[str, Path]) -> Expected:
    return {
        split: [
            (utterance.id, utterance.speaker, utterance.text) for utterance in read_manifest(path, check_audio=True)
        ]
        for split, path in made.items()
    }


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of any size is complete."""
    make = Corpus.__init__
    monkeypatch.setattr(Corpus, "__init__", lambda self, **options: make(self, **{**options, "sizes": {}}))
    for name in MAKERS:
        module = module_of(name)
        if hasattr(module, "CORPUS"):
            corpus = replace(module.CORPUS)
            monkeypatch.setattr(module, "CORPUS", corpus)
            monkeypatch.setattr(module, "prepare", corpus.prepare)


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"asr.corpora.{name}")


@pytest.mark.usefixtures("complete")
@pytest.mark.filterwarnings("error::asr.errors.AsrWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_the_layout(tmp_path: Path, name: str) -> None:
    expected = MAKERS[name](tmp_path / "in")
    made = module_of(name).prepare(source=tmp_path / "in", output=tmp_path / "out", progress=False)
    assert found(made) == expected
    assert (tmp_path / "out" / ".complete.json").is_file()
    before = {path: path.read_bytes() for path in made.values()}
    for path in made.values():
        for cut in lhotse.CutSet.from_file(path):
            # Lhotse opens SPHERE files with a program of its own, which is not here.
            if cut.recording.sources[0].source.endswith((".sph", ".WAV")):
                continue
            assert cut.load_audio().shape == (1, cut.num_samples)
    shutil.rmtree(tmp_path / "in")  # nothing is looked at again
    assert module_of(name).prepare(source=tmp_path / "in", output=tmp_path / "out", progress=False) == made
    assert {path: path.read_bytes() for path in made.values()} == before


def pack(folder: Path, archive: str) -> bytes:
    """What is in a folder, as an archive of the kind that the name says."""
    content = io.BytesIO()
    if archive.endswith(".zip"):
        with zipfile.ZipFile(content, "w") as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(folder))
    else:
        kind = "bz2" if archive.endswith("bz2") else "gz"
        with tarfile.open(fileobj=content, mode=f"w:{kind}", compresslevel=1) as tar:  # type: ignore[call-overload]
            tar.add(folder, ".")
    return content.getvalue()


def archives_of(module: ModuleType) -> tuple[Archive, ...]:
    archives = getattr(module, "ARCHIVES", None)
    return tuple(archives.values()) if isinstance(archives, dict) else archives or module.CORPUS.archives


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_archive_from_a_server(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(name)
    arguments: dict[str, Any] = {}
    if name == "mls":
        arguments = {"options": mls.Options(language="polish")}
        names = ["mls_polish_opus.tar.gz"]
    else:
        names = [archive.url.rsplit("/", 1)[-1] for archive in archives_of(module)]
    expected = MAKERS[name](tmp_path / "in")
    if name == "librispeech":
        names = ["train-clean-100.tar.gz", "dev-clean.tar.gz"]
        arguments = {"options": librispeech.Options(parts=("train-clean-100", "dev-clean"))}
    files: dict[str, bytes] = {}
    for archive in names:  # each part of LibriSpeech in an archive of its own
        packed = tmp_path / "pack"
        shutil.copytree(tmp_path / "in", packed, symlinks=True)
        if "librispeech" in name:
            for folder in (packed / "LibriSpeech").iterdir():
                if folder.is_dir() and folder.name != archive.removesuffix(".tar.gz"):
                    shutil.rmtree(folder)
        files[f"/{archive}"] = pack(packed, archive)
        shutil.rmtree(packed)
    with serving(files) as server:
        archives = tuple(
            Archive(url=f"{server.url}/{archive}", checksum=f"md5:{hashlib.md5(files[f'/{archive}']).hexdigest()}")
            for archive in names
        )
        if name == "mls":
            monkeypatch.setattr(mls, "URL", server.url)
        elif name == "librispeech":
            monkeypatch.setattr(
                librispeech, "ARCHIVES", dict(zip(("train-clean-100", "dev-clean"), archives, strict=True))
            )
        elif hasattr(module, "CORPUS"):
            monkeypatch.setattr(module, "prepare", replace(module.CORPUS, archives=archives).prepare)
        else:
            monkeypatch.setattr(module, "ARCHIVES", archives)
        server.cut_after = [len(files[f"/{names[0]}"]) // 2]  # and resumed
        made = module.prepare(output=tmp_path / "out", progress=False, **arguments)
        assert [path for path, asked, _ in server.requests] == [f"/{names[0]}"] + [f"/{name}" for name in names]
    assert found(made) == expected
    left = {path.name for path in (tmp_path / "out" / "corpus").iterdir()}
    assert not any(name.endswith((".tar.gz", ".tgz", ".zip", ".bz2", ".part")) for name in left)


@pytest.mark.usefixtures("complete")
def test_an_archive_on_disk(tmp_path: Path) -> None:
    for number in (1, 2):  # a file replaced by another of its name is another corpus
        expected = make_yesno(tmp_path / f"in{number}")
        if number == 2:
            name, *_ = expected["train"].pop()
            (tmp_path / "in2" / "waves_yesno" / f"{name}.wav").unlink()
        archive = tmp_path / "waves_yesno.tar.gz"
        archive.write_bytes(pack(tmp_path / f"in{number}", archive.name))
        (tmp_path / "out" / ".complete.json").unlink(missing_ok=True)
        assert found(yesno.prepare(source=archive, output=tmp_path / "out")) == expected
    assert archive.is_file()


@pytest.fixture
def small_yesno(tmp_path: Path) -> tuple[bytes, str]:
    """The archive of a small yesno, and its checksum."""
    make_yesno(tmp_path / "in")
    content = pack(tmp_path / "in", "waves_yesno.tar.gz")
    return content, f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_server_at_its_worst(tmp_path: Path, small_yesno: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch) -> None:
    content, checksum = small_yesno
    output = tmp_path / "out"
    with serving({"/waves_yesno.tar.gz": content}) as server:

        def corpus(path: str = "waves_yesno.tar.gz", checksum: str | None = checksum) -> Corpus:
            archive = Archive(url=f"{server.url}/{path}", checksum=checksum)
            return replace(yesno.CORPUS, archives=(archive,), sizes={})

        def fails(message: str, corpus: Corpus) -> None:
            with pytest.raises(DataError, match=message):
                corpus.prepare(output=output)
            assert not (output / ".complete.json").exists()
            assert not list(output.glob("*.jsonl.gz"))
            assert not (output / "corpus" / "waves_yesno").exists()

        fails("the server must send the file, answered 404", corpus("nothing.tar.gz"))
        fails(
            r"must have sha256:0{64}, has sha256:\w+; the downloaded file was deleted",
            corpus(checksum=f"sha256:{'0' * 64}"),
        )
        server.cut_after = [1000, 0]
        fails("the connection ended early", corpus())
        with monkeypatch.context() as patch:
            usage = shutil.disk_usage(tmp_path)
            patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
            fails("the disk must have room for at least", corpus())
        server.files["/truncated.tar.gz"] = content[:-1000]
        fails("is truncated, damaged or not a tar or zip archive", corpus("truncated.tar.gz", checksum=None))
        assert not (output / "corpus" / "truncated.tar.gz").exists()  # else it would be found again, and fail for ever
        made = corpus().prepare(output=output)
    assert len(read_manifest(made["train"], check_audio=True)) == 8
    requests = len(server.requests)
    assert corpus().prepare(output=output) == made  # without the server
    (output / ".complete.json").unlink()
    assert corpus().prepare(output=output) == made  # what was unpacked is not fetched again
    assert len(server.requests) == requests


def test_interrupted_between_manifests(
    tmp_path: Path, small_yesno: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = replace(yesno.CORPUS, sizes={})
    made = corpus.prepare(source=tmp_path / "in", output=tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "in", other)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("asr.corpora.corpus.write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            corpus.prepare(source=other, output=tmp_path / "out")
    assert not (tmp_path / "out" / ".complete.json").exists()
    assert corpus.prepare(source=other, output=tmp_path / "out") == made
    assert read_manifest(made["train"])[0].audio.is_relative_to(other)


@pytest.mark.parametrize("marker", ["", "{", "[]", "{}", '{"splits": 3}', '{"splits": ["train"]}'])
def test_a_damaged_marker_is_no_marker(tmp_path: Path, small_yesno: tuple[bytes, str], marker: str) -> None:
    corpus = replace(yesno.CORPUS, sizes={})
    made = corpus.prepare(source=tmp_path / "in", output=tmp_path / "out")
    made["train"].write_text("")
    (tmp_path / "out" / ".complete.json").write_text(marker)
    assert len(read_manifest(corpus.prepare(source=tmp_path / "in", output=tmp_path / "out")["train"])) == 8


def test_what_is_missing_is_named_and_nothing_is_called_complete(tmp_path: Path) -> None:
    make_speech = make_speechcommands(tmp_path)
    lost = tmp_path / "no" / "aa_nohash_0.wav"
    lost.unlink()
    prepare = replace(module_of("speechcommands").CORPUS, sizes={"train": 1, "dev": 3}).prepare
    reasons = r"utterances without an audio file: 1 \(no-aa_nohash_0\); dev has 1 utterances, the publisher's 3$"
    with pytest.warns(AsrWarning, match=f"not all of Speech Commands, figures are not comparable: {reasons}"):
        made = prepare(source=tmp_path, output=tmp_path / "out")
    assert found(made) == {**make_speech, "test": []}
    assert not (tmp_path / "out" / ".complete.json").exists()
    sound(lost)
    with pytest.warns(AsrWarning, match="dev has 1"):
        assert found(prepare(source=tmp_path, output=tmp_path / "out")) == make_speech


def test_segments_beyond_their_recording(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 1.0)

    def read(root: Path) -> list[Entry]:
        spans = {"in": (0.0, 0.5), "rounded": (0.5, 1.01), "over": (0.5, 1.1), "past": (1.0, 2.0), "empty": (0.5, 0.5)}
        return [
            Entry(split="all", id=name, audio=root / "a.wav", text="", start_seconds=start, end_seconds=end)
            for name, (start, end) in spans.items()
        ]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AsrWarning)
        made = Corpus(name="x", read=read).prepare(source=tmp_path, output=tmp_path / "out")
    said = [str(warning.message) for warning in caught if warning.category is AsrWarning]
    assert said[0] == "x: utterances end after their recordings, and are shortened: 1 (over)"
    assert said[1].endswith("utterances that are empty or begin after their recordings end: 2 (past, empty)")
    durations = {utterance.id: utterance.duration_seconds for utterance in read_manifest(made["all"])}
    assert durations == {"in": 0.5, "rounded": 0.5, "over": 0.5}


def test_no_audio(tmp_path: Path) -> None:
    make_yesno(tmp_path)
    path = next((tmp_path / "waves_yesno").glob("*.wav"))
    path.write_bytes(b"not audio")
    with pytest.warns(AsrWarning, match=rf"not all of yesno.*whose audio libsndfile cannot read: 1 \({path.stem}\)"):
        made = yesno.prepare(source=tmp_path, output=tmp_path / "out")
    assert path.stem not in {each.id for manifest in made.values() for each in read_manifest(manifest)}
    with pytest.raises(DataError, match="in: no such folder or archive"):
        yesno.prepare(source=tmp_path / "in", output=tmp_path / "out")
    with pytest.raises(DataError, match=f"^{tmp_path}: must hold audio of x, but there is none"):
        Corpus(name="x", read=lambda _: []).prepare(source=tmp_path, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aishell", "must hold transcript/aishell_transcript_v0.8.txt, as the publisher's archive does"),
        ("commonvoice", "must hold train.tsv, as the archive of a language does"),
        ("fsdd", "must hold"),
        ("kaldi", "must be a Kaldi data directory, or hold some, but there is no wav.scp"),
        ("librispeech", "must hold one of train-clean-100, train-clean-360"),
        ("mini_librispeech", "must hold one of train-clean-5, dev-clean-2"),
        ("ljspeech", "must hold metadata.csv"),
        ("mls", "must hold mls_"),
        ("speechcommands", "must hold testing_list.txt"),
        ("tedlium3", "must hold legacy/train/stm"),
        ("thchs30", "must hold data_thchs30/data/"),
        ("timit", "must hold audio of TIMIT, but there is none"),
        ("vctk", "must hold wav48_silence_trimmed/"),
        ("yesno", "must hold"),
    ],
)
def test_another_folder(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: {message}")):
        module_of(name).prepare(source=tmp_path, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "file", "line", "message"),
    [
        ("commonvoice", "cv-corpus-20.0-2024-12-06/pt/dev.tsv", "c\tx.mp3", ":3: must have client_id, path, sentence"),
        ("commonvoice", "cv-corpus-20.0-2024-12-06/pt/dev.tsv", None, ": cannot be read: "),
        ("tedlium3", "TEDLIUM_release-3/legacy/dev/stm/B_2010.stm", "B 1 B x 2 <o> a", ":5: must be TALK CHANNEL"),
        ("mls", "mls_polish_opus/dev/transcripts.txt", "1_2_3 a", ":2: must be SPEAKER_BOOK_NUMBER, a tab and a text"),
        ("kaldi", "train/wav.scp", "talk x.wav", ":3: names must differ, but 'talk' is also on line 1"),
        ("kaldi", "train/wav.scp", "x sox a.wav -t wav - |", ":3: must be a file, got a command, which is not run"),
        ("kaldi", "train/wav.scp", "x sph2pipe -c 2 a.sph |", ":3: must be a file, got a command, which is not run"),
        ("kaldi", "train/wav.scp", "x |", ":3: must be a file, got a command, which is not run"),
        ("kaldi", "train/wav.scp", "x sph2pipe a.sph -c |", ":3: must be a file, got a command, which is not run"),
        ("kaldi", "train/wav.scp", "x sox it's.wav -t wav - |", ":3: must be a file, got a command, which is not run"),
        ("kaldi", "train/segments", "u4 talk -2 1", ":4: must be UTTERANCE RECORDING START END"),
        ("kaldi", "train/segments", "u4 talk nan 1", ":4: must be UTTERANCE RECORDING START END"),
        ("kaldi", "train/segments", "u4 talk 0", ":4: must be UTTERANCE RECORDING START END"),
        ("kaldi", "train/segments", "u4 talk 0 one", ":4: must be UTTERANCE RECORDING START END"),
        ("kaldi", "train/segments", "u4 gone 0 1", ": must name recordings of wav.scp, but 'gone' is none"),
        ("kaldi", "train/segments", "u4 talk 0 1", "text: must have a line for 'u4'"),
        ("kaldi", "train/text", None, "text: cannot be read: "),
        ("ljspeech", "LJSpeech-1.1/metadata.csv", "LJ9|one", ": must be as published, but Lhotse's recipe fails: "),
    ],
)  # fmt: skip
def test_a_bad_list(tmp_path: Path, name: str, file: str, line: str | None, message: str) -> None:
    MAKERS[name](tmp_path)
    path = tmp_path / file
    if line is None:
        path.unlink()
    else:
        path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=re.escape(message)):
        module_of(name).prepare(source=tmp_path, output=tmp_path / "out")


@pytest.mark.usefixtures("complete")
def test_what_lhotse_leaves_out_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_mini_librispeech(tmp_path / "in")
    next((tmp_path / "in").rglob("103-1240-0000.flac")).unlink()
    with pytest.warns(AsrWarning, match=r"train-clean-5: 1 notes by Lhotse's recipe, the first: No such file: .*0000"):
        made = module_of("mini_librispeech").prepare(source=tmp_path / "in", output=tmp_path / "out", progress=False)
    assert len(read_manifest(made["train-clean-5"])) == 1
    assert capfd.readouterr() == ("", "")  # no bars of Lhotse's


# The options of single corpora.


@pytest.mark.usefixtures("complete")
def test_fsdd_with_a_speaker_held_out(tmp_path: Path) -> None:
    make_fsdd(tmp_path)
    for speaker, test in (("theo", ["0_theo_0", "1_theo_10", "3_theo_5"]), ("lucas", ["8_lucas_49"])):
        made = fsdd.prepare(source=tmp_path, output=tmp_path / "out", options=fsdd.Options(held_out=speaker))
        splits = {split: read_manifest(path) for split, path in made.items()}
        assert sorted(utterance.id for utterance in splits["test"]) == test
        assert not {utterance.speaker for split in ("train", "dev") for utterance in splits[split]} & {speaker}
        assert sum(map(len, splits.values())) == 6
    with pytest.raises(ConfigError, match=r"held_out must be one of george, .*, got 'bob'"):
        fsdd.Options(held_out="bob")


@pytest.mark.usefixtures("complete")
def test_parts_of_librispeech(tmp_path: Path) -> None:
    expected = make_librispeech(tmp_path)
    for parts in (("dev-clean",), ()):
        options = librispeech.Options(parts=parts)
        made = librispeech.prepare(source=tmp_path / "LibriSpeech", output=tmp_path / "out", options=options)
        assert found(made) == {part: expected[part] for part in parts or expected}
    with pytest.raises(DataError, match="must hold test-other/"):
        options = librispeech.Options(parts=("dev-clean", "test-other"))
        librispeech.prepare(source=tmp_path, output=tmp_path / "out", options=options)
    with pytest.raises(ConfigError, match=r"parts must be some of train-clean-100, .*, got 'dev'"):
        librispeech.Options(parts=("dev",))


@pytest.mark.usefixtures("complete")
def test_a_language_of_common_voice(tmp_path: Path) -> None:
    expected = make_commonvoice(tmp_path)
    release = tmp_path / "cv-corpus-20.0-2024-12-06"
    assert found(commonvoice.prepare(source=release / "pt", output=tmp_path / "one")) == expected
    shutil.copytree(release / "pt", release / "de")
    with pytest.raises(ConfigError, match="the language must be one of de, pt, got ''"):
        commonvoice.prepare(source=release, output=tmp_path / "out")
    options = commonvoice.Options(language="pt")
    assert found(commonvoice.prepare(source=release, output=tmp_path / "out", options=options)) == expected
    with pytest.raises(ConfigError, match="Common Voice cannot be downloaded by a program: get it from https://common"):
        commonvoice.prepare(output=tmp_path / "new")


@pytest.mark.usefixtures("complete")
def test_a_language_of_mls(tmp_path: Path) -> None:
    expected = make_mls(tmp_path)
    options = mls.Options(language="polish")
    for source in (tmp_path, tmp_path / "mls_polish_opus"):
        assert found(mls.prepare(source=source, output=tmp_path / "out", options=options)) == expected
    with pytest.raises(DataError, match=r"must hold mls_dutch\*/train/transcripts.txt"):
        mls.prepare(source=tmp_path, output=tmp_path / "out", options=mls.Options(language="dutch"))
    with pytest.raises(ConfigError, match=r"the language to download must be one of dutch, .*, but none is given"):
        mls.prepare(output=tmp_path / "new")
    with pytest.raises(ConfigError, match=r"language must be one of dutch, .*, got 'klingon'"):
        mls.Options(language="klingon")


@pytest.mark.usefixtures("complete")
def test_a_microphone_of_vctk(tmp_path: Path) -> None:
    make_vctk(tmp_path)
    made = vctk.prepare(source=tmp_path, output=tmp_path / "out", options=vctk.Options(microphone="mic1"))
    assert [utterance.id for utterance in read_manifest(made["all"])] == ["p225_001_mic1"]


@pytest.mark.usefixtures("complete")
def test_timit_in_lower_case_and_converted(tmp_path: Path) -> None:
    expected = make_timit(tmp_path / "in")
    for path in sorted((tmp_path / "in").rglob("*.WAV"), key=str):
        target = tmp_path / "lower" / str(path.relative_to(tmp_path / "in")).lower()
        mkdir(target.parent)
        shutil.copy(path.with_suffix(".TXT"), target.with_suffix(".txt"))
        sound(target)
    assert found(timit.prepare(source=tmp_path / "lower", output=tmp_path / "out")) == expected
    text(next((tmp_path / "in").rglob("SX37.TXT")), "She had")
    with pytest.raises(DataError, match=r"SX37.TXT: must be FIRST LAST TEXT, with numbers of samples, got 'She had'"):
        timit.prepare(source=tmp_path / "in", output=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"TIMIT cannot be downloaded by a program: get it from https://catalog.ldc"):
        timit.prepare(output=tmp_path / "new")


def test_the_sample_of_aishell(tmp_path: Path) -> None:
    lines = ["path\ttranscript\tspeaker\tseconds"]
    for number in range(20):
        speaker = "S0150" if number % 2 else "S0252"
        sound(tmp_path / "opus" / speaker / f"{number}.opus")
        lines.append(f"opus/{speaker}/{number}.opus\t好棒\t{speaker}\t0.5")
    text(tmp_path / "manifest.tsv", *lines)
    made = aishell.prepare(source=tmp_path, output=tmp_path / "out")
    assert {split: len(members) for split, members in found(made).items()} == {"train": 16, "dev": 2, "test": 2}
    options = aishell.Options(held_out="S0150")
    apart = found(aishell.prepare(source=tmp_path, output=tmp_path / "out", options=options))
    assert {speaker for _, speaker, _ in apart["test"]} == {"S0150"}
    assert {speaker for split in ("train", "dev") for _, speaker, _ in apart[split]} == {"S0252"}
    assert sum(map(len, apart.values())) == 20
    with pytest.raises(ConfigError, match="held_out must be one of S0150, S0252, got 'S1'"):
        aishell.prepare(source=tmp_path, output=tmp_path / "out", options=aishell.Options(held_out="S1"))
    with pytest.raises(ConfigError, match="held_out is for the sample"):
        aishell.prepare(output=tmp_path / "out", options=options)


@pytest.mark.parametrize(
    ("columns", "line", "message"),
    [
        ("path\tspeaker", "a.wav\tS0150", r"manifest\.tsv: must have the columns path, transcript, speaker"),
        (
            "path\ttranscript\tspeaker",
            "a.wav\t好棒",
            r"manifest\.tsv:2: must have a value in each column, but some are",
        ),
        ("path\ttranscript\tspeaker", f"{'a' * 200_000}\t好棒\tS0150", r"manifest\.tsv: cannot be read: field larger"),
    ],
)
def test_a_bad_sample_of_aishell(tmp_path: Path, columns: str, line: str, message: str) -> None:
    text(tmp_path / "manifest.tsv", columns, line)
    with pytest.raises(DataError, match=message):
        aishell.prepare(source=tmp_path, output=tmp_path / "out")


@pytest.mark.usefixtures("complete")
def test_one_kaldi_directory_beside_its_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make_kaldi(tmp_path)
    assert found(kaldi.prepare(source=tmp_path / "train", output=tmp_path / "o1")) == {"train": expected["train"]}
    utterances = read_manifest(tmp_path / "o1" / "train.jsonl.gz")
    assert [(u.start_seconds, u.duration_seconds) for u in utterances] == [(0.25, 0.75), (1.0, 1.0), (0.0, 0.5)]


@pytest.mark.usefixtures("complete")
def test_kaldi_lists_with_empty_lines_odd_characters_and_more_texts_than_sound(tmp_path: Path) -> None:
    expected = make_kaldi(tmp_path)
    with open(tmp_path / "train" / "text", "a", encoding="utf-8") as file:
        file.write("\n  \nnobody said this\n")
    lines = (tmp_path / "train" / "text").read_text().replace(" ", " \u2028", 1)  # no end of a line
    (tmp_path / "train" / "text").write_text(lines)
    with pytest.warns(AsrWarning, match="text: 1 utterances without sound are left out, the first is 'nobody'"):
        made = kaldi.prepare(source=tmp_path / "train", output=tmp_path / "out")
    assert [id_ for id_, *_ in found(made)["train"]] == [id_ for id_, *_ in expected["train"]]


def test_a_source_that_has_changed_is_read_again(tmp_path: Path, small_yesno: tuple[bytes, str]) -> None:
    corpus = replace(yesno.CORPUS, sizes={})
    source, output = tmp_path / "in", tmp_path / "in" / "out"
    made = corpus.prepare(source=source, output=output)
    before = made["train"].read_bytes()
    made["train"].write_bytes(b"as it was")
    corpus.prepare(source=source, output=output)
    assert made["train"].read_bytes() == b"as it was"  # nothing to do: not even where the output is in the source
    (source / "more.txt").write_text("a list")
    corpus.prepare(source=source, output=output)
    assert made["train"].read_bytes() == before


# What the publishers' archives are called and what is known of them, against what other projects have on record.


def test_checksums_are_those_of_torchaudio() -> None:
    """Read from its source, which needs no torchaudio that loads."""
    if not (found := importlib.util.find_spec("torchaudio")) or not found.submodule_search_locations:
        pytest.skip("torchaudio, which has checksums on record, is not installed")
    recorded: dict[str, str] = {}
    for name in ("librispeech", "ljspeech", "speechcommands", "tedlium", "vctk", "yesno"):
        source = Path(found.submodule_search_locations[0], "datasets", f"{name}.py").read_text()
        recorded |= {
            match[1]: match[2] for match in re.finditer(r'/([\w.-]+)"[:,\s]+(?:"checksum": )?"(\w{64})"', source)
        }
    ours = {
        archive.url.rsplit("/", 1)[-1]: archive.checksum
        for name in ("ljspeech", "speechcommands", "tedlium3", "vctk", "yesno")
        for archive in archives_of(module_of(name))
    }
    assert ours == {file: f"sha256:{recorded[file]}" for file in ours}
    assert {archive.url.rsplit("/", 1)[-1] for archive in librispeech.ARCHIVES.values()} <= recorded.keys()


@pytest.mark.parametrize("name", DOWNLOADED)
def test_archives_are_fetched_safely(name: str) -> None:
    module = module_of(name)
    for archive in () if name == "mls" else archives_of(module):
        assert archive.url.startswith("https://")
        assert name == "fsdd" or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.checksum or "")


@pytest.mark.parametrize("name", data_prepare.CORPORA)
def test_each_module_says_what_the_corpus_is(name: str) -> None:
    about = module_of(name).__doc__ or ""
    words = ("Format",) if name == "kaldi" else ("Maker: ", "Licence: ", "Publisher: ", "Layout")
    for word in ("https://" if name != "an4" else "http://", *words):
        assert word in about
    assert name == "kaldi" or re.search("^(Splits|Parts)[:,]", about, re.MULTILINE)


# The real corpora, where they are at hand.

CORPORA = Path(os.environ.get("ASR_CORPORA", "../shared/corpora"))
needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no corpora at {CORPORA} (set ASR_CORPORA)")


@needs_corpora
@pytest.mark.filterwarnings("error::asr.errors.AsrWarning")
def test_real_yesno(tmp_path: Path) -> None:
    splits = {s: read_manifest(p) for s, p in yesno.prepare(source=CORPORA / "yesno", output=tmp_path).items()}
    assert {split: len(members) for split, members in splits.items()} == {"train": 27, "dev": 4, "test": 29}
    assert all(len(utterance.text.split()) == 8 for members in splits.values() for utterance in members)
    rows = [line.split("\t") for line in (CORPORA / "yesno" / "manifest.tsv").read_text().splitlines()[1:]]
    assert {Path(path).stem: said for path, said, *_ in rows} == {
        utterance.id: utterance.text for members in splits.values() for utterance in members
    }


@needs_corpora
@pytest.mark.filterwarnings("error::asr.errors.AsrWarning")
def test_real_fsdd(tmp_path: Path) -> None:
    splits = {s: read_manifest(p) for s, p in fsdd.prepare(source=CORPORA / "fsdd", output=tmp_path).items()}
    rows = [line.split("\t") for line in (CORPORA / "fsdd" / "manifest.tsv").read_text().splitlines()[1:]]
    assert {Path(path).stem: (said, speaker) for path, said, speaker, _ in rows} == {
        utterance.id: (utterance.text, utterance.speaker) for members in splits.values() for utterance in members
    }
    assert json.loads((tmp_path / ".complete.json").read_text())["splits"] == ["train", "dev", "test"]


@needs_corpora
def test_real_librispeech(tmp_path: Path) -> None:
    samples = CORPORA / "librispeech_samples"
    rows = [line.split("\t") for line in (samples / "manifest.tsv").read_text().splitlines()[1:]]
    for path, said, *_ in rows:
        target = tmp_path / "LibriSpeech" / path
        mkdir(target.parent)
        target.symlink_to((samples / path).resolve())
        speaker, chapter, _ = target.stem.split("-")
        with (target.parent / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{target.stem} {said}\n")
    with pytest.warns(AsrWarning, match="dev-clean has 1 utterances, the publisher's 2703; test-clean has 2"):
        made = librispeech.prepare(source=tmp_path, output=tmp_path / "out")
    assert list(made) == ["dev-clean", "test-clean", "test-other"]
    utterances = [utterance for path in made.values() for utterance in read_manifest(path)]
    assert {(u.id, u.text, u.speaker) for u in utterances} == {(Path(p).stem, said, s) for p, said, s, _ in rows}
    one = utterances[0]
    assert len(read_audio(one.audio)) == round(one.duration_seconds * 16000)


@needs_corpora
def test_real_aishell_sample(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AsrWarning)
        made = aishell.prepare(source=CORPORA / "aishell_sample", output=tmp_path)
    splits = found(made)
    assert {split: len(members) for split, members in splits.items()} == {"train": 800, "dev": 100, "test": 100}
    assert {speaker for members in splits.values() for _, speaker, _ in members} == {"S0150", "S0252"}
