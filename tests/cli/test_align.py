from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.cli.align import main
from asr.ctc.alignment import warm_up
from asr.output.formats import ALIGNMENT_WRITERS
from asr.recognition.aligner import align_recording
from tests.cli.test_transcribe import MODULES
from tests.tones import speak


@pytest.fixture
def align(model, capsys):
    """Runs the command; (status, stdout, lines on stderr)."""

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        status = main(["--model", model, "--precision", "float32", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()

    return run


@pytest.fixture(autouse=True, scope="module")
def warm():
    """Compiled code, so that no test sees the note that it is compiled."""
    warm_up()


@pytest.fixture
def aligned(model, sounds):
    from dataclasses import replace

    recognizer = asr.load(model, device="cpu", precision="float32")
    return replace(align_recording(recognizer, sounds / "b.wav", "Cab, ac!"), name="b", model="tones")


def test_words_are_written_as_ctm(align, sounds, tmp_path):
    (tmp_path / "b.txt").write_text("\ufeffCab, ac!\n", encoding="utf-8")
    status, out, errors = align(sounds / "b.wav", tmp_path / "b.txt")
    assert (status, errors) == (0, [])
    rows = [line.split() for line in out.splitlines()]
    assert [(row[0], row[4]) for row in rows] == [("b", "Cab,"), ("b", "ac!")]
    starts, durations = [float(row[2]) for row in rows], [float(row[3]) for row in rows]
    # "CAB AC": a letter is 120 ms of tone after 100 ms of quiet, and the space 200 ms
    assert starts == pytest.approx([0.1, 0.84], abs=0.15)
    assert starts[0] + durations[0] <= starts[1]


@pytest.mark.parametrize("name", ALIGNMENT_WRITERS)
@pytest.mark.parametrize("level", ["sentence", "word", "character", None])
def test_each_format_is_that_of_the_writer(align, sounds, aligned, name, level):
    chosen = level or ("sentence" if name in ("srt", "vtt") else "word")
    arguments = [sounds / "b.wav", "--text", "Cab, ac!", "--format", name.lower(), *(["--level", level] * bool(level))]
    status, out, errors = align(*arguments)
    if (name, level) == ("ctm", "sentence"):
        assert (status, out) == (2, "")
        assert errors[0].startswith("asr-align: error: --format ctm needs --level word or character")
    else:
        assert (status, out, errors) == (0, ALIGNMENT_WRITERS[name](aligned, chosen), [])


def test_text_or_sound_can_come_from_standard_input(align, sounds, tmp_path, monkeypatch):
    expected = align(sounds / "b.wav", "--text", "cab ac")[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cab ac\n")))
    assert align(sounds / "b.wav", "-") == (0, expected, [])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((sounds / "b.wav").read_bytes())))
    assert align("-", "--text", "cab ac") == (0, "".join(f"stdin{line[1:]}" for line in expected.splitlines(True)), [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding_of_the_text(align, sounds, tmp_path, monkeypatch, encoding):
    text = "cab [noise] ac"
    expected = align(sounds / "b.wav", "--text", "cab ac")[1]
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    status, out, errors = align(sounds / "b.wav", tmp_path / "a.txt")
    assert (status, out) == (0, expected)
    assert any("words without a time (1): [noise]" in error for error in errors)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode(encoding))))
    assert align(sounds / "b.wav", "-")[:2] == (0, expected)


def test_a_text_without_an_end_is_refused(align, sounds, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "pipe"), ("/dev/zero", "device"), (tmp_path, "folder")):
        status, out, errors = align(sounds / "a.wav", path)
        assert (status, out) == (1, "")
        assert errors == [f"asr-align: error: {path}: cannot be read: it must be a regular file, not a {kind}"]


def test_output_is_a_file(align, sounds, tmp_path):
    expected = align(sounds / "b.wav", "--text", "cab ac", "--format", "srt")[1]
    assert align(sounds / "b.wav", "--text", "cab ac", "--format", "srt", "--output", tmp_path / "new" / "b.srt") == (
        0, "", [],
    )  # fmt: skip
    assert (tmp_path / "new" / "b.srt").read_text() == expected


def test_output_may_be_a_folder(align, sounds, tmp_path):
    arguments = [sounds / "b.wav", "--text", "cab ac", "--format", "srt"]
    expected = align(*arguments)[1]
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "old", f"{tmp_path}/new/"):
        assert align(*arguments, "--output", folder) == (0, "", [])
        assert Path(folder, "b.srt").read_text() == expected


def test_a_folder_as_output_does_not_replace_the_text(align, sounds, tmp_path):
    text = tmp_path / "b.srt"
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\ncab ac\n")
    before = text.read_text()
    status, out, errors = align(sounds / "b.wav", text, "--format", "srt", "--output", tmp_path)
    assert (status, out) == (2, "")
    message = f"--output must be another folder, or a file: {text} is the text, which would be lost"
    assert errors == [f"asr-align: error: {message}"]
    assert text.read_text() == before
    assert align(sounds / "b.wav", text, "--format", "srt", "--output", f"{tmp_path}/new/") == (0, "", [])


def test_output_that_cannot_be_written_is_refused_before_the_sound_is_read(align, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert align("none.wav", "--text", "cab", "--output", file / "a.ctm") == (
        1, "", [f"asr-align: error: {file}: a part of this path is a file"],
    )  # fmt: skip


def test_what_the_model_does_not_know_is_reported_or_refused(align, sounds):
    arguments = [sounds / "b.wav", "--text", "Cab — ééàé — ac?", "--format", "json"]
    status, out, errors = align(*arguments)
    document = json.loads(out)
    assert status == 0
    assert [word["text"] for word in document["words"]] == ["Cab", "ééàé", "ac?"]
    assert [word["confidence"] > 0 for word in document["words"]] == [True, False, True]
    assert document["sentences"][0]["text"] == document["text"] == "Cab — ééàé — ac?"
    assert errors == [
        "asr-align: warning: left out characters that the model lacks: 'É' (3), 'À' (1)",
    ]
    assert align(*arguments, "--quiet") == (0, out, [])
    status, out, errors = align(*arguments, "--unknown", "refuse")
    assert (status, out) == (2, "")
    assert errors == ["asr-align: error: the model must have every character of the text; it lacks 'É', 'À'"]


def test_a_text_that_nobody_spoke_is_doubted(align, sounds):
    arguments = [sounds / "b.wav", "--text", "bbb bbb"]
    status, out, errors = align(*arguments)
    assert (status, len(out.splitlines())) == (0, 2)
    assert len(errors) == 1
    assert errors[0].startswith("asr-align: warning: mean score 0.0")
    assert errors[0].endswith("is this the text of this recording?")
    assert align(*arguments, "--quiet") == (0, out, [])
    status, out, strict_errors = align(*arguments, "--strict")
    assert (status, out) == (1, "")
    assert strict_errors == [errors[0].replace("warning", f"error: {sounds}/b.wav").replace("wav: :", "wav:")]


def test_plot_draws_a_picture(align, sounds, tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    expected = align(sounds / "b.wav", "--text", "cab ac", "--channel", "0")
    path = tmp_path / "b.png"
    assert align(sounds / "b.wav", "--text", "cab ac", "--channel", "0", "--plot", path) == expected
    assert plt.imread(path).shape[:2] == (600, 800)
    content = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((sounds / "b.wav").read_bytes())))
    assert align("-", "--text", "cab ac", "--channel", "0", "--plot", path)[::2] == (0, [])
    assert path.read_bytes() == content


def test_a_plot_that_cannot_be_written_is_refused_before_the_work(align, sounds, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "folder.png"
    folder.mkdir()
    refused = align(sounds / "b.wav", "--text", "cab ac", "--plot", folder)
    assert refused == (1, "", [f"asr-align: error: {folder}: is a folder"])


def test_plot_of_a_long_recording_says_that_it_shows_a_part(align, tmp_path, rng):
    pytest.importorskip("matplotlib")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([speak("CAB AC", rng), np.zeros(8000 * 62)]), 8000)
    status, out, errors = align(path, "--text", "cab ac", "--plot", tmp_path / "long.png")
    assert (status, len(out.splitlines())) == (0, 2)
    seconds = soundfile.info(path).duration
    assert errors[0] == f"asr-align: {tmp_path}/long.png shows the first 60 of {seconds:.0f} seconds"
    assert align(path, "--text", "cab ac", "--plot", tmp_path / "long.png", "--quiet") == (0, out, [])


def test_the_first_run_on_a_machine_says_what_it_waits_for(model, sounds, tmp_path):
    command = [sys.executable, "-m", "asr.cli.align", sounds / "b.wav", "--text", "cab ac", "--model", model]
    command += ["--precision", "float32"]  # or each process chooses the one that is faster just then
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "XDG_CACHE_HOME": str(tmp_path)}
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == "asr-align: compiling the aligner, once on this machine: a few seconds\n"
    assert runs[1].stderr == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x.wav", "give either TEXT, a file with the spoken text, or --text WORDS"),
        ("x.wav x.txt --text y", "give either TEXT, a file with the spoken text, or --text WORDS"),
        ("- -", "standard input (-) can be AUDIO or TEXT, not both"),
        ("", "the following arguments are required: AUDIO"),
        ("x.wav --text y --format docx", "argument --format: unknown format 'docx'; known are ctm, json, TextGrid"),
        ("x.wav --text y --level phone", "argument --level: invalid choice: 'phone'"),
        ("x.wav --text y --gap-score 1", "--gap-score must be between -1000000 and 0, not 1.0"),
        ("x.wav --text y --gap everywhere", "unknown argument '--gap': did you mean --gaps?"),
        ("x.wav --text y --model no-such-model", "no model 'no-such-model'"),
    ],
)  # fmt: skip
def test_wrong_usage(line, message, capsys):
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"asr-align: error: {message}")
    assert printed.err.count("\n") == 1


def test_plot_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr("asr.output.pictures.find_spec", lambda name: None)
    assert main(["x.wav", "--text", "y", "--plot", "x.png"]) == 2
    assert capsys.readouterr().err.startswith("asr-align: error: a picture needs matplotlib")


def test_files_that_cannot_be_read(align, sounds, tmp_path):
    missing, empty, latin = tmp_path / "missing.txt", tmp_path / "empty.txt", tmp_path / "latin.txt"
    empty.write_text(" \n")
    latin.write_bytes("cab\ncaf\xe9\n".encode("latin-1"))
    assert align(sounds / "b.wav", missing) == (
        1,
        "",
        [f"asr-align: error: {missing}: cannot be read: No such file or directory"],
    )
    assert align(sounds / "b.wav", empty) == (1, "", [f"asr-align: error: {empty}: contains no text"])
    reason = "must be text in utf-8: invalid continuation byte"
    assert align(sounds / "b.wav", latin) == (1, "", [f"asr-align: error: {latin}:2: {reason}"])
    status, _, errors = align(missing.with_suffix(".wav"), "--text", "cab")
    assert status == 1 and len(errors) == 1 and "missing.wav" in errors[0]


def test_a_text_that_is_too_long_for_the_recording(align, sounds):
    status, out, errors = align(sounds / "b.wav", "--text", "abc " * 100)
    assert (status, out, len(errors)) == (2, "", 1)
    assert "asr-align: error: the text needs 399 frames (399 characters, 0 repeats) but the recording has" in errors[0]


@pytest.mark.parametrize(("line", "status"), [("--help", 0), ("--version", 0), ("x y --gap-score 1", 2)])
def test_help_and_wrong_usage_load_nothing_slow(line, status):
    code = MODULES.replace("asr.cli.transcribe", "asr.cli.align")
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=True)
    got, *modules = done.stdout.splitlines()[-1].split()
    assert int(got) == status
    assert not set(modules) & {"torch", "numba", "soundfile", "soxr", "safetensors", "librosa", "matplotlib"}


def test_help_fits_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_subtitles_get_new_times(align, sounds, tmp_path):
    subtitles = tmp_path / "b.srt"
    subtitles.write_text("1\n00:00:50,000 --> 00:00:51,000\n<i>Cab</i>,\n\n2\n00:00:52,000 --> 00:00:53,000\nac!\n")
    status, out, errors = align(sounds / "b.wav", subtitles, "--format", "srt")
    assert (status, errors) == (0, [])
    starts = [line.split()[0] for line in out.splitlines() if "-->" in line]
    assert all(start.startswith("00:00:00,") for start in starts) and starts == sorted(starts)
    assert [line for line in out.splitlines() if "-->" not in line] == ["1", "<i>Cab</i>,", "", "2", "ac!"]
    status, out, errors = align(sounds / "b.wav", subtitles)  # another format has the words of the cues
    assert [line.split()[4] for line in out.splitlines()] == ["Cab,", "ac!"]
    status, out, errors = align(sounds / "b.wav", subtitles, "--format", "vtt")
    assert (status, out) == (2, "")
    assert errors == ["asr-align: error: --format vtt of a .srt file: subtitles with new times keep their format"]
    subtitles.write_text("only words")
    status, out, errors = align(sounds / "b.wav", subtitles, "--format", "srt")
    assert (status, out) == (1, "")
    assert errors[0].startswith(f"asr-align: error: {subtitles}: contains no subtitle with times")
