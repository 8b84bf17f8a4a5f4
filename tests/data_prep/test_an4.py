"""AN4 in miniature, in the publisher's layout and in each of its forms; and the corpus itself where it is at hand."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile

from asr.corpora import an4
from asr.data.manifest import read_manifest
from asr.errors import AsrWarning, DataError

pytestmark = pytest.mark.filterwarnings("error::asr.errors.AsrWarning")

FORMS = ("flac", "wav", "sph", "raw-little", "raw-big")
LISTS = {
    "train": [
        ("an4_clstk/fash/an251-fash-b", "YES"),
        ("an4_clstk/fjam/cen1-fjam-b", "P I T T S B U R G H"),  # of DEV_SPEAKERS
        ("an4_clstk/mjgk/cen2-mjgk-b", ""),
        ("an4_clstk/mmaf/an9-mmaf-b", "RUBOUT G  M"),  # of DEV_SPEAKERS
    ],
    "test": [("an4test_clstk/fcaw/an406-fcaw-b", "ERASE C Q"), ("an4test_clstk/marh/cen7-marh-b", "ONE")],
}
SAMPLES = {
    file_id: (3000 * np.sin(np.arange(1600 + 100 * index) * (0.1 + 0.02 * index))).astype(np.int16)
    for index, (file_id, _) in enumerate(LISTS["train"] + LISTS["test"])
}
COUNTS = {"train": (4, 14), "test": (2, 4)}
DIGEST = hashlib.sha256(b"".join(samples.astype("<i2").tobytes() for samples in SAMPLES.values())).hexdigest()


def miniature(root: Path, form: str) -> Path:
    """A corpus of six utterances below root/an4."""
    etc = root / "an4" / "etc"
    etc.mkdir(parents=True)
    for name, entries in LISTS.items():
        line = "<s> {} </s> ({})\n" if name == "train" else "{} ({})\n"
        (etc / f"an4_{name}.fileids").write_text("".join(f"{file_id}\n" for file_id, _ in entries))
        lines = (line.format(text, file_id.rsplit("/", 1)[-1]) for file_id, text in entries)
        (etc / f"an4_{name}.transcription").write_text("".join(lines))
    (etc / "an4.dic").write_text("A                    AH\nA(2)                 EY\nYES\t  Y EH S \n")
    for file_id, samples in SAMPLES.items():
        path = root / "an4" / "wav" / file_id
        path.parent.mkdir(parents=True, exist_ok=True)
        if form.startswith("raw"):
            path.with_suffix(".raw").write_bytes(samples.astype("<i2" if form == "raw-little" else ">i2").tobytes())
        else:
            file_format = {"sph": "NIST"}.get(form)
            soundfile.write(path.with_suffix(f".{form}"), samples, 16000, subtype="PCM_16", format=file_format)
    return root / "an4"


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature counts as CMU's corpus."""
    monkeypatch.setattr(an4, "_COMPLETE", COUNTS)
    monkeypatch.setattr(an4, "SAMPLES_SHA256", DIGEST)


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str) -> None:
    corpus = miniature(tmp_path, form)
    made = an4.prepare(source=corpus, output=tmp_path / "out")
    assert list(made) == ["train", "dev", "test", "lexicon"]
    splits = {name: read_manifest(made[name], check_audio=True) for name in ("train", "dev", "test")}
    assert {name: [(u.id, u.speaker, u.text) for u in members] for name, members in splits.items()} == {
        "train": [("an251-fash-b", "fash", "YES"), ("cen2-mjgk-b", "mjgk", "")],
        "dev": [("cen1-fjam-b", "fjam", "P I T T S B U R G H"), ("an9-mmaf-b", "mmaf", "RUBOUT G M")],
        "test": [("an406-fcaw-b", "fcaw", "ERASE C Q"), ("cen7-marh-b", "marh", "ONE")],
    }
    assert made["lexicon"].read_text() == "A AH\nA(2) EY\nYES Y EH S\n"
    by_id = {file_id.rsplit("/", 1)[-1]: samples for file_id, samples in SAMPLES.items()}
    for name, members in splits.items():
        cuts = lhotse.CutSet.from_file(made[name]).to_eager()
        for utterance in members:
            samples = by_id[utterance.id]
            np.testing.assert_array_equal(soundfile.read(utterance.audio, dtype="int16")[0], samples)
            np.testing.assert_array_equal(cuts[utterance.id].load_audio()[0] * 32768, samples)
            assert utterance.duration_seconds == len(samples) / 16000
            assert utterance.audio.is_relative_to(corpus if form in ("flac", "wav") else tmp_path / "out")


@pytest.mark.usefixtures("complete")
def test_again_is_instant_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = miniature(tmp_path, "flac")
    made = an4.prepare(source=corpus, output=tmp_path / "out")
    before = {path: path.read_bytes() for path in made.values()}
    with monkeypatch.context() as patch:
        patch.setattr(an4, "_collect", None)  # nothing is looked at again
        assert an4.prepare(source=corpus, output=tmp_path / "out") == made
    made["dev"].unlink()  # but what is gone is made again
    assert an4.prepare(source=corpus, output=tmp_path / "out") == made
    assert {path: path.read_bytes() for path in made.values()} == before
    other = miniature(tmp_path / "elsewhere", "flac")  # and another source is looked at
    an4.prepare(source=other, output=tmp_path / "out")
    assert read_manifest(made["test"])[0].audio.is_relative_to(other)


@pytest.mark.usefixtures("complete")
def test_interrupted_it_is_not_taken_for_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = miniature(tmp_path / "one", "flac"), miniature(tmp_path / "other", "raw-big")
    made = an4.prepare(source=one, output=tmp_path / "out")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(an4, "write_whole", interrupt)  # the manifests are written, the lexicon and the marker are not
        with pytest.raises(KeyboardInterrupt):
            an4.prepare(source=other, output=tmp_path / "out")
    an4.prepare(source=one, output=tmp_path / "out")
    assert read_manifest(made["test"], check_audio=True)[0].audio.is_relative_to(one)


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("source", ["folder above", "archive"])
def test_other_sources(tmp_path: Path, source: str) -> None:
    corpus = miniature(tmp_path / "in", "sph")
    archive = tmp_path / "an4_sphere.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(corpus, "an4")
    made = an4.prepare(source=archive if source == "archive" else corpus.parent, output=tmp_path / "out")
    assert len(read_manifest(made["test"], check_audio=True)) == 2
    assert archive.exists()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine: its address, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("form", FORMS)
def test_without_a_source_it_is_downloaded(tmp_path: Path, served: tuple[str, Path], form: str) -> None:
    address, folder = served
    archive = folder / "an4_form.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(miniature(tmp_path / "in", form), "an4")
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    arguments = {"source": None, "output": tmp_path / "out", "url": f"{address}/{archive.name}"}
    with pytest.raises(DataError, match="must have sha256:000"):
        an4.prepare(**arguments, checksum=f"sha256:{'0' * 64}")
    made = an4.prepare(**arguments, checksum=checksum)
    assert [len(read_manifest(made[name], check_audio=True)) for name in ("train", "dev", "test")] == [2, 2, 2]
    assert not list((tmp_path / "out").glob("*.tar.gz*"))
    archive.unlink()
    (tmp_path / "out" / ".complete.json").unlink()
    assert an4.prepare(**arguments, checksum=checksum) == made  # what was extracted is not fetched again


def test_missing_audio_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(an4, "_COMPLETE", COUNTS)
    corpus = miniature(tmp_path, "wav")
    lost = corpus / "wav/an4_clstk/fash/an251-fash-b.wav"
    lost.rename(tmp_path / "lost.wav")
    message = r"1 of 6 audio files are missing \(an4_clstk/fash/an251-fash-b\)"
    with pytest.warns(AsrWarning, match=message):
        made = an4.prepare(source=corpus, output=tmp_path / "out")
    assert [u.id for u in read_manifest(made["train"])] == ["cen2-mjgk-b"]
    shutil.move(tmp_path / "lost.wav", lost)  # not complete, so looked at again
    monkeypatch.setattr(an4, "SAMPLES_SHA256", DIGEST)
    an4.prepare(source=corpus, output=tmp_path / "out")
    assert len(read_manifest(made["train"])) == 2


def test_lists_and_samples_that_are_not_cmus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = miniature(tmp_path, "flac")
    counts = "an4_test.fileids has 2 utterances of 4 words, CMU's has 130 of 773"
    with pytest.warns(AsrWarning, match=f"an4: not all of AN4, figures are not comparable: .*; {counts}"):
        an4.prepare(source=corpus, output=tmp_path / "out")
    monkeypatch.setattr(an4, "_COMPLETE", COUNTS)
    with pytest.warns(AsrWarning, match="the samples are not those of CMU's recordings"):
        an4.prepare(source=corpus, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("an4_train.transcription", "(cen1-", "(cen2-", ":2: must be utterance cen1-fjam-b as in an4_train.fileids"),
        ("an4_train.transcription", "(an251-fash-b)", "", ":1: must end in (utterance-id), got '<s> YES </s> '"),
        ("an4_test.transcription", "ONE (cen7-marh-b)\n", "", ":2: must have as many lines as an4_test.fileids"),
        ("an4_test.fileids", "an4test_clstk/marh/cen7-marh-b\n", "", ":2: must have as many lines as an4_test.transcr"),
        ("an4_test.fileids", "an4test_clstk/marh", "../..", ":2: must be folder/speaker/utterance, got '../../"),
        ("an4.dic", "EY", "", ":2: must be a word and its phones, got 'A(2)'"),
        ("an4.dic", None, None, ": cannot be read: "),
        ("an4_train.fileids", None, None, ": must hold etc/an4_train.fileids, as CMU's archives do"),
    ],
)  # fmt: skip
def test_a_bad_list(tmp_path: Path, file: str, old: str | None, new: str | None, message: str) -> None:
    path = miniature(tmp_path, "flac") / "etc" / file
    if old is None or new is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=re.escape(message)):
        an4.prepare(source=tmp_path, output=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("flac", b"not audio", "must be audio that libsndfile reads"),
        ("raw-big", b"123", "must hold whole 16-bit samples, got 3 bytes"),
        ("raw-little", b"", "must hold whole 16-bit samples, got 0 bytes"),
        ("wav", (100, 8000, 2), r"must be 16000 Hz mono audio, got 100 samples at 8000 Hz with 2 channel\(s\)"),
        ("wav", (0, 16000, 1), r"must be 16000 Hz mono audio, got 0 samples at 16000 Hz with 1 channel\(s\)"),
    ],
)
def test_a_bad_recording(tmp_path: Path, form: str, data: bytes | tuple[int, int, int], message: str) -> None:
    path = next(miniature(tmp_path, form).glob("wav/an4_clstk/fjam/*"))
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        samples, sample_rate, channels = data
        soundfile.write(path, np.zeros((samples, channels), np.int16), sample_rate)
    with pytest.raises(DataError, match=f"{path.name}: {message}"):
        an4.prepare(source=tmp_path, output=tmp_path / "out")


def test_an_empty_split(tmp_path: Path) -> None:
    for folder in ("fjam", "mmaf"):
        shutil.rmtree(miniature(tmp_path / folder, "flac") / "wav" / "an4_clstk" / folder)
    shutil.rmtree(tmp_path / "fjam" / "an4" / "wav" / "an4_clstk" / "mmaf")
    with pytest.raises(DataError, match="holds no audio for the dev set of AN4"):
        an4.prepare(source=tmp_path / "fjam", output=tmp_path / "out")


REAL = Path(os.environ.get("ASR_AN4", "../shared/corpora/an4"))
needs_corpus = pytest.mark.skipif(not REAL.is_dir(), reason=f"AN4 is not at {REAL} (set ASR_AN4)")


@needs_corpus
def test_the_corpus(tmp_path: Path) -> None:
    made = an4.prepare(source=REAL, output=tmp_path)
    splits = {name: read_manifest(made[name]) for name in ("train", "dev", "test")}
    speakers = {name: {u.speaker for u in members} for name, members in splits.items()}
    figures = {
        name: (len(members), len(speakers[name]), sum(len(u.text.split()) for u in members))
        for name, members in splits.items()
    }
    assert figures == {"train": (859, 67, 4948), "dev": (89, 7, 494), "test": (130, 10, 773)}
    assert not (speakers["train"] & speakers["dev"] or speakers["train"] & speakers["test"])
    assert speakers["dev"] == set(an4.DEV_SPEAKERS)
    minutes = {name: sum(u.duration_seconds for u in members) / 60 for name, members in splits.items()}
    assert minutes["train"] + minutes["dev"] == pytest.approx(42.44, abs=0.005)
    assert minutes["test"] == pytest.approx(5.95, abs=0.005)
    assert {character for members in splits.values() for u in members for character in u.text} == set(
        " ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    )
    words = {line.split()[0] for line in made["lexicon"].read_text().splitlines()}
    assert {word for members in splits.values() for u in members for word in u.text.split()} <= words
    assert len(made["lexicon"].read_text().splitlines()) == len(words) == 130
    assert json.loads((tmp_path / ".complete.json").read_text())["origin"] == os.path.abspath(REAL)


@needs_corpus
def test_the_byte_order_is_told_from_any_file(tmp_path: Path) -> None:
    path = tmp_path / "x.raw"
    for file in sorted(REAL.glob("wav/*/*/*.flac"))[::7]:
        samples, _ = soundfile.read(file, dtype="int16")
        for order in ("<", ">"):
            path.write_bytes(samples.astype(f"{order}i2").tobytes())
            assert an4._byte_order([path]) == order


@needs_corpus
def test_the_dev_speakers_are_chosen_as_documented() -> None:
    speakers = {line.split("/")[1] for line in (REAL / "etc/an4_train.fileids").read_text().split()}
    ranked = sorted(speakers, key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest())
    women, men = ([speaker for speaker in ranked if speaker[0] == sex] for sex in "fm")
    assert (*women[:2], *men[:5]) == an4.DEV_SPEAKERS
