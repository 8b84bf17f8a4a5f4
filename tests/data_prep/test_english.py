"""A miniature collection, in which each line has its reason to be in train, in another set, or left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import english
from asr.data.manifest import read_manifest
from asr.errors import DataError

COLUMNS = "path\ttranscript\tspeaker\tseconds\tsplit"
EIGHT = "one two three four five six seven eight"


def make_corpus(folder: Path, *lines: str, columns: str = COLUMNS) -> Path:
    """A corpus with a second of noise for each line, FLAC or as its suffix says; lines without a path have none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.tsv").write_text("".join(f"{line}\n" for line in (columns, *lines)))
    rng = np.random.default_rng(len(lines))
    for line in lines:
        path = folder / line.partition("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 48000 if path.suffix == ".mp3" else 16000
        waveform = 0.1 * rng.standard_normal(rate)
        if path.suffix:
            soundfile.write(path, waveform, rate)
    return folder


@pytest.fixture
def cmudict(tmp_path: Path) -> Path:
    path = tmp_path / "cmudict.dict"
    path.write_text("one W AH1 N\none(2) HH W AH1 N\ntwo T UW1 # a comment\ncat K AE1 T\nhouse HH AW1 S\n")
    return path


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "collection"
    make_corpus(
        folder / "common_voice_deltas",
        'a/plain.flac\tThe "cats", naïvely!\ta\t1.0\ttrain',
        f"a/close.flac\tand {EIGHT} nine\ta\t1.0\ttrain",  # an eight-word run of dev
        "a/seven.flac\tone two three four five six seven\ta\t1.0\ttrain",  # seven words are no run
        "a/short.flac\tOh no!\ta\t1.0\ttrain",  # all of a short text of test
        "a/longer.flac\toh no no\ta\t1.0\ttrain",
        "a/digits.flac\tin 1984\ta\t1.0\ttrain",
        "a/empty.flac\t...\ta\t1.0\ttrain",
        "b/speaker.flac\tall else\tb\t1.0\ttrain",  # speaks in dev too
        f"b/dev.flac\tzero {EIGHT}\tb\t1.0\tdev",
    )
    make_corpus(
        folder / "librispeech_train_clean_5",
        "read.mp3\tTHEIR HOUSE\tls-1\t1.0\ttrain",
        "held.flac\tHELD OUT\tls-5789\t1.0\ttrain",  # of HELD_OUT
    )
    make_corpus(
        folder / "elsewhere",
        "nobody.flac\tnobody knows\tcv1-unknown-us\t1.0\ttrain",
        "test.flac\toh no\tt\t1.0\ttest",
        "dev.flac\tnot of what choices are made on\tu\t1.0\tdev",
    )
    return folder


def test_every_line_has_its_place(tmp_path: Path, collection: Path, cmudict: Path) -> None:
    notes: list[str] = []
    made = english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", note=notes.append)
    members = {name: read_manifest(path, check_audio=True) for name, path in made.items() if name != "lexicon"}
    assert {name: [utterance.id for utterance in utterances] for name, utterances in members.items()} == {
        "common_voice_deltas-dev": ["common_voice_deltas/dev"],
        "dev": ["common_voice_deltas/dev", "librispeech_train_clean_5/held"],
        "elsewhere-dev": ["elsewhere/dev"],
        "elsewhere-test": ["elsewhere/test"],
        "librispeech_train_clean_5-dev": ["librispeech_train_clean_5/held"],
        "train": [
            "common_voice_deltas/plain",
            "common_voice_deltas/seven",
            "common_voice_deltas/longer",
            "elsewhere/nobody",
            "librispeech_train_clean_5/read",
        ],
    }
    train = {utterance.id: utterance for utterance in members["train"]}
    assert train["common_voice_deltas/plain"].text == 'The "cats", naively!'
    assert train["common_voice_deltas/plain"].speaker == "a"
    assert train["elsewhere/nobody"].speaker is None
    assert sorted(notes) == [
        "1 training utterances left out, because their speaker is in a dev or test set: 1 of common_voice_deltas",
        "2 training utterances left out, because their text has digits or other characters than A to Z and the "
        "apostrophe: 2 of common_voice_deltas",
        "2 training utterances left out, because they share words with a dev or test set: 2 of common_voice_deltas",
    ]


def test_only_what_is_slow_to_read_is_converted(tmp_path: Path, collection: Path, cmudict: Path) -> None:
    made = english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", note=print)
    audio = {utterance.id: utterance.audio for utterance in read_manifest(made["train"])}
    assert audio.pop("librispeech_train_clean_5/read") == tmp_path / "out/audio/librispeech_train_clean_5/read.flac"
    assert all(path.is_relative_to(collection) for path in audio.values())
    [converted] = (tmp_path / "out" / "audio").rglob("*.flac")
    assert soundfile.info(converted).samplerate == 16000
    assert soundfile.info(converted).duration == pytest.approx(1.0, abs=0.1)


def test_nothing_is_converted_if_the_files_are_to_be_kept(tmp_path: Path, collection: Path, cmudict: Path) -> None:
    made = english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", convert=False, note=print)
    utterances = {utterance.id: utterance for utterance in read_manifest(made["train"], check_audio=True)}
    mp3 = utterances["librispeech_train_clean_5/read"]
    assert mp3.audio == collection / "librispeech_train_clean_5" / "read.mp3"
    assert mp3.duration_seconds == pytest.approx(1.0, abs=0.1)
    assert not (tmp_path / "out" / "audio").exists()


def test_again_it_converts_nothing_and_gives_the_same(
    tmp_path: Path, collection: Path, cmudict: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", note=print)
    before = {path: path.read_bytes() for path in made.values()}
    monkeypatch.setattr(english, "read_audio", None)
    assert english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", note=print) == made
    assert {path: path.read_bytes() for path in made.values()} == before


def test_the_lexicon_has_the_dictionary_and_what_the_texts_need(
    tmp_path: Path, collection: Path, cmudict: Path
) -> None:
    made = english.prepare(sources=[collection], cmudict=cmudict, output=tmp_path / "out", note=print)
    assert made["lexicon"].read_text() == "CAT K AE T\nCATS K AE T S\nHOUSE HH AW S\nONE W AH N\nTWO T UW\n"


def test_several_sources_are_one_set(tmp_path: Path, collection: Path, cmudict: Path) -> None:
    more = make_corpus(tmp_path / "more" / "arctic", "more.flac\tmore\tc\t1.0\ttrain").parent
    made = english.prepare(sources=[collection, more], cmudict=cmudict, output=tmp_path / "out", note=print)
    assert [utterance.id for utterance in read_manifest(made["train"])][-1] == "arctic/more"
    make_corpus(more / "elsewhere", "other.flac\tother\tc\t1.0\ttrain")
    with pytest.raises(DataError, match=r"corpora must have different names, but there is .*collection/elsewhere"):
        english.prepare(sources=[collection, more], cmudict=cmudict, output=tmp_path / "out", note=print)


@pytest.mark.parametrize(
    "lines, columns, message",
    [
        ([], COLUMNS, "there must be utterances to train on, but there are none"),
        (["a.flac\tone\ta\t1.0\ttest"], COLUMNS, "there must be utterances to train on, but there are none"),
        (["a.flac\tone\ttrain"], "path\ttranscript\tsplit", r"must have the columns .*, lacks seconds, speaker"),
        (["a.flac\tone\ta\t1.0\tvalid"], COLUMNS, r"manifest\.tsv:2: must be path, .* with a split of train, dev"),
        (["a.flac\tone"], COLUMNS, r":2: must be path, .* got \['a\.flac', 'one', None, None, None\]"),
        (
            ["a/x.flac\tone\ta\t1.0\ttrain", "b/x.flac\tone\ta\t1.0\ttrain"],
            COLUMNS,
            r":3: ids must differ, but corpus/x is used twice",
        ),
        (["none\tone\ta\t1.0\ttrain"], COLUMNS, r"none: cannot be opened"),
        ([f"none\t{'one' * 50_000}\ta\t1.0\ttrain"], COLUMNS, r"manifest\.tsv: cannot be read: field larger"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, cmudict: Path, lines: list[str], columns: str, message: str) -> None:
    make_corpus(tmp_path / "bad" / "corpus", *lines, columns=columns)
    with pytest.raises(DataError, match=message):
        english.prepare(sources=[tmp_path / "bad"], cmudict=cmudict, output=tmp_path / "out", note=print)


def test_a_missing_file_or_corpus_is_refused(tmp_path: Path, cmudict: Path) -> None:
    corpus = make_corpus(tmp_path / "bad" / "corpus", "a.flac\tone\ta\t1.0\ttrain")
    (corpus / "a.flac").unlink()
    with pytest.raises(DataError, match=r"a\.flac: no such audio file"):
        english.prepare(sources=[tmp_path / "bad"], cmudict=cmudict, output=tmp_path / "out", note=print)
    with pytest.raises(DataError, match=r"must hold folders with a manifest\.tsv each, but there is none"):
        english.prepare(sources=[corpus], cmudict=cmudict, output=tmp_path / "out", note=print)
