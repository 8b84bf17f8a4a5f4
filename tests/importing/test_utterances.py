"""One's own recordings: every kind of source, splits that stay, and nothing that is left out in silence."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import sys
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile

from asr.audio.waveform import read_audio
from asr.data.manifest import Utterance, read_manifest
from asr.data.waveforms import read_waveform
from asr.errors import ChoiceWarning, ConfigError, DataError
from asr.files.reading import open_regular
from asr.importing.sources import SourceOptions
from asr.importing.utterances import Imported, SplitOptions, choose_split, import_recordings
from asr.text import numbers
from tests.doctor.voices import SAMPLE_RATE, voice

ALL_TRAIN = SplitOptions(dev=0.0, test=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my recordings"
    path.mkdir()
    return path


def record(path: Path, rng: np.random.Generator, *, seconds: float = 1.0, channels: int = 1, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.stack([voice(rng, seconds=seconds) for _ in range(channels)], axis=1)
    soundfile.write(path, sound, SAMPLE_RATE, **options)
    return path


def imported(
    source: Path, *, reading: SourceOptions | None = None, output: str = "out"
) -> tuple[list[Utterance], Imported]:
    """What train has when everything goes there, and the result."""
    made = import_recordings([source], source.parent / output, reading=reading, splitting=ALL_TRAIN)
    return read_manifest(made.manifests["train"], check_audio=True), made


def test_a_folder_with_odd_names(folder: Path, rng) -> None:
    record(folder / "First Day.WAV", rng).with_name("First Day.TXT").write_text("hello\n there\n")
    record(folder / "Zo\u00eb & co" / "\u597d\u68d2.flac", rng)
    (folder / "Zoe\u0308 & co").mkdir(exist_ok=True)  # the same name, as macOS spells it
    (folder / "Zo\u00eb & co" / "\u597d\u68d2.txt").write_bytes("\ufeff好 棒".encode())
    record(folder / "a.b.wav", rng).with_name("a.b.txt").write_text("dotted")
    record(folder / "._a.b.wav", rng)
    (folder / "notes.md").write_text("not for us")
    utterances, made = imported(folder)
    assert made.problems == [] and made.counts == {"train": 3}
    assert [(u.id, u.text) for u in utterances] == [
        ("First_Day", "hello there"), ("a.b", "dotted"), ("Zoë_&_co/好棒", "好 棒"),
    ]  # fmt: skip
    assert [u.audio.name for u in utterances] == ["First Day.WAV", "a.b.wav", "好棒.flac"]
    lhotse.validate(lhotse.CutSet.from_file(made.manifests["train"]).to_eager(), read_data=True)


def test_marks_are_counted_and_stay_as_they_were(folder: Path, rng) -> None:
    for name, text in (("a", "[noise] one"), ("b", "NARRATOR: two [noise]"), ("c", "three (he said)")):
        record(folder / f"{name}.wav", rng).with_name(f"{name}.txt").write_text(text)
    utterances, made = imported(folder)
    assert [each.text for each in utterances] == ["[noise] one", "NARRATOR: two [noise]", "three (he said)"]
    (note,) = [note for note in made.notes if "marks" in note]
    assert note.startswith("2 of 3 texts have unspoken marks, '[noise]' (2), 'NARRATOR:' (1): the manifests keep them")


def test_what_a_folder_lacks_is_said(folder: Path, rng) -> None:
    record(folder / "good.wav", rng).with_name("good.txt").write_text("good")
    record(folder / "alone.wav", rng)
    (folder / "lost.txt").write_text("no sound")
    record(folder / "blank.wav", rng).with_name("blank.txt").write_text(" \n")
    record(folder / "mute.wav", rng).with_name("mute.srt").write_text("00:00:00,0 --> 00:00:00,9\n")
    record(folder / "twice.wav", rng).with_name("twice.txt").write_text("twice")
    record(folder / "twice.flac", rng)
    (folder / "page.wav").write_text("<html>")
    (folder / "page.txt").write_text("page")
    record(folder / "bad.wav", rng).with_name("bad.txt").write_bytes(b"gr\xfc\xdfe")
    _, made = imported(folder)
    problems = (folder.parent / "out" / "problems.txt").read_text().splitlines()
    assert problems == list(made.problems)
    said = {Path(problem.split(": ")[0]).name: problem.partition(": ")[2] for problem in problems}
    assert said.keys() == {"alone.wav", "lost.txt", "blank.txt", "mute.srt", "twice.txt", "page.txt", "bad.txt:1"}
    assert "has no text beside it" in said["alone.wav"] and "has no sound file beside it" in said["lost.txt"]
    assert (said["blank.txt"], said["mute.srt"]) == ("has no text in it", "has no segment with text")
    assert "one sound file, but matches twice.flac and twice.wav" in said["twice.txt"]
    assert "must be sound" in said["page.txt"] and "must be text in utf-8" in said["bad.txt:1"]
    utterances, _ = imported(folder, reading=SourceOptions(encoding="latin-1"))
    assert [u.text for u in utterances] == ["grüße", "good"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", '\ufeffPath;Text;speaker\r\n"a 1.wav";"Yes, ""we"" can;\r\nso";Ann\r\n\r\nb.wav;two;\r\n'),
        ("t.csv", 'path,text,speaker\na 1.wav,"Yes, ""we"" can;\nso",Ann\nb.wav,two,\n'),
        ("t.tsv", 'path\ttext\tspeaker\na 1.wav\tYes, "we" can; so\tAnn\nb.wav\t"two"\t\n'),
        ("t.jsonl", '{"audio_filepath": "a 1.wav", "duration": 1.0, "text": "Yes, \\"we\\" can; so", "speaker": "Ann"}'
                    '\n\n'
                    '{"audio_filepath": "b.wav", "duration": 0.98, "text": "two"}\n'),
        ("t.json", '[{"path": "a 1.wav", "text": "Yes, \\"we\\" can; so", "speaker": "Ann"},'
                   ' {"path": "b.wav", "text": "two"}]'),
    ],
)  # fmt: skip
def test_tables(folder: Path, rng, name: str, content: str) -> None:
    record(folder / "a 1.wav", rng)
    record(folder / "b.wav", rng)
    (folder / name).write_bytes(content.encode())
    utterances, made = imported(folder / name)
    assert made.problems == []
    assert [(u.id, u.text, u.speaker, u.duration_seconds) for u in utterances] == [
        ("a_1", 'Yes, "we" can; so', "Ann", 1.0), ("b", "two", None, 1.0),
    ]  # fmt: skip


def test_parts_of_recordings_in_a_table(folder: Path, rng) -> None:
    long = record(folder / "sub" / "long.wav", rng, seconds=4.0, channels=2)
    rows = [
        "file\tbegin\tend\tSatz\tchannel\tid\tsplit",
        "long.wav\t0.5\t1.5\tone\t1\t\t",
        "long.wav\t2\t\ttwo\t0\tx\tval",
    ]
    (folder / "t.tsv").write_text("\n".join(rows))
    reading = SourceOptions(columns=("text=Satz",), audio=str(folder / "sub"))
    made = import_recordings([folder / "t.tsv"], folder / "out", reading=reading, splitting=ALL_TRAIN)
    (one,), (two,) = (read_manifest(made.manifests[split]) for split in ("train", "dev"))
    assert (one.id, one.start_seconds, one.duration_seconds, one.channel) == ("long-00000500-00001500", 0.5, 1.0, 1)
    assert (two.id, two.start_seconds, two.duration_seconds, two.channel) == ("x", 2.0, 2.0, 0)
    assert one.audio == two.audio == long


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.wav,,,", ":3: has no text"),
        (",,,two", ":3: must have a path, got ''"),
        ("none.wav,,,two", "t.csv:3: .*none.wav: there is no such sound file"),
        ("b.wav,x,,two", ":3: start must be a number of seconds, 0 to 1e\\+09, got 'x'"),
        ("b.wav,-1,,two", ":3: start must be a number of seconds, 0 to 1e\\+09, got '-1'"),
        ("b.wav,0.5,0.5,two", ":3: an utterance must end after it begins, got 0.5 to 0.5 s"),
        ("b.wav,0.5,2,two", r":3: ends at 2 s, but its recording .*b.wav lasts 1.000 s"),
        ("b.wav,1.0,,two", r":3: begins at 1 s, but its recording"),
        ("b.wav,two", ":3: must have 4 fields like the header, got 2: 'b.wav'"),
        (".,,,two", ":3: path must be a file, got '.'"),
        ("/,,,two", ":3: path must be a file, got '/'"),
        (f"{'x' * 300},,,two", ":3: .*there is no such sound file"),
        ("b.raw,,,two", ":3: .*must be (sound|a file of sound or video)"),
        ("c.ogg,0.50001,0.50002,two", ":3: the duration of .* must be > 0 seconds"),
    ],
)
def test_a_row_that_is_wrong_does_not_spoil_the_others(folder: Path, rng, row: str, message: str) -> None:
    record(folder / "a.wav", rng)
    record(folder / "b.wav", rng)
    (folder / "b.raw").write_bytes(bytes(1000))
    record(folder / "c.ogg", rng)
    (folder / "t.csv").write_text(f"path,start,end,text\na.wav,,,one\n{row}\nb.wav,0,0.5,three\n")
    utterances, made = imported(folder / "t.csv")
    assert [u.text for u in utterances] == ["one", "three"]
    (problem,) = made.problems
    with pytest.raises(DataError, match=message):
        raise DataError(problem)


HOSTILE = (
    None, True, -1, 10**30, 10**400, 1e308, float("inf"), float("nan"), "\0", "a\0b.wav", "\ud800", "../../evil",
    "a/" * 2000,
    "x" * 100_000, "9" * 4000, "1e999", [], {}, [[]], {"bytes": "x"},
)  # fmt: skip


def test_no_value_of_a_row_spoils_the_others(folder: Path, rng) -> None:
    """Each of 20 values in each column; what can be used is, all else is named by its line."""
    record(folder / "a.wav", rng)
    record(folder / "b.mp3", rng)
    columns = ("path", "text", "speaker", "start", "end", "duration", "id", "channel", "split")
    rows: list[dict[str, object]] = [
        {"path": audio, "text": "one", column: value}
        for audio in ("a.wav", "b.mp3")
        for column in columns
        for value in HOSTILE
    ]
    rows.append({"path": "a.wav", "text": "last"})
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    utterances, made = imported(folder / "t.jsonl")
    assert utterances[-1].text == "last"
    assert len(utterances) + len(made.problems) == len(rows)
    assert all(problem.startswith(f"{folder}/t.jsonl:") for problem in made.problems)
    assert len(made.problems) > len(rows) / 3
    assert [path.name for path in folder.parent.iterdir()] == ["my recordings"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.mp3", "out", "t.jsonl"]


def test_wrong_lines_of_texts_do_not_spoil_the_others(folder: Path, rng) -> None:
    texts = {
        "a.srt": f"{'9' * 20}:00:00,0 --> {'9' * 20}:00:01,0\nx\n\n00:00:00,0 --> 00:00:00,5\ngood\n",
        "b.srt": f"{'9' * 5000}:00:00,0 --> 00:00:01,0\nx\n",
        "c.TextGrid": f'"ooTextFile" "TextGrid" 0 1 <exists> {"9" * 5000}',
        "d.TextGrid": '"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "a" 0 1 2 0 0.5 "good" 0.5 1e999 "x"',
        "e.txt": "good",
        "f.txt": "\0" * 100,
    }
    for name, text in texts.items():
        record((folder / name).with_suffix(".wav"), rng).with_name(name).write_text(text)
    os.mkfifo(folder / "g.txt")
    record(folder / "g.wav", rng)
    utterances, made = imported(folder)
    assert [each.text for each in utterances] == ["good"] * 3
    named = sorted(Path(problem.split(": ")[0]).name.split(":")[0] for problem in made.problems)
    assert named == ["a.srt", "b.srt", "c.TextGrid", "d.TextGrid", "f.txt", "g.txt"]


def test_a_table_that_breaks_off_keeps_what_came_before(folder: Path, rng) -> None:
    record(folder / "a.wav", rng)
    (folder / "t.csv").write_text(f"path,text\na.wav,one\na.wav,{'x' * 200_000}\na.wav,three\n")
    utterances, made = imported(folder / "t.csv")
    assert [each.text for each in utterances] == ["one"]
    (problem,) = made.problems
    assert problem.startswith(f"{folder}/t.csv:3: the rest of this CSV cannot be read: field larger")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("channel", "left", ":2: channel must be a whole number from 0, got 'left'"),
        ("channel", "-1", ":2: channel must be a whole number from 0, got '-1'"),
        ("channel", "9" * 5000, ":2: channel must be a whole number from 0, got '999"),
        ("channel", "2", r":2: .*a.wav: has 2 channel\(s\), but channel 2 is needed \(the first is 0\)"),
        ("split", "both", ":2: split must be one of train, .*, dev, .*, test, .*, got 'both'"),
    ],
)
def test_a_channel_or_a_split_that_there_is_not(folder: Path, rng, column: str, value: str, message: str) -> None:
    record(folder / "a.wav", rng, channels=2)
    (folder / "t.csv").write_text(f"path,text,{column}\na.wav,one,{value}\na.wav,two,\n")
    utterances, made = imported(folder / "t.csv")
    assert [u.text for u in utterances] == ["two"]
    (problem,) = made.problems
    with pytest.raises(DataError, match=message):
        raise DataError(problem)


def test_a_column_that_the_table_lacks(folder: Path) -> None:
    (folder / "t.csv").write_text("path,text\na.wav,one\n")
    with pytest.raises(DataError, match=r"t\.csv:1: must have the column 'Satz', but has path, text"):
        import_recordings([folder / "t.csv"], folder / "out", reading=SourceOptions(columns=("text=Satz",)))


def test_an_id_that_comes_again_gets_a_number(folder: Path, rng) -> None:
    record(folder / "a.wav", rng)
    (folder / "t.csv").write_text("path,text,id\na.wav,one,x\na.wav,two,y\na.wav,three,X\n")
    utterances, made = imported(folder / "t.csv")
    assert [u.id for u in utterances] == ["x", "y", "X-2"]
    assert "1 duplicate id renamed with the suffix -2, -3, ..." in made.notes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "path,words\na.wav,one\n", r":1: must have a column for the text .*has 'path', 'words'; name it"),
        ("t.csv", "text,text\n", "t.csv:1: columns must have different names, got text, text"),
        ("t.csv", 'path,text\na.wav,"one\n', "t.csv:2: the rest of this CSV cannot be read: unexpected end of data"),
        ("t.json", "[1, 2", "t.json: must be JSON"),
        ("t.jsonl", '{"type": "MonoCut", "supervisions": []}', "t.jsonl:1: is already a Lhotse manifest"),
        ("t.csv", "path,text\nnone.wav,one\n", r"no utterance can be imported \(1 problem\): .*t.csv:2: "),
        ("t.xls", "?", r"a source must be a folder, or a table by its suffix \(.csv, .json"),
        ("t.csv", "", r"no utterance can be imported \(0 problems\): it has no entries"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        import_recordings([folder / name], folder / "out")


def test_all_problems_are_listed_even_if_nothing_is_imported(folder: Path) -> None:
    (folder / "t.csv").write_text("path,text\nnone.wav,one\na.wav,\n")
    with pytest.raises(DataError, match=r"\(2 problems, all in .*problems.txt\): .*t.csv:3: has no text"):
        import_recordings([folder / "t.csv"], folder / "out")
    assert [line.partition(": ")[2][:11] for line in (folder / "out" / "problems.txt").read_text().splitlines()] == [
        "has no text",
        str(folder / "none.wav")[:11],
    ]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        (
            "t.csv",
            ["path,text", "a.wav,one, two", "a.wav,three"],
            "t.csv:2: must have 2 fields like the header, got 3",
        ),
        (
            "t.jsonl",
            ['{"path": "a.wav", "text": ', '{"path": "a.wav", "text": "three"}'],
            "t.jsonl:1: each line must be a JSON object: ",
        ),
        (
            "t.jsonl",
            ['{"path": "a.wav"}', '{"path": "a.wav", "text": "three"}'],
            "t.jsonl:1: must have a column for the",
        ),
        (
            "t.jsonl",
            ['{"path": "a.wav", "text": ["a", "b"]}', '{"path": "a.wav", "text": "three"}'],
            r"t.jsonl:1: text must be a string, got \['a', 'b'\]",
        ),
        (
            "t.jsonl",
            ["7", '{"path": "a.wav", "text": "three"}'],
            "t.jsonl:1: must be a JSON object, got '7'",
        ),
        (
            "t.jsonl",
            ['["a.wav", "two"]', '{"path": "a.wav", "text": "three"}'],
            r"t.jsonl:1: must be a JSON object, got \"\['a.wav', 'two'\]\"",
        ),
    ],
)
def test_a_wrong_first_row_does_not_spoil_the_others(folder: Path, rng, name: str, rows, message: str) -> None:
    record(folder / "a.wav", rng)
    (folder / name).write_text("\n".join(rows))
    utterances, made = imported(folder / name)
    assert [u.text for u in utterances] == ["three"]
    with pytest.raises(DataError, match=message):
        raise DataError(made.problems[0])


def test_links_to_folders_are_followed_and_the_output_is_not_imported(folder: Path, rng) -> None:
    record(folder.parent / "elsewhere" / "a.mp3", rng).with_name("a.txt").write_text("one")
    (folder / "speaker").symlink_to(folder.parent / "elsewhere")
    (folder.parent / "elsewhere" / "up").symlink_to(folder)  # which has no end
    record(folder / "there" / "b.mp3", rng, seconds=0.5)
    (folder / "alias").symlink_to(folder / "there")  # the same once more
    record(folder / "b.mp3", rng)
    for _ in range(2):  # the second time, the output of the first is there
        made = import_recordings([folder], folder / "out", splitting=ALL_TRAIN)
        assert made.counts == {"train": 1} and [p.partition(": ")[0] for p in made.problems] == [
            str(folder / "b.mp3"), str(folder / "there" / "b.mp3"),
        ]  # fmt: skip


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_texts_that_another_file_stands_for_are_said(folder: Path, rng) -> None:
    record(folder / "a.wav", rng).with_name("a.txt").write_text("one two")
    (folder / "a.srt").write_text("00:00:00,0 --> 00:00:00,500\none\n")
    utterances, made = imported(folder)
    assert [u.text for u in utterances] == ["one"]
    assert made.problems == [f"{folder}/a.txt: is not used: the same sound file has a .srt, which is preferred"]


def test_a_folder_of_sound_may_be_called_audio_and_the_output_lie_around_it(folder: Path, rng) -> None:
    for name in ("audio/a.mp3", "b.mp3"):
        record(folder / name, rng).with_suffix(".txt").write_text(name)
    for source in (folder, folder, folder / "audio"):
        made = import_recordings([source], folder, splitting=ALL_TRAIN)
        assert (made.problems, made.counts) == ([], {"train": 1 + (source == folder)})


def test_names_do_not_depend_on_where_one_stands(folder: Path, rng, monkeypatch) -> None:
    sound = record(folder / "ann" / "a.wav", rng)
    other = record(folder.parent / "elsewhere" / "bob" / "b.wav", rng)
    (folder / "t.csv").write_text(f"path,text\n{sound},one\n{other},two\n../elsewhere/bob/b.wav,three\n")
    reading = SourceOptions(speakers="folder")
    found = []
    for where, source in ((folder, Path("t.csv")), (folder.parent, folder / "t.csv")):
        monkeypatch.chdir(where)
        made = import_recordings([source], folder.parent / "out", reading=reading, splitting=ALL_TRAIN)
        found.append([(u.id, u.speaker) for u in read_manifest(made.manifests["train"])])
    outside = "/".join(other.with_suffix("").parts[1:]).replace(" ", "_")
    assert found[0] == found[1] == [("ann/a", "ann"), (outside, "bob"), ("elsewhere/bob/b", "bob")]


def test_a_disk_that_takes_nothing_is_said(folder: Path, rng, monkeypatch) -> None:
    record(folder / "a.mp3", rng).with_suffix(".txt").write_text("one")
    for error in (AssertionError(), soundfile.LibsndfileError(2)):

        def write(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(soundfile.SoundFile, "write", write)
        with pytest.raises(OSError, match=r"a-\w+.flac: cannot be written: "):
            import_recordings([folder], folder.parent / "out")
        assert not list((folder.parent / "out").rglob("*.flac*"))


def test_long_names_in_any_script_become_files(folder: Path, rng) -> None:
    record(folder / f"{'好' * 81}.mp3", rng).with_suffix(".txt").write_text("好")
    assert [u.text for u in imported(folder)[0]] == ["好"]


def test_half_a_surrogate_is_no_text(folder: Path, rng) -> None:
    record(folder / "a.wav", rng)
    (folder / "t.jsonl").write_text('{"path": "a.wav", "text": "\\ud83d"}\n{"path": "a.wav", "text": "fine"}\n')
    utterances, made = imported(folder / "t.jsonl")
    assert [u.text for u in utterances] == ["fine"]
    assert "t.jsonl:1: text must be Unicode without NUL, got '\\ud83d'" in made.problems[0]


def test_one_recording_can_be_split_by_its_utterances(folder: Path, rng) -> None:
    record(folder / "a.wav", rng, seconds=30.0)
    cues = (f"00:00:{second:02},0 --> 00:00:{second:02},900\nword {second}\n" for second in range(30))
    (folder / "a.srt").write_text("\n".join(cues))
    by_recording = import_recordings([folder], folder / "out", splitting=SplitOptions(dev=0.2, test=0.2))
    assert len(by_recording.manifests) == 1
    assert any("--split-by utterance" in note for note in by_recording.notes)
    made = import_recordings([folder], folder / "out", splitting=SplitOptions(dev=0.2, test=0.2, split_by="utterance"))
    assert made.counts.keys() == {"train", "dev", "test"} and sum(made.counts.values()) == 30


def test_a_name_that_is_not_unicode_is_left_out(folder: Path, rng) -> None:
    record(folder / "a.wav", rng).with_name("a.txt").write_text("one")
    (folder / "a.wav").rename(folder / "b.wav")
    shutil.copy(folder / "b.wav", os.fsencode(folder) + b"/caf\xe9.wav")
    (folder / "a.txt").rename(folder / "b.txt")
    utterances, made = imported(folder)
    assert [u.text for u in utterances] == ["one"]
    assert made.problems == [f"{folder}/caf\\udce9.wav: a file's name must be UTF-8"]


def test_a_folder_that_cannot_be_listed_is_named(folder: Path, monkeypatch) -> None:
    """The system's own answer to a path that is longer than it takes."""
    monkeypatch.chdir(folder)
    for _ in range(17):
        os.mkdir("x" * 250)
        os.chdir("x" * 250)
    with pytest.raises(DataError, match=r"/x{250}: cannot be listed: File name too long"):
        import_recordings([folder], folder / "out")


def test_sources_that_are_not_there(folder: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder to import"):
        import_recordings([folder / "none"], folder / "out")
    with pytest.raises(DataError, match="must hold sound files; none of its 0 files is one"):
        import_recordings([folder], folder / "out")


def test_a_long_recording_is_cut_where_its_subtitles_say(folder: Path, rng, monkeypatch) -> None:
    """The pieces are the samples that `read_audio` gives of the whole, the second time from the first time's files."""
    long = record(folder / "talk.ogg", rng, seconds=70.0, channels=2)
    (folder / "talk.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,500\none\n\n2\n00:00:02,450 --> 00:00:35,000\ntwo\n\n"
        "3\n00:01:09,500 --> 00:01:10,050\nthree\n\n4\n00:01:20,000 --> 00:01:21,000\nlate\n"
    )
    utterances, made = imported(folder)
    assert [u.text for u in utterances] == ["one", "two", "three"]
    assert len(made.problems) == 1 and "talk.srt:14: begins at 80 s, but its recording" in made.problems[0]
    whole = read_audio(long)
    for utterance, (start, end) in zip(utterances, [(1.0, 2.5), (2.45, 35.0), (69.5, 70.0)], strict=True):
        expected = whole[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        np.testing.assert_allclose(read_waveform(utterance, SAMPLE_RATE), expected, atol=2**-15)
    names = sorted(path.name for path in (folder.parent / "out" / "cut-audio").iterdir())
    assert not any(name.endswith(".tmp") for name in names)
    monkeypatch.setattr("asr.importing.cutting._Writer", None)  # nothing is written again
    assert imported(folder)[0] == utterances


def test_what_was_cut_is_not_taken_for_another(folder: Path, rng) -> None:
    """Of another recording of that name, other times, another channel: the sound is that of this import."""
    for name, seconds in (("A", 2.0), ("B", 3.0)):
        record(folder / name / "x.mp3", rng, seconds=seconds).with_name("x.txt").write_text(f"text of {name}")
        os.utime(folder / name / "x.mp3", (1, 1))  # old, as copied or unpacked files are
    for name in "ABA":
        (utterance,), _ = imported(folder / name, output="../out")
        np.testing.assert_allclose(
            read_waveform(utterance, SAMPLE_RATE), read_audio(folder / name / "x.mp3"), atol=2**-15
        )
    record(folder / "two.ogg", rng, seconds=4.0, channels=2)
    for row, channel, start in (("0,0,1", 0, 0.0), ("0,2,3", 0, 2.0), ("1,2,3", 1, 2.0)):
        (folder / "t.csv").write_text(f"id,path,text,channel,start,end\nx,two.ogg,hello,{row}\n")
        (utterance,), _ = imported(folder / "t.csv")
        expected = read_audio(folder / "two.ogg", channel=channel)[round(start * SAMPLE_RATE) :][:SAMPLE_RATE]
        np.testing.assert_allclose(read_waveform(utterance, SAMPLE_RATE), expected, atol=2**-15)


def test_a_cue_that_is_wrong_does_not_spoil_the_others(folder: Path, rng) -> None:
    record(folder / "talk.wav", rng, seconds=4.0)
    (folder / "talk.srt").write_bytes(
        "1\n00:00:00,000 --> 00:00:01,000\nété\n\n2\n00:00:01,000 --> 00:00:01,000\nnothing\n\n"
        "3\n00:00:01,500 --> 00:00:02,000\ntwo\n\nlines\n\n4\n00:00:02,000 --> 00:00:03,000\nlast\n".encode("latin-1")
    )
    utterances, made = imported(folder, reading=SourceOptions(encoding="latin-1"))
    assert [u.text for u in utterances] == ["été", "last"]  # "two" is not all that is said there
    assert [problem.partition("talk.srt")[2][:40] for problem in made.problems] == [
        ":6: a segment must end after it begins, ", ":13: a subtitle must have times, 00:00:0",
    ]  # fmt: skip


def test_a_damaged_recording_is_not_cut(folder: Path, rng) -> None:
    record(folder / "good.ogg", rng).with_name("good.txt").write_text("good")
    bad = record(folder / "bad.ogg", rng, seconds=60.0)
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    (folder / "bad.txt").write_text("bad")
    utterances, made = imported(folder)
    assert [u.text for u in utterances] == ["good"]
    assert len(made.problems) == 1 and "truncated" in made.problems[0]


def test_a_recording_of_several_files_is_whole_and_one_with_bytes_behind_it_is_named(folder: Path, rng) -> None:
    sound = record(folder / "two.wav", rng, seconds=2.0).read_bytes()
    record(folder / "two.flac", rng, seconds=2.0).with_suffix(".txt").write_text("two")
    (folder / "two.flac").write_bytes(2 * (folder / "two.flac").read_bytes())
    (folder / "two.wav").unlink()
    (folder / "more.wav").write_bytes(sound + rng.bytes(20_000))
    (folder / "more.txt").write_text("more")
    (utterance,), made = imported(folder)
    assert (utterance.text, utterance.duration_seconds) == ("two", 4.0)
    np.testing.assert_array_equal(read_waveform(utterance, SAMPLE_RATE), read_audio(folder / "two.flac"))
    assert len(made.problems) == 1 and "more.wav: 20000 bytes that belong to no sound" in made.problems[0]


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_bytes_behind_packed_sound_are_named(folder: Path, rng, container: str, subtype: str) -> None:
    path = folder / f"more.{container.lower()}"
    soundfile.write(path, voice(rng), SAMPLE_RATE, format=container, subtype=subtype)
    path.with_suffix(".txt").write_text("more")
    path.write_bytes(path.read_bytes() + b"\1" + rng.bytes(19_999))
    with pytest.raises(DataError, match="20000 bytes that belong to no sound"):
        imported(folder)


def test_a_recording_whose_channels_cancel_is_cut_from_the_louder(folder: Path, rng) -> None:
    sound = voice(rng)
    soundfile.write(folder / "a.wav", np.stack([0.8 * sound, -sound], axis=1), SAMPLE_RATE)
    (folder / "a.txt").write_text("a")
    with pytest.warns(ChoiceWarning, match=r"a\.wav: the channels cancel each other at 0\.000 s; .*, channel 1"):
        (utterance,), made = imported(folder)
    assert not made.problems
    np.testing.assert_allclose(read_waveform(utterance, SAMPLE_RATE), -sound, atol=1e-3)


def test_speakers(folder: Path, rng) -> None:
    record(folder / "ann" / "one" / "a.wav", rng).with_suffix(".txt").write_text("a")
    record(folder / "bo" / "b.wav", rng).with_suffix(".vtt").write_text(
        "WEBVTT\n\n00:00.000 --> 00:00.500\n<v Cy>b</v>\n"
    )
    assert [u.speaker for u in imported(folder)[0]] == [None, "Cy"]
    assert [u.speaker for u in imported(folder, reading=SourceOptions(speakers="folder"))[0]] == ["ann", "bo"]


def splits(made: Imported) -> dict[str, str]:
    return {u.id: split for split, path in made.manifests.items() for u in read_manifest(path)}


def table(folder: Path, rng, speakers: list[str]) -> Path:
    rows = ["path,text,speaker"]
    for number, speaker in enumerate(speakers):
        record(folder / f"{number:03d}.wav", rng, seconds=0.1)
        rows.append(f"{number:03d}.wav,words,{speaker}")
    (folder / "t.csv").write_text("\n".join(rows))
    return folder / "t.csv"


def test_splits_are_by_speaker_and_stay(folder: Path, rng) -> None:
    options = SplitOptions(dev=0.3, test=0.3)
    before = splits(
        import_recordings([table(folder, rng, [f"s{n % 9}" for n in range(27)])], folder / "1", splitting=options)
    )
    speaker_splits = {f"s{n % 9}": before[f"{n:03d}"] for n in range(27)}
    assert all(before[f"{n:03d}"] == speaker_splits[f"s{n % 9}"] for n in range(27))
    assert set(before.values()) == {"train", "dev", "test"}
    made = import_recordings([table(folder, rng, [f"s{n % 12}" for n in range(36)])], folder / "2", splitting=options)
    assert "split by speaker" in made.notes
    after = splits(made)
    assert all(after[f"{n:03d}"] == speaker_splits[f"s{n % 12}"] for n in range(36) if n % 12 < 9)


def test_utterances_that_change_their_split_are_said(folder: Path, rng) -> None:
    rows = [f"{record(folder / f'{n}.wav', rng, seconds=0.2).name},word,speaker {n % 8}" for n in range(24)]
    table = folder / "t.csv"
    table.write_text("\n".join(["path,text,speaker", *rows]))
    first = import_recordings([table], folder / "out", splitting=SplitOptions(dev=0.3, test=0.3))
    assert first.notes == ["split by speaker"]
    table.write_text("\n".join(["path,text,speaker", *rows[:-1], "23.wav,word,"]))
    second = import_recordings([table], folder / "out", splitting=SplitOptions(dev=0.3, test=0.3))
    assert any("of 24 utterances are in another split than after the last import" in note for note in second.notes)
    third = import_recordings([table], folder / "out", splitting=SplitOptions(dev=0.3, test=0.3))
    assert not any("another split" in note for note in third.notes)


def test_one_speaker_or_unknown_ones_are_split_by_recording(folder: Path, rng) -> None:
    options = SplitOptions(dev=0.3, test=0.3)
    made = import_recordings([table(folder, rng, ["me"] * 20)], folder / "1", splitting=options)
    assert made.notes == ["split by recording"] and set(splits(made).values()) == {"train", "dev", "test"}
    unknown = import_recordings([table(folder, rng, [""] * 20)], folder / "2", splitting=options)
    assert splits(unknown) == splits(made)
    some = import_recordings([table(folder, rng, ["a", "", "b"])], folder / "3", splitting=SplitOptions(dev=0, test=0))
    assert "some speakers are unknown" in some.notes[1]


def test_an_empty_split_is_said(folder: Path, rng) -> None:
    source = table(folder, rng, ["a", "b"])
    made = import_recordings([source], folder / "1", splitting=SplitOptions(dev=0.001, test=0.0, split_by="speaker"))
    assert made.counts == {"train": 2}
    assert made.notes[1].startswith("no speaker was assigned to dev, so there is no dev.jsonl.gz")


def test_the_shares_are_those_asked_for() -> None:
    options = SplitOptions(dev=0.1, test=0.2, seed=3)
    chosen = [choose_split(f"speaker {n}", options) for n in range(4000)]
    assert [round(chosen.count(split) / 4000, 2) for split in ("train", "dev", "test")] == pytest.approx(
        [0.7, 0.1, 0.2], abs=0.02
    )
    grown = SplitOptions(dev=0.1, test=0.3, seed=3)  # what was test stays test
    assert all(choose_split(f"speaker {n}", grown) == "test" for n in range(4000) if chosen[n] == "test")
    assert choose_split("recording Zo\u00eb", options) == choose_split("recording Zoe\u0308", options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SplitOptions, {"dev": 0.5, "test": 0.5}, "dev and test must be shares that leave some for train"),
        (SplitOptions, {"split_by": "word"}, "split_by must be one of auto, speaker, recording, utterance, not 'word'"),
        (SourceOptions, {"columns": ("wav=x",)}, "columns must be NAME=COLUMN, where NAME is one of path.*got 'wav=x'"),
        (SourceOptions, {"encoding": "utf-9"}, "encoding must be a codec of Python, got 'utf-9'"),
    ],
)
def test_options_that_are_wrong(kind: type, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_a_data_set_needs_pyarrow(folder: Path, monkeypatch) -> None:
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    importing = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return importing(name, *arguments, **more)  # type: ignore

    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="is a Hugging Face data set, which needs pyarrow: pip install pyarrow"):
        import_recordings([folder], folder / "out")


def test_a_data_set_on_disk(folder: Path, rng) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    sound = record(folder.parent / "a.wav", rng).read_bytes()
    packed = record(folder.parent / "b.mp3", rng).read_bytes()
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    for split, content in (("train", sound), ("validation", packed)):
        (folder / split).mkdir()
        (folder / split / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "x.arrow"}], "_split": split})
        )
        audio = {"bytes": content, "path": None}
        batch = pyarrow.RecordBatch.from_pylist(
            [{"audio": audio, "sentence": split}, {"audio": audio, "sentence": None}]
        )
        with pyarrow.ipc.new_stream(folder / split / "x.arrow", batch.schema) as stream:
            stream.write_batch(batch)
    made = import_recordings([folder], folder / "out", splitting=ALL_TRAIN)
    assert made.counts == {"train": 1, "dev": 1} and made.notes == ["split as stated in the source"]
    assert len(made.problems) == 2 and all("x.arrow:2: has no text" in problem for problem in made.problems)
    (train,), (dev,) = (read_manifest(made.manifests[split], check_audio=True) for split in ("train", "dev"))
    assert (train.text, dev.text, train.audio.suffix, dev.audio.suffix) == ("train", "validation", ".wav", ".flac")
    assert train.audio.read_bytes() == sound


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.parquet", "no table", "train.parquet: must be a table that pyarrow reads: .*not a parquet file"),
        ("x.arrow", "no table at all", "x.arrow: must be a table that pyarrow reads: "),
        ("state.json", "{}", "state.json: must be a JSON object as `save_to_disk` writes it"),
        ("state.json", '{"_split": null, "_data_files": 1}', "state.json: must be a JSON object as"),
        ("state.json", '{"_split": null, "_data_files": [3]}', "state.json: must be a JSON object as"),
        ("dataset_dict.json", '{"splits": 1}', "dataset_dict.json: must be a JSON object as"),
        ("dataset_dict.json", "splits", "dataset_dict.json: must be a JSON object as"),
        ("dataset_dict.json", "[" * 100_000, "dataset_dict.json: must be a JSON object as"),
    ],
)
def test_a_data_set_that_is_wrong(folder: Path, name: str, content: str, message: str) -> None:
    pytest.importorskip("pyarrow")
    if name.endswith(".arrow"):
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}], "_split": None}))
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        import_recordings([folder], folder / "out")


def test_a_data_set_writes_nothing_outside_and_reads_nothing_there(folder: Path, rng) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    sound = record(folder.parent / "a.wav", rng).read_bytes()
    rows: list[dict[str, object]] = [
        {"audio": {"bytes": sound, "path": path}, "text": text, "speaker": "b"}
        for path, text in (("../../x.w/av", "one"), ("a\0b", "two"), (f"a.{'w' * 300}", "three"), ("x.wav", "four"))
    ]
    schema = pyarrow.Table.from_pylist(rows).schema
    with pyarrow.ipc.new_stream(folder / "x.arrow", schema) as stream:
        stream.write_table(pyarrow.Table.from_pylist(rows))
    state = {"_data_files": [{"filename": "x.arrow"}], "_split": "../../../evil"}
    (folder / "state.json").write_text(json.dumps(state))
    utterances, made = imported(folder, output="deep/out")
    assert [each.text for each in utterances] == ["one", "three", "four"]
    assert "x.arrow:2: path must be without NUL" in made.problems[0]
    written = {path for path in folder.parent.rglob("*") if "evil" in path.name}
    assert len(written) == 3 and all(path.is_relative_to(folder.parent / "deep" / "out") for path in written)
    state["_data_files"] = [{"filename": "../x.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"state.json: must name files in its own folder, got '\.\./x.arrow'"):
        imported(folder)


def test_a_row_that_is_not_utf_8_does_not_spoil_the_others(folder: Path, rng) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    sound = record(folder.parent / "a.wav", rng).read_bytes()
    texts = pyarrow.array([b"one", b"gr\xfc", b"three"], pyarrow.binary()).view(pyarrow.string())
    audio = pyarrow.array([{"bytes": sound, "path": None}] * 3)
    table = pyarrow.table({"audio": audio, "text": texts})
    with pyarrow.ipc.new_stream(folder / "x.arrow", table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x.arrow"}], "_split": None}))
    utterances, made = imported(folder)
    assert [each.text for each in utterances] == ["one", "three"]
    assert "x.arrow:2: the row cannot be read: 'utf-8' codec can't decode" in made.problems[0]


def test_a_row_without_sound_does_not_spoil_the_others(folder: Path, rng) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sound = {"bytes": record(folder.parent / "a.wav", rng).read_bytes(), "path": None}
    rows = [{"audio": {"bytes": None, "path": None}, "text": "one"}, {"audio": sound, "text": "two"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train-0.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "three"}]), folder / "train-1.parquet")
    utterances, made = imported(folder)
    assert [u.text for u in utterances] == ["two"]
    assert made.problems == [
        f"{folder}/train-0.parquet:1: the row has no sound", f"{folder}/train-1.parquet:3: the row has no sound",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_is_read_from_the_file_that_was_opened(folder: Path, rng, monkeypatch, suffix: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sound = {"bytes": record(folder.parent / "a.wav", rng).read_bytes(), "path": None}
    table = pyarrow.Table.from_pylist([{"audio": sound, "text": "one"}])
    path = folder / f"x.{suffix}"
    if suffix == "parquet":
        parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}], "_split": None}))

    def open_and_replace(path: Path):
        file = open_regular(path)
        path.unlink()
        os.mkfifo(path)
        return file

    monkeypatch.setattr("asr.importing.hugging_face.open_regular", open_and_replace)
    utterances, _ = imported(folder)
    assert [utterance.text for utterance in utterances] == ["one"]


def test_parquet_files(folder: Path, rng) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sound = record(folder.parent / "a.wav", rng).read_bytes()
    rows = [{"audio": {"bytes": sound, "path": "x.wav"}, "text": "hello"}]
    for name, counts in (("test-00000-of-00001", {"test": 1}), ("train.100", {"train": 1}), ("0000", {"train": 1})):
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{name}.parquet")
        assert import_recordings([folder], folder / "out", splitting=ALL_TRAIN).counts == counts
        (folder / f"{name}.parquet").unlink()


def test_numbers_are_counted_or_spelled(folder: Path, rng, monkeypatch: pytest.MonkeyPatch) -> None:
    record(folder / "a.wav", rng).with_name("a.txt").write_text("In 1923, 100 %")
    record(folder / "b.wav", rng).with_name("b.txt").write_text("no number")
    utterances, made = imported(folder)
    assert [utterance.text for utterance in utterances] == ["In 1923, 100 %", "no number"]
    assert any(
        note.startswith("1 of 2 texts have digits, such as 'In 1923, 100 %' (a): ") and "--numbers spell" in note
        for note in made.notes
    )
    spell = SourceOptions(numbers="spell")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "num2words", None)
        numbers.year.cache_clear()
        with pytest.raises(ConfigError, match=r"pip install 'asr\[numbers\]'"):
            imported(folder, reading=spell, output="none")
        assert not (folder.parent / "none").exists()
    pytest.importorskip("num2words")
    utterances, made = imported(folder, reading=spell)
    spoken = "In nineteen twenty three, one hundred percent"
    assert [utterance.text for utterance in utterances] == [spoken, "no number"]
    assert f"numbers spelled in words in 1 of 2 texts: 'In 1923, 100 %' is now {spoken!r}" in made.notes
