"""A corpus of sounds and texts, aligned from Python and by `asr-align`."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

import asr
from asr.cli.align import main
from asr.ctc.alignment import warm_up
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from asr.output.formats import ALIGNMENT_WRITERS
from asr.recognition.aligner import align_recording
from asr.recognition.many_alignments import JOINED, AlignOptions, align_files
from asr.recognition.recordings import find_pairs
from tests.cli.conftest import SPOKEN


@pytest.fixture(autouse=True, scope="module")
def warm():
    warm_up()


@pytest.fixture
def corpus(sounds: Path) -> Path:
    """The sounds of SPOKEN, each with its text beside it."""
    (sounds / "notes.txt").unlink()
    for number, (name, text) in enumerate(SPOKEN.items()):
        (sounds / name).with_suffix((".txt", ".lab")[number % 2]).write_text(f"{text.lower()}.\n")
    return sounds


@pytest.fixture
def options(model, tmp_path) -> AlignOptions:
    return AlignOptions(output=tmp_path / "out", model=model, device="cpu", precision="float32")


@pytest.fixture
def run(model, capsys):
    """Runs the command; (status, stdout, lines on stderr)."""

    def run_(*arguments: object) -> tuple[int, str, list[str]]:
        status = main(["--model", model, "--precision", "float32", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()

    return run_


def test_pairs_are_sounds_with_the_texts_beside_them(corpus):
    pairs = find_pairs(corpus)
    assert [(item.name, item.text) for item in pairs] == [
        ("a", "abc.\n"), ("b", "cab ac.\n"), ("day 1/a", "aa bc ca.\n"), ("day 1/c", "b.\n"),
    ]  # fmt: skip


def test_each_sound_or_text_that_is_alone_is_an_error(corpus):
    (corpus / "a.txt").unlink()
    (corpus / "b.lab").write_text(" \n")
    (corpus / "day 1" / "a.txt").write_bytes(b"caf\xe9")
    (corpus / "day 1" / "d.lab").write_text("nobody says this")
    errors = [str(item).removeprefix(f"{corpus}/") for item in find_pairs(corpus) if isinstance(item, DataError)]
    assert errors == [
        "a.flac: has no text beside it (.txt or .lab)",
        "b.lab: contains no text",
        "day 1/a.txt:1: must be text in utf-8: unexpected end of data",
        "day 1/d.lab: has no sound file beside it",
    ]


@pytest.mark.parametrize("name", ALIGNMENT_WRITERS)
def test_each_file_is_that_of_the_recording_alone(corpus, options, name):
    results = list(align_files(corpus, replace(options, format=name)))
    recognizer = asr.load(options.model, device="cpu", precision="float32")
    assert [result.name for result in results] == ["a", "b", "day 1/a", "day 1/c"]
    for result, (path, text) in zip(results, SPOKEN.items(), strict=True):
        alone = replace(align_recording(recognizer, corpus / path, f"{text.lower()}.\n"), name=result.name)
        assert result.files == (options.output / f"{result.name}.{name}",)
        # sounds that share a batch are padded, which rounds a score in its last digits
        written = result.files[0].read_text()
        if name != "json":
            assert written.split()[:4] == ALIGNMENT_WRITERS[name](alone, "word").split()[:4]
        else:
            words = json.loads(written)["words"]
            assert [(word["text"], word["start"]) for word in words] == [
                (word.text, round(word.start, 3)) for word in alone.words
            ]


def test_a_manifest_of_the_sentences_can_be_read_and_aligned_again(corpus, options, tmp_path):
    pytest.importorskip("lhotse")
    (corpus / "b.lab").write_text("Cab.\n\nAc.")
    results = list(align_files(corpus, replace(options, format="manifest")))
    assert [result.error for result in results] == [None] * 4
    utterances = read_manifest(options.output / JOINED, check_audio=True)
    assert [item.text for item in utterances] == ["abc.", "Cab.", "Ac.", "aa bc ca.", "b."]
    assert [item.speaker for item in utterances] == [None, None, None, "day 1", "day 1"]
    first, second = utterances[1:3]
    assert first.start_seconds + first.duration_seconds <= second.start_seconds + 1e-3
    for item in utterances:
        assert item.start_seconds + item.duration_seconds <= soundfile.info(item.audio).duration + 1e-3
    again = replace(options, output=tmp_path / "again", format="json")
    results = list(align_files(options.output / JOINED, again))
    assert [result.aligned.text for result in results] == [item.text for item in utterances]
    assert min(result.aligned.confidence for result in results) > 0.3
    # the same sounds as utterances: times count from the start of the utterance, in a manifest from that of the file
    results = list(align_files(options.output / JOINED, replace(again, output=tmp_path / "third", format="manifest")))
    third = read_manifest(tmp_path / "third" / JOINED)
    assert {(item.audio, item.text) for item in third} == {(item.audio, item.text) for item in utterances}
    for before, after in zip(utterances, third, strict=True):
        assert after.start_seconds >= before.start_seconds - 1e-3


def test_a_second_run_does_what_the_first_left(run, corpus, options):
    shutil.move(corpus / "a.txt", corpus / "kept")
    status, out, errors = run(corpus, "--output", options.output, "--format", "TextGrid")
    assert (status, out) == (1, "")
    assert errors == [
        f"asr-align: error: {corpus}/a.flac: has no text beside it (.txt or .lab)",
        "asr-align: 1 of 4 could not be aligned",
    ]
    before = {path: path.stat().st_mtime_ns for path in options.output.rglob("*.TextGrid")}
    assert len(before) == 3
    shutil.move(corpus / "kept", corpus / "a.txt")
    status, out, errors = run(corpus, "--output", options.output, "--format", "TextGrid")
    assert (status, out, errors) == (0, "", ["asr-align: skipped 3 of 4 recordings: their files exist"])
    after = {path: path.stat().st_mtime_ns for path in options.output.rglob("*.TextGrid")}
    assert before.items() <= after.items() and len(after) == 4


def test_two_processes_give_the_files_of_one(run, corpus, options, tmp_path):
    assert run(corpus, "--output", options.output) == (0, "", [])
    assert run(corpus, "--output", tmp_path / "two", "--nproc", 2, "--quiet") == (0, "", [])
    one, two = ({path.name: path.read_text().split()[:4] for path in folder.rglob("*.ctm")}
                for folder in (options.output, tmp_path / "two"))  # fmt: skip
    assert one == two and len(one) == 3  # a.ctm is there twice


def test_bad_recordings_are_listed_and_others_kept(run, corpus, options):
    (corpus / "a.flac").write_bytes(b"fLaC no more")
    (corpus / "b.lab").write_text("abc " * 100)
    (corpus / "day 1" / "c.lab").write_text("!?")
    status, out, errors = run(corpus, "--output", options.output, "--format", "json")
    assert (status, out) == (1, "")
    assert [path.name for path in options.output.rglob("*.json")] == ["a.json"]  # of day 1
    assert errors[-1] == "asr-align: 3 of 4 could not be aligned"
    assert errors[-4].startswith(f"asr-align: error: {corpus}/a.flac: ")
    assert errors[-3].startswith(f"asr-align: error: {corpus}/b.wav: the text needs 399 frames")
    assert errors[-3].endswith("is it the text of this recording?")
    assert errors[-2].startswith(f"asr-align: error: {corpus}/day 1/c.wav: the text must have a character of the model")


def test_a_text_of_another_recording_is_doubted(run, corpus, options):
    pytest.importorskip("lhotse")
    (corpus / "b.lab").write_text("bbb bb")
    status, out, errors = run(corpus, "--output", options.output, "--format", "manifest")
    assert (status, out) == (0, "")
    assert errors[0].startswith(f"asr-align: warning: {corpus}/b.wav: mean score 0.0")
    assert errors[0].endswith("is this the text of this recording?")
    assert errors[1] == "asr-align: 1 of 4 texts are doubted; manifest.jsonl.gz does not have them"
    assert [item.text for item in read_manifest(options.output / JOINED)] == ["abc.", "aa bc ca.", "b."]
    status, out, errors = run(corpus, "--output", options.output.with_name("strict"), "--strict")
    assert status == 1 and not (options.output.with_name("strict") / "b.ctm").exists()
    assert errors[-2].startswith(f"asr-align: error: {corpus}/b.wav: mean score 0.0")


def test_a_resumed_run_joins_the_same_manifest(corpus, options):
    options = replace(options, format="manifest")
    results = list(align_files(corpus, options))
    joined = gzip.decompress((options.output / JOINED).read_bytes())
    results[0].files[0].unlink()  # this recording is now the last one
    assert [result.skipped for result in align_files(corpus, options)] == [True] * (len(results) - 1) + [False]
    assert gzip.decompress((options.output / JOINED).read_bytes()) == joined


def test_the_manifest_of_a_sound_that_training_cannot_read_is_refused(run, corpus, options):
    pytest.importorskip("lhotse")
    import numpy as np

    sound, rate = soundfile.read(corpus / "b.wav")
    soundfile.write(corpus / "b.wav", np.stack([sound, sound], axis=1), rate)
    status, _, errors = run(corpus, "--output", options.output, "--format", "manifest")
    assert status == 1
    assert errors[-2] == (
        f"asr-align: error: {corpus}/b.wav: has 2 channels, of which a manifest holds one: give --channel"
    )
    assert run(corpus, "--output", options.output, "--format", "manifest", "--channel", 0)[0] == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("CORPUS", "a corpus needs --output DIR"),
        ("CORPUS a.txt --output OUT", "CORPUS is a corpus, which has its own texts: leave out TEXT and --text"),
        ("CORPUS --output OUT --plot a.png", "--plot needs one sound file, not a corpus"),
        ("CORPUS --output OUT --format ctm --level sentence", "--format ctm needs --level word or character"),
        ("CORPUS --output FILE", "--output must be a folder for several recordings; FILE is a file"),
        ("a.wav --text a --format manifest", "--format manifest needs a corpus"),
        ("a.wav --text a --nproc 2", "--nproc needs a corpus"),
    ],
)
def test_wrong_usage(run, corpus, tmp_path, line, message):
    (tmp_path / "FILE").touch()
    places = {"CORPUS": corpus, "OUT": tmp_path / "none", "FILE": tmp_path / "FILE"}
    for name, path in places.items():
        message = message.replace(f"{name} ", f"{path} ")
    status, out, errors = run(*(places.get(word, word) for word in line.split()))
    assert (status, out) == (2, "")
    assert errors[0].startswith(f"asr-align: error: {message}") and len(errors) == 1
    assert not (tmp_path / "none").exists()


def test_options_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="format must be one of ctm, json, TextGrid, srt, vtt, manifest, not 'txt'"):
        AlignOptions(output=tmp_path, format="txt")
    with pytest.raises(ConfigError, match="nproc must be at least 1"):
        AlignOptions(output=tmp_path, nproc=0)
