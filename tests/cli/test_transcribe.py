from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.acoustic.model import AcousticModel
from asr.cli.progress import clock
from asr.cli.transcribe import main, make_parser
from asr.data.manifest import Utterance, write_manifest
from asr.data.waveforms import read_waveform
from asr.output.formats import WRITERS
from asr.recognition.many_recordings import FORMATS
from tests.audio.test_waveform import needs_ffmpeg
from tests.cli.conftest import SPOKEN
from tests.tones import speak


@pytest.fixture
def recognizer(model) -> asr.Recognizer:
    return asr.load(model, device="cpu", precision="float32")


@pytest.fixture
def transcribe(model, capsys):
    """Runs the command; (status, lines on stdout, lines on stderr)."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        status = main(["--model", model, "--precision", "float32", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    return run


def wrote(count: int, folder: Path) -> str:
    """The note about results in a folder."""
    return f"asr-transcribe: wrote {count} transcript{'s' * (count > 1)} to {folder}"


def test_one_file_gives_its_bare_text(transcribe, sounds, texts):
    assert transcribe(sounds / "b.wav") == (0, [texts[1]], [])


def test_several_files_give_path_tab_text_in_order(transcribe, sounds, texts):
    paths = [str(sounds / "b.wav"), str(sounds / "a.flac")]
    assert transcribe(*paths) == (0, [f"{paths[0]}\t{texts[1]}", f"{paths[1]}\t{texts[0]}"], [])


def test_a_folder_is_labelled_even_with_one_file(transcribe, sounds, texts, tmp_path):
    expected = [f"{sounds}/{name}\t{text}" for name, text in zip(SPOKEN, texts, strict=True)]
    assert transcribe(sounds) == (0, expected, [])
    (tmp_path / "one").mkdir()
    os.link(sounds / "a.flac", tmp_path / "one" / "a.flac")
    assert transcribe(tmp_path / "one") == (0, [f"{tmp_path}/one/a.flac\t{texts[0]}"], [])


def test_a_path_stays_on_its_line(transcribe, sounds, texts):
    odd = sounds / "day 1" / "tab\tand\nline.wav"
    (sounds / "b.wav").rename(odd)
    _, lines, _ = transcribe(odd, sounds / "a.flac")
    assert lines[0] == f"{sounds}/day 1/tab\\tand\\nline.wav\t{texts[1]}"


def test_standard_input(transcribe, sounds, texts, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((sounds / "b.wav").read_bytes())))
    assert transcribe("-") == (0, [texts[1]], [])


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_is_that_of_the_writer(transcribe, recognizer, sounds, name):
    status, lines, errors = transcribe(sounds / "b.wav", "-f", name)
    written = WRITERS[name](replace(recognizer.transcribe(sounds / "b.wav"), name="b"))
    if name == "json":
        assert json.loads(lines[0]) == {"audio": str(sounds / "b.wav"), **json.loads(written)}
        assert json.loads(lines[0])["options"] == {"beam_width": 1}
    else:
        assert lines == written.splitlines()
    assert (status, errors) == (0, [])


def test_json_and_ctm_of_several_can_be_told_apart(transcribe, sounds, texts):
    _, lines, _ = transcribe(sounds, "--format", "json")
    documents = [json.loads(line) for line in lines]
    assert [document["audio"] for document in documents] == [f"{sounds}/{name}" for name in SPOKEN]
    assert [document["text"] for document in documents] == texts
    _, lines, _ = transcribe(sounds, "--format", "ctm")
    names = ["a", "b", "day_1/a", "day_1/c"]
    expected = [(name, word) for name, text in zip(names, texts, strict=True) for word in text.split()]
    assert [(line.split()[0], line.split()[4]) for line in lines] == expected


def test_output_is_a_file_for_each_recording_and_format(transcribe, sounds, texts, tmp_path):
    out = tmp_path / "out" / "here"
    arguments = [sounds, sounds / "b.wav", "--format", "txt,srt", "--format", "json", "--output", out]
    assert transcribe(*arguments) == (0, [], [wrote(5, out)])
    found = sorted(str(path.relative_to(out)) for path in out.rglob("[!.]*") if path.is_file())
    stems = ["a", "b", "b-2", "day 1/a", "day 1/c"]
    assert found == sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("txt", "srt", "json"))
    assert (out / "b-2.txt").read_text() == (out / "b.txt").read_text() == f"{texts[1]}\n"
    assert (out / "day 1" / "a.txt").read_text() == f"{texts[2]}\n"
    assert texts[2] in (out / "day 1" / "a.srt").read_text()
    assert json.loads((out / "day 1" / "c.json").read_text())["audio"] == f"{sounds}/day 1/c.wav"


def test_all_formats_and_the_short_flags(transcribe, sounds, texts, tmp_path):
    assert transcribe(sounds / "b.wav", "-f", "all", "-o", tmp_path / "out") == (0, [], [wrote(1, tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").glob("b.*")} == {f"b.{name}" for name in FORMATS}
    assert (tmp_path / "out" / "b.txt").read_text() == f"{texts[1]}\n"
    status, _, errors = transcribe(sounds / "b.wav", "-f", "all")
    assert (status, errors[0][:40]) == (2, "asr-transcribe: error: several formats (")


def long_sound(rng: np.random.Generator, path: Path) -> Path:
    """A minute of two words and a pause, in turns."""
    waveform = np.concatenate([speak("CAB AC    ", rng) for _ in range(30)])
    soundfile.write(path, waveform, 8000)
    return path


def test_sentences_are_lines_with_times_if_wished(transcribe, recognizer, rng, tmp_path):
    path = long_sound(rng, tmp_path / "long.wav")
    segments = list(recognizer.segments(path))
    assert len(segments) >= 25
    assert transcribe(path) == (0, [segment.text for segment in segments], [])
    status, lines, _ = transcribe(path, "--verbose")
    assert status == 0 and lines[-1].startswith("[01:0") and lines[-1].endswith(f"]  {segments[-1].text}")
    assert lines[0] == f"[{clock(segments[0].start)} --> {clock(segments[0].end)}]  {segments[0].text}"
    expected = 0, lines, [wrote(1, tmp_path / "out")]
    assert transcribe(path, "--verbose", "--output", tmp_path / "out") == expected
    assert (tmp_path / "out" / "long.txt").read_text() == "".join(f"{segment.text}\n" for segment in segments)
    assert transcribe(path, path)[1] == [f"{path}\t{segment.text}" for segment in [*segments, *segments]]


def test_the_first_line_comes_before_the_sound_is_read(transcribe, rng, tmp_path, monkeypatch):
    path = long_sound(rng, tmp_path / "long.wav")
    seconds, when_printed = 0.0, []
    plain_stream = asr.recognition.pieces.stream_audio

    def stream_audio(*arguments, **options):
        nonlocal seconds
        for block in plain_stream(*arguments, **options):
            seconds += len(block) / 8000
            yield block

    monkeypatch.setattr("asr.recognition.pieces.stream_audio", stream_audio)
    monkeypatch.setattr("asr.cli.transcribe.write_result", lambda text: when_printed.append(seconds))
    assert transcribe(path)[0] == 0
    assert when_printed[0] <= 45 < 62 < seconds


def test_nothing_said_is_an_empty_line(transcribe, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 8000)
    assert transcribe(tmp_path / "silence.wav") == (0, [""], [])
    assert transcribe(tmp_path / "silence.wav", "--verbose") == (0, [], [])
    path = tmp_path / "silence.wav"
    assert transcribe(path, path) == (0, [f"{path}\t"] * 2, [])


def test_speakers_of_an_rttm_file(transcribe, rng, tmp_path):
    path = long_sound(rng, tmp_path / "long.wav")
    (tmp_path / "a.rttm").write_text("SPEAKER long 1 0 4 <NA> <NA> ann\nSPEAKER long 1 4 900 <NA> <NA> bob\n")
    status, lines, errors = transcribe(path, "--rttm", tmp_path / "a.rttm")
    assert (status, errors) == (0, [])
    assert lines[0].startswith("[ann]: ") and lines[-1].startswith("[bob]: ")
    _, (line,), _ = transcribe(path, "--rttm", tmp_path / "a.rttm", "-f", "json")
    assert {word["speaker"] for word in json.loads(line)["words"]} == {"ann", "bob"}
    (tmp_path / "b.rttm").write_text((tmp_path / "a.rttm").read_text().replace("long", "x", 1))
    (tmp_path / "b.rttm").write_text((tmp_path / "b.rttm").read_text().replace("long", "y"))
    status, lines, errors = transcribe(path, "--rttm", tmp_path / "b.rttm")
    assert errors == [f"asr-transcribe: {tmp_path}/b.rttm has no turns of long: its words have no speakers"]
    assert not lines[0].startswith("[")
    status, lines, errors = transcribe(path, "--rttm", tmp_path / "none.rttm")
    assert (status, lines) == (1, []) and "none.rttm" in errors[0]


@pytest.mark.parametrize("more", [[], ["--nproc", "2"]])
def test_channels_as_speakers(transcribe, recognizer, rng, tmp_path, more):
    left, right = speak("CAB A", rng), speak("BC AB", rng)
    quiet = 0.003 * rng.standard_normal(8000 + max(len(left), len(right)))
    waveforms = np.stack([
        np.concatenate([left, quiet[: 8000 + len(right)]]), np.concatenate([quiet[: 8000 + len(left)], right])
    ], axis=1)  # fmt: skip
    soundfile.write(tmp_path / "call.wav", waveforms, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", left, 8000, subtype="FLOAT")
    texts = [recognizer.transcribe(channel.astype(np.float32), 8000).text for channel in waveforms.T]
    mono = recognizer.transcribe(left.astype(np.float32), 8000).text
    paths = [tmp_path / "call.wav", tmp_path / "mono.wav"]
    status, lines, _ = transcribe(*paths, "--channels", "separate", *more)
    expected = [f"[CHANNEL_{number}]: {text}" for number, text in enumerate(texts)]
    assert (status, lines) == (0, [*(f"{paths[0]}\t{line}" for line in expected), f"{paths[1]}\t{mono}"])


def test_a_page_has_the_words_and_the_sound(transcribe, sounds, texts, tmp_path):
    assert transcribe(sounds / "b.wav", "--format", "html", "--output", tmp_path)[0] == 0
    page = (tmp_path / "b.html").read_text()
    assert re.findall('<span class="w"[^>]*>([^<]*)</span>', page) == texts[1].split()
    sound = base64.b64decode(page.partition("data:audio/mpeg;base64,")[2].partition('"')[0])
    duration = soundfile.info(io.BytesIO(sound)).duration
    assert duration == pytest.approx(soundfile.info(sounds / "b.wav").duration, abs=0.15)
    assert not re.findall(r"https?://|src=\"(?!data:)", page)


def test_subtitles_are_checked(transcribe, tmp_path):
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:02,000\nFine.\n\n2\n00:00:02,000 --> 00:00:02,500\nToo short.\n\n")
    status, lines, errors = transcribe("--check-subtitles", path)
    assert (status, errors) == (1, [])
    assert lines == [
        "    0  a line of more than 42 characters",
        "    0  more than 2 lines",
        "    0  more than 20 characters a second",
        "    1  less than 0.834 s long: cue 2",
        "    0  more than 7 s long",
        "    1  less than 0.084 s after the cue before: cue 2",
        "    0  a word alone on one of several lines",
        "    1  of 2 cues violate a rule",
    ]
    assert transcribe("--check-subtitles", path, "--shortest-cue", 0.5, "--cue-gap", 0)[0] == 0
    path.write_text("1\n00:00 -> 00:02\nFine.\n")
    status, lines, errors = transcribe("--check-subtitles", path)
    assert (status, lines) == (1, []) and "a.srt:1: a subtitle must have times" in errors[0]


def test_a_bad_file_among_many_is_named_and_the_others_are_done(transcribe, sounds, texts, tmp_path):
    (sounds / "day 1" / "b.wav").write_bytes(b"RIFF this is no sound")
    missing = tmp_path / "missing.wav"
    empty = tmp_path / "empty"
    empty.mkdir()
    status, lines, errors = transcribe(missing, sounds, empty)
    assert status == 1
    assert [line.split("\t")[1] for line in lines] == texts
    assert errors[0] == f"asr-transcribe: error: {missing}: cannot be opened: No such file or directory"
    assert errors[1].startswith(f"asr-transcribe: error: {sounds}/day 1/b.wav: ")
    assert errors[2].startswith(f"asr-transcribe: error: {empty}: no sound files")
    assert errors[3:] == ["asr-transcribe: 3 of 7 could not be transcribed"]


def test_a_truncated_file_is_used_and_quiet_hides_that_it_is(transcribe, sounds):
    content = (sounds / "day 1" / "a.wav").read_bytes()
    cut = sounds / "cut.wav"
    cut.write_bytes(content[: len(content) // 2])
    status, lines, errors = transcribe(cut)
    assert status == 0 and len(lines) == 1
    assert len(errors) == 1 and errors[0].startswith(f"asr-transcribe: warning: {cut}: truncated")
    assert transcribe(cut, "--quiet") == (0, lines, [])


def test_plot_draws_a_picture_and_changes_nothing_else(transcribe, sounds, texts, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    path = tmp_path / "new" / "b.PNG"
    assert transcribe(sounds / "b.wav", "--plot", path) == (0, [texts[1]], [])
    assert plt.imread(path).shape[:2] == (600, 800)
    folder = tmp_path / "pictures"
    assert transcribe(sounds, "--plot", folder)[::2] == (0, [])
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["a.png", "b.png", "day 1/a.png", "day 1/c.png"]
    assert (folder / "b.png").read_bytes() == path.read_bytes()


def test_plot_shows_what_was_decoded_of_a_long_recording(transcribe, recognizer, tmp_path, rng, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "asr.recognition.picture.transcript_picture", lambda path, **facts: drawn.update(facts, path=path)
    )
    waveform = np.concatenate([speak("CAB AC " * 3, rng) for _ in range(20)])
    path = tmp_path / "long.wav"
    soundfile.write(path, waveform, 8000)
    status, _, errors = transcribe(path, "--plot", tmp_path / "long.png")
    total = len(waveform) / 8000
    assert status == 0 and total > 80
    assert errors == [f"asr-transcribe: {tmp_path}/long.png shows the first 60 of {total:.0f} seconds"]
    assert len(drawn["waveform"]) == 60 * 8000
    transcript = recognizer.transcribe(path)
    assert (drawn["words"], drawn["timeline"]) == (transcript.words, transcript.timeline)
    (start, end), label = transcript.hypotheses[0].spans[5], transcript.hypotheses[0].tokens[5]
    assert (drawn["emission"][start:end].argmax(axis=1) == label).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("- --plot x.png", "--plot needs a file: standard input cannot be read again"),
        ("x.wav y.wav --plot x.png", "--plot must be a folder for several recordings, not a file; got x.png"),
        ("x.wav --plot x.pdf", "a picture must be a PNG, whose name ends in .png; got x.pdf"),
        (f"x.wav --plot {__file__}", "--plot must be a folder or a file that ends in .png; "),
    ],
)
def test_plot_that_cannot_be(line, message, capsys):
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith(f"asr-transcribe: error: {message}")


def test_plot_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr("asr.output.pictures.find_spec", lambda name: None)
    assert main(["x.wav", "--plot", "x.png"]) == 2
    assert capsys.readouterr().err.startswith("asr-transcribe: error: a picture needs matplotlib")


def test_channel(transcribe, recognizer, rng, tmp_path):
    waveforms = np.stack([speak("CAB A", rng), speak("BC AB", rng)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", waveforms, 8000, subtype="FLOAT")
    texts = [recognizer.transcribe((channel.astype(np.float32), 8000)).text for channel in waveforms.T]
    assert texts[0] != texts[1]
    for channel, text in enumerate(texts):
        assert transcribe(tmp_path / "stereo.wav", "--channel", channel) == (0, [text], [])
    status, _, errors = transcribe(tmp_path / "stereo.wav", "--channel", 2)
    assert status == 1 and "channel must be below the number of channels, 2; got 2" in errors[0]


@needs_ffmpeg
def test_track(transcribe, recognizer, rng, tmp_path):
    waveforms = [speak(text, rng).astype(np.float32) for text in ("CAB A", "BC AB")]
    texts = [recognizer.transcribe((waveform, 8000)).text for waveform in waveforms]
    for number, waveform in enumerate(waveforms):
        soundfile.write(tmp_path / f"{number}.wav", waveform, 8000, subtype="FLOAT")
    inputs = ["-i", tmp_path / "0.wav", "-i", tmp_path / "1.wav", "-map", "0", "-map", "1", "-c", "copy"]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, tmp_path / "a.mkv"], check=True)
    for number, text in enumerate(texts):
        assert transcribe(tmp_path / "a.mkv", "--track", number) == (0, [text], [])
    note = f"asr-transcribe: warning: {tmp_path / 'a.mkv'}: has 2 sound tracks: track 0 (pcm_f32le) is used, "
    assert transcribe(tmp_path / "a.mkv") == (0, texts[:1], [note + "--track takes another: track 1 (pcm_f32le)"])
    status, _, errors = transcribe(tmp_path / "a.mkv", "--track", 2)
    assert status == 1 and "track must be below the number of sound tracks, 2; got 2" in errors[0]


@needs_ffmpeg
def test_a_stream_of_bare_samples_is_told_the_flag_for_them(transcribe, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello" * 99)))
    status, _, errors = transcribe("-")
    assert status == 1 and errors[0].startswith("asr-transcribe: error: <stdin>: must be sound; ")
    assert errors[0].endswith("); samples without a header need --raw-rate HZ")


def test_a_stream_of_bare_samples_is_told_it_without_ffmpeg_too(transcribe, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello" * 99)))
    status, _, errors = transcribe("-")
    assert status == 1
    assert errors[0].endswith("or convert the file to wav or flac; samples without a header need --raw-rate HZ")


def test_a_stream_that_holds_more_than_it_may(transcribe, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(3_000_000))))
    status, _, errors = transcribe("-", "--max-input-bytes", 2_000_000)
    assert (status, len(errors)) == (1, 1)
    assert errors[0].startswith("asr-transcribe: error: <stdin>: must hold at most 2000000 bytes, as it is copied")


def test_one_file_that_fails_is_one_line(transcribe, tmp_path):
    path = tmp_path / "missing.wav"
    error = f"asr-transcribe: error: {path}: cannot be opened: No such file or directory"
    assert transcribe(path) == (1, [], [error])


def test_a_decoder_that_hangs_is_an_error_of_its_file(transcribe, sounds, texts, tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexec sleep 100\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("asr.audio.ffmpeg.STALL_SECONDS", 0.2)
    status, lines, errors = transcribe(tmp_path / "a.m4a", sounds / "b.wav")
    assert (status, lines) == (1, [f"{sounds / 'b.wav'}\t{texts[1]}"])
    assert errors[0] == (
        f"asr-transcribe: error: {tmp_path / 'a.m4a'}: must be sound that ffmpeg can decode; it gave nothing for 0.2 s "
        "and was stopped"
    )


def test_threads(transcribe, sounds, texts):
    before = torch.get_num_threads()
    try:
        assert transcribe(sounds / "b.wav", "--threads", before + 1) == (0, [texts[1]], [])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_flags_reach_the_recognizer(monkeypatch, capsys):
    given = {}

    def load(model, **options):
        given.update(options, model=model)
        raise asr.InputError("enough")

    monkeypatch.setattr("asr.recognition.recognizer.load", load)
    line = "x.wav --model m --device cuda:1 --precision bfloat16 --runtime torch --batch-size 3 --beam-width 1"
    assert main(line.split()) == 2
    options = {"device": "cuda:1", "precision": "bfloat16", "runtime": "torch", "batch_size": 3}
    assert given == {"model": "m", **options, "decoding": {"beam_width": 1}}
    assert main(["x.wav"]) == 2
    options = {"device": "auto", "precision": "auto", "runtime": "auto", "batch_size": 16}
    assert given == {"model": None, **options, "decoding": {}}
    assert capsys.readouterr().err == "asr-transcribe: error: enough\n" * 2


def test_progress_is_on_stderr_and_only_when_asked_for_off_a_terminal(model, sounds, capsys):
    assert main([str(sounds), "--model", model, "--progress"]) == 0
    printed = capsys.readouterr()
    seconds = sum(soundfile.info(sounds / name).duration for name in SPOKEN)
    assert (
        f"00:0{seconds:.0f} of 00:0{seconds:.0f} of sound, " in printed.err and "x real time, 00:00 left" in printed.err
    )
    assert "of sound" not in printed.out and len(printed.out.splitlines()) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give at least one PATH: a sound file, a folder, or - for standard input"),
        ("x.wav --format srt,txt", "several formats (srt, txt) need --output DIR"),
        ("x.wav y.wav --format vtt", "vtt of several recordings needs --output DIR"),
        ("x.wav --beam-width 0", "--beam-width must be between 1 and 10000, not 0"),
        (
            "x.wav --beam-width 1 --hotwords a,b",
            "--hotwords needs a beam: set --beam-width to 2 or more, for example 16",
        ),
        ("x.wav --model no-such-model", "no model 'no-such-model'"),
        (
            "x.wav --format xml",
            "argument --format: unknown format 'xml'; known are txt, json, srt, vtt, ass, ctm, tsv, html",
        ),
        (
            "x.wav --verbose --format srt",
            "--verbose prints the text with its times, not srt: leave one out, or add --output",
        ),
        ("x.wav --highlight-words", "--highlight-words is for subtitles: add the format srt, vtt or ass"),
        ("x.wav --format srt --shortest-cue 9", "--shortest-cue must be at most --longest-cue, 7; got 9"),
        (
            "x.wav --channels separate --channel 0",
            "--channels separate makes each one a speaker: leave out --channel",
        ),
        ("- --channels separate", "--channels separate needs sound files, not standard input or a manifest"),
        ("- --format html", "--format html needs sound files, not standard input or a manifest"),
        ("x.wav --batch-size 0", "argument --batch-size: must be at least 1, not 0"),
        ("x.wav --channel -1", "argument --channel: must be at least 0, not -1"),
        ("x.wav --precision half", "argument --precision: invalid choice: 'half'"),
        ("x.wav --precision float16 --device cpu", "precision float16 needs a CUDA device, not cpu: try auto"),
        ("x.wav --resume", "--resume needs --output, the folder with the earlier results"),
        (
            "x.wav --num-best 3 --format srt",
            "--num-best needs an output with several hypotheses: add --format json, or --explain",
        ),
        ("- --nproc 2", "--nproc must be 1 for standard input, which other processes cannot read"),
        ("x.wav --nproc 2 --plot p.png", "--plot needs one process: leave out --nproc"),
        ("x.wav --nproc 2 --model no-such-model", "no model 'no-such-model'"),
        ("x.wav --nproc 0", "argument --nproc: must be at least 1, not 0"),
        ("x.wav --modle y", "unknown argument '--modle': did you mean --model?"),
        (
            "x.wav --language en",
            "unknown argument '--language': each model has one language: choose a model with --model (see",
        ),
        ("x.wav --output_format srt", "unknown argument '--output_format': write --format (see"),
        (
            "x.wav --task transcribe --output_dir d --zzz",
            "unknown argument '--task': there is no translation, leave it out; unknown argument '--output_dir': write "
            "--output; unknown argument '--zzz' (see",
        ),
        ("x.wav --output-format=srt", "unknown argument '--output-format=srt': write --format (see"),
        ("x.wav --verbose False", "--verbose takes no value, but got 'False': leave it out (see"),
        ("--verbose True x.wav", "--verbose takes no value, but got 'True': write --verbose alone (see"),
        ("x.wav --verbose=True", "--verbose takes no value, but got 'True': write --verbose alone (see"),
        (
            "x.wav --no-highlight-words False",
            "--no-highlight-words takes no value, but got 'False': write --highlight-",
        ),
        ("x.wav --highlight-words False", "--highlight-words takes no value, but got 'False': write --no-highlight"),
        (
            "x.wav --highlight_words True",
            "unknown argument '--highlight_words': write --highlight-words, which takes no value, or leave it out (see",
        ),
        (
            "x.wav --fp16 False",
            "unknown argument '--fp16': --precision float16 is True, --precision float32 False; no flag here takes",
        ),
        ("x.wav --output_dir d", "unknown argument '--output_dir': write --output (see"),
        (
            "x.wav --word_timestamps True",
            "unknown argument '--word_timestamps': --format json has the times of words, --level word subtitles of one",
        ),
        (
            "x.wav --model small",
            "no model 'small': give a model folder, or one of the embedded models: an4, english; Whisper's models are",
        ),
        ("x.wav --model large-v3-turbo", "no model 'large-v3-turbo': give a model folder, or one of the embedded"),
    ],
)
def test_wrong_usage(line, message, capsys):
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"asr-transcribe: error: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "width"),
    [("--help", 500), ("--help-all --model an4", 100), ("--model=an4 -h", 100), ("--model nothing --help", 1)],
)
def test_help_shows_how_the_model_decodes_and_loads_no_torch(line, width):
    code = "import sys, asr.cli.transcribe as t; t.main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], check=True, capture_output=True, text=True)
    assert f"decode greedily (default: {width})" in " ".join(done.stdout.split())


def test_processes_that_cannot_begin_leave_no_folder(model, sounds, tmp_path, capsys):
    command = [str(sounds), "--model", model, "--nproc", "2", "--output", str(tmp_path / "texts")]
    assert main([*command, "--device", "cpu", "--precision", "float16"]) == 2
    assert not (tmp_path / "texts").exists()


def test_a_folder_is_several_recordings_for_the_formats_too(transcribe, sounds):
    (sounds / "day 1" / "c.wav").unlink()
    status, _, errors = transcribe(sounds / "day 1", "--format", "srt")
    assert (status, errors) == (2, ["asr-transcribe: error: srt of several recordings needs --output DIR"])


def test_output_that_looks_like_a_file_is_refused(transcribe, sounds, tmp_path):
    status, _, errors = transcribe(sounds / "b.wav", "-o", tmp_path / "b.srt")
    assert (status, errors) == (
        2,
        [
            f"asr-transcribe: error: --output must be a folder, not {tmp_path / 'b.srt'}; for one file write "
            f"--format srt > {tmp_path / 'b.srt'}"
        ],
    )
    assert not (tmp_path / "b.srt").exists()
    (tmp_path / "b.srt").mkdir()
    assert transcribe(sounds / "b.wav", "-o", tmp_path / "b.srt")[0] == 0


def test_output_must_be_a_folder(transcribe, sounds):
    status, lines, errors = transcribe(sounds, "--output", sounds / "notes.txt")
    assert (status, lines) == (2, [])
    assert errors == [f"asr-transcribe: error: --output must be a folder; {sounds / 'notes.txt'} is a file"]


def test_a_folder_that_is_no_model(capsys, sounds):
    assert main([str(sounds / "b.wav"), "--model", str(sounds)]) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(
        f"asr-transcribe: error: {sounds}: a model must be a folder of asr (config.json, "
    )


def test_list_models(model, monkeypatch, tmp_path, capsys):
    loaded = AcousticModel.load(model)
    results = {
        name: {"wer": {"rate": rate}, "cer": {"rate": rate / 2}}
        for name, rate in (("dev", 0.0688), ("test", 0.0501), ("dev, beam of 16", 0.06), ("other, beam of 16", 1.234))
    }
    loaded.config = replace(loaded.config, provenance={"corpus": "tones", "results": results})
    loaded.save(tmp_path / "english")
    loaded.config = replace(loaded.config, provenance={}, description="Other tones.")
    loaded.save(tmp_path / "tones")
    megabytes = sum(path.stat().st_size for path in (tmp_path / "english").iterdir()) / 1e6
    monkeypatch.setattr(
        "asr.acoustic.folder.embedded_models", lambda: {name: tmp_path / name for name in ("english", "tones")}
    )
    assert main(["--list-models"]) == 0
    ours, _, others = capsys.readouterr().out.partition("\n\n")
    assert others.startswith("models of others: give --model the folder, or a name with torchaudio:\n")
    assert ours.splitlines() == [
        "english (default)",
        "  Tones.",
        f"  en, {megabytes:.1f} MB",
        "  WER, %  greedy  beam of 16",
        "  dev        6.9         6.0",
        "  test       5.0           -",
        "  other        -       123.4",
        "tones",
        "  Other tones.",
        f"  en, {megabytes:.1f} MB",
    ]


def test_the_flags_that_replace_those_of_whisper_exist():
    flags = make_parser()._option_string_actions
    for foreign, advice in make_parser().foreign.items():
        assert foreign not in flags
        assert set(re.findall(r"--[\w-]+", advice)) <= flags.keys()


def test_no_models_to_list(monkeypatch, capsys):
    monkeypatch.setattr("asr.acoustic.folder.embedded_models", dict)
    assert main(["--list-models"]) == 0
    assert capsys.readouterr().out.startswith("no models are embedded\n\nmodels of others: ")


MODULES = """
import sys
from asr.cli.progress import clock
from asr.cli.transcribe import main
status = main(sys.argv[1:])
print(status, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded_modules(*arguments: object) -> tuple[int, set[str]]:
    """The status of the command in an interpreter of its own, and the top-level modules that it loaded."""
    command = [sys.executable, "-c", MODULES, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, *names = done.stdout.splitlines()[-1].split()
    return int(status), set(names)


@pytest.mark.parametrize(
    ("line", "status"), [("--help", 0), ("--version", 0), ("x --beam-width two", 2), ("--wrong", 2)]
)
def test_help_and_wrong_usage_load_nothing_slow(line, status):
    got, modules = loaded_modules(*line.split())
    assert got == status
    assert not modules & {"torch", "soundfile", "soxr", "safetensors", "librosa", "lhotse"}


def test_transcribing_loads_no_more_than_it_needs(model, sounds):
    status, modules = loaded_modules(sounds / "b.wav", "--model", model)
    assert status == 0 and "onnxruntime" in modules
    assert not modules & {"torch", "librosa", "torchaudio", "lhotse", "scipy", "numba", "matplotlib", "tensorboard"}


@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_fits_a_terminal(flag, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([flag]) == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert ("--unknown-letter-score" in printed) == (flag == "--help-all")


def test_paths_need_not_be_absolute(transcribe, sounds, texts, monkeypatch):
    monkeypatch.chdir(sounds)
    assert transcribe("b.wav") == (0, [texts[1]], [])
    status, lines, _ = transcribe(Path("day 1"))
    assert (status, lines) == (0, [f"day 1/a.wav\t{texts[2]}", f"day 1/c.wav\t{texts[3]}"])


def test_explain_shows_a_table_for_each_recording(transcribe, tone_corpus):
    paths = [tone_corpus / f"tone-{number}.wav" for number in (45, 46)]
    status, lines, _ = transcribe("--explain", *paths)  # the search may say that it is compiled first
    assert status == 0
    assert [line for line in lines if line.startswith("/")] == [str(path) for path in paths]
    assert lines[1] == "     score  acoustic  text" and len(lines) == 2 * (2 + 5 + 1)
    _, lines, _ = transcribe("--explain", "--num-best", 2, "--hotwords", "ABBA", paths[0])
    assert len(lines) == 2 + 2 + 1
    status, lines, _ = transcribe("--explain", "--beam-width", 1, paths[0])
    assert status == 0 and lines[1].split() == ["score", "acoustic", "text"] and len(lines) == 4
    status, _, errors = transcribe("--explain", "--format", "json", paths[0])
    assert (status, len(errors)) == (2, 1) and "--explain writes a table to standard output" in errors[0]


# Many recordings: manifests, several processes, and going on


def test_a_manifest_is_transcribed_by_its_ids(transcribe, recognizer, sounds, texts, tmp_path):
    whole = soundfile.info(sounds / "b.wav").duration
    utterances = [
        Utterance(id="first", audio=sounds / "b.wav", duration_seconds=whole, text="-"),
        Utterance(id="x/half", audio=sounds / "b.wav", duration_seconds=whole / 2, text="-"),
        Utterance(id="gone", audio=sounds / "gone.wav", duration_seconds=1.0, text="-"),
    ]
    write_manifest(utterances[:2], tmp_path / "m.jsonl")
    line = (tmp_path / "m.jsonl").read_text().splitlines()[0]
    with open(tmp_path / "m.jsonl", "a") as file:
        file.write(line.replace("first", "gone").replace("b.wav", "gone.wav") + "\n")
    half = recognizer.transcribe((read_waveform(utterances[1], 8000), 8000)).text
    status, lines, errors = transcribe(tmp_path / "m.jsonl")
    assert (status, lines) == (1, [f"first\t{texts[1]}", f"x/half\t{half}"])
    assert errors[0].startswith(f"asr-transcribe: error: {sounds / 'gone.wav'}: ")
    with open(tmp_path / "m.jsonl", "a") as file:
        file.write(
            "\n" + line.replace('"duration": ', '"duration": 1e308, "was": ', 1) + '\n{"audio_filepath": "a.wav"}\n'
        )
    status, lines, errors = transcribe(tmp_path / "m.jsonl")
    assert (status, lines) == (1, [f"first\t{texts[1]}", f"x/half\t{half}"])
    assert [error.split("m.jsonl:")[1].split(":")[0] for error in errors[1:3]] == ["5", "6"]
    message = "asr-transcribe: error: --plot needs sound files, not a manifest"
    assert transcribe(tmp_path / "m.jsonl", "--plot", tmp_path) == (2, [], [message])
    assert transcribe(tmp_path / "m.jsonl", "--output", tmp_path / "out")[0] == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["first.txt", "x_half.txt"]


def test_several_processes_give_what_one_gives(transcribe, sounds, tmp_path):
    for number in range(12):
        os.link(sounds / ("a.flac" if number % 3 else "b.wav"), sounds / f"n{number:02d}.wav")
    content = (sounds / "day 1" / "a.wav").read_bytes()
    (sounds / "n05-cut.wav").write_bytes(content[: len(content) // 2])
    (sounds / "n07-bad.wav").write_bytes(b"RIFF this is no sound")
    status, lines, errors = transcribe(sounds, tmp_path / "missing.wav")
    assert status == 1 and len(lines) == 17 and len(errors) == 4
    several = transcribe(sounds, tmp_path / "missing.wav", "--nproc", 2)
    assert several[:2] == (1, lines)
    assert sorted(several[2]) == sorted(errors)


def test_resume_does_only_what_is_not_there(transcribe, sounds, texts, tmp_path):
    out = tmp_path / "out"
    assert transcribe(sounds, "--output", out, "--format", "txt,json") == (0, [], [wrote(4, out)])
    (out / "a.txt").write_text("kept\n")
    (out / "b.json").unlink()
    (out / "day 1" / "c.txt").unlink()
    status, lines, errors = transcribe(sounds, "--output", out, "--format", "txt,json", "--resume")
    skipped = "asr-transcribe: skipped 2 of 4 recordings: their files exist"
    assert (status, lines, errors) == (0, [], [skipped, wrote(2, out)])
    assert (out / "a.txt").read_text() == "kept\n"
    assert json.loads((out / "b.json").read_text())["text"] == texts[1]
    assert (out / "day 1" / "c.txt").read_text() == f"{texts[3]}\n"
    assert transcribe(sounds, "--output", out, "--resume", "--quiet") == (0, [], [])


def test_a_recording_that_comes_later_does_not_take_anothers_result(transcribe, sounds, texts, tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    os.link(sounds / "b.wav", folder / "talk.wav")
    assert transcribe(folder, "--output", out, "--resume")[0] == 0
    os.link(sounds / "a.flac", folder / "talk.flac")  # which comes first by its name
    status, _, errors = transcribe(folder, "--output", out, "--resume")
    assert (status, errors) == (0, ["asr-transcribe: skipped 1 of 2 recordings: their files exist", wrote(1, out)])
    assert (out / "talk.txt").read_text() == f"{texts[1]}\n"
    assert (out / "talk-2.txt").read_text() == f"{texts[0]}\n"
    assert transcribe(folder, "--output", out, "--resume") == (
        0,
        [],
        ["asr-transcribe: skipped 2 of 2 recordings: their files exist"],
    )
    other = tmp_path / "other"
    other.mkdir()
    os.link(sounds / "b.wav", other / "else.wav")
    assert transcribe(other, "--output", out)[0] == 0  # which forgets nothing of the others
    os.link(sounds / "day 1" / "c.wav", folder / "else.wav")
    assert transcribe(folder, "--output", out, "--resume")[0] == 0
    assert (out / "else-2.txt").read_text() == f"{texts[3]}\n"
    folder.rename(tmp_path / "moved")
    assert transcribe(tmp_path / "moved", "--output", out, "--resume")[2] == [
        "asr-transcribe: skipped 3 of 3 recordings: their files exist"
    ]


def test_a_result_is_replaced_by_that_of_the_same_recording_alone(transcribe, sounds, texts, tmp_path):
    out = tmp_path / "out"
    assert transcribe(sounds / "a.flac", "--output", out) == (0, [], [wrote(1, out)])
    (out / "a.txt").write_text("old")
    assert transcribe(sounds / "day 1" / "a.wav", "--output", out, "--quiet") == (0, [], [])
    note = f"1 of 1 results were renamed, because their names are in use: the result of {sounds}"
    assert transcribe(sounds / "day 1" / "a.wav", "--output", out)[2] == [
        f"asr-transcribe: {note}/day 1/a.wav is a-2",
        wrote(1, out),
    ]
    assert (out / "a.txt").read_text() == "old"
    assert (out / "a-2.txt").read_text() == f"{texts[2]}\n"
    assert transcribe(sounds / "a.flac", "--output", out) == (0, [], [wrote(1, out)])
    assert (out / "a.txt").read_text() == f"{texts[0]}\n"


def test_a_result_that_cannot_be_written_for_its_name_is_one_error_among_many(transcribe, sounds, texts, tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    (folder / "b.json").mkdir(parents=True)
    long = "n" * 251  # and .wav are 255 bytes, and .json too many
    for name in ("b.wav", f"{long}.wav", "b.json/c.wav"):
        os.link(sounds / "b.wav", folder / name)
    status, _, errors = transcribe(folder, "--output", out, "--format", "json,txt")
    assert (status, errors[-1]) == (1, "asr-transcribe: 2 of 3 could not be transcribed")
    assert f"b.wav: its result cannot be written: {out}/b.json: " in " ".join(errors)  # which is a folder
    assert f"{long}.wav: its result cannot be written: {out / long}.json: File name too long" in " ".join(errors)
    assert (out / "b.json" / "c.txt").read_text() == f"{texts[1]}\n"
    assert not list(out.rglob("*.tmp"))
    assert transcribe(folder, "--output", out, "--format", "json,txt", "--resume")[0] == 1  # the same again


# Slow to read; and one recording is the death of whatever reads it. Processes that this one starts read it again.
MOUNTAIN = """
import os, signal, sys, time
import asr.recognition.pieces
from asr.cli.progress import clock
from asr.cli.transcribe import main

plain = asr.recognition.pieces.stream_audio

def stream_audio(source, **options):
    time.sleep(0.05)
    if "killer" in source:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(source, **options)

asr.recognition.pieces.stream_audio = stream_audio
if __name__ == "__main__":
    sys.exit(main())
"""


def test_a_mountain_is_done_though_it_is_killed_in_the_middle_and_a_recording_kills(model, rng, tmp_path):
    folder, out = tmp_path / "mountain", tmp_path / "out"
    folder.mkdir()
    soundfile.write(folder / "000.wav", speak("AB", rng), 8000)
    for number in range(1, 60):
        os.link(folder / "000.wav", folder / (f"{number:03d}.wav" if number != 30 else "030-killer.wav"))
    (tmp_path / "mountain.py").write_text(MOUNTAIN)
    command = [sys.executable, str(tmp_path / "mountain.py"), str(folder), "--output", str(out), "--model", model]
    command += ["--nproc", "2", "--resume", "--threads", "1", "--device", "cpu", "--precision", "float32"]

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("*.txt")}

    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while len(written()) < 5:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        process.communicate()  # until the last worker has let go of stderr
    before = written()
    assert 5 <= len(before) < 59

    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"asr-transcribe: skipped {len(before)} of 60 recordings: their files exist"
    assert lines[1:] == [
        f"asr-transcribe: error: {folder}/030-killer.wav: the process that read it was killed by SIGKILL "
        "(by the system, if memory ran out), twice",
        wrote(59 - len(before), out),
        f"asr-transcribe: 1 of {60 - len(before)} could not be transcribed",
    ]
    assert len(written()) == 59 and written().items() >= before.items()
    assert len({(out / name).read_text() for name in written()}) == 1


SLOW = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + MOUNTAIN.replace("0.05", "0.3")
"""As MOUNTAIN, but slower, and interrupted by SIGINT even where a job in the background ignores it."""


def test_interrupted_it_leaves_each_finished_file_and_says_how_to_go_on(model, rng, tmp_path):
    folder, out = tmp_path / "mountain", tmp_path / "out"
    folder.mkdir()
    soundfile.write(folder / "000.wav", speak("AB", rng), 8000)
    for number in range(1, 60):
        os.link(folder / "000.wav", folder / f"{number:03d}.wav")
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, str(tmp_path / "slow.py"), str(folder), "-o", str(out), "--model", model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("*.txt")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        error = process.communicate()[1].splitlines()[-1]
    finished = sorted(out.glob("*.txt"))
    assert process.returncode == 130 and 1 <= len(finished) < 60
    assert len({path.read_text() for path in finished}) == 1 and not list(out.rglob("*.tmp"))
    match = re.fullmatch(
        r"asr-transcribe: interrupted: (\d+) of 60 recordings are done, 00:\d\d of sound; go on with: (.*)", error
    )
    assert match and 0 <= len(finished) - int(match[1]) <= 1
    assert match[2] == f"asr-transcribe {folder} -o {out} --model {model} --resume"


def test_a_folder_behind_a_url_by_several_processes(model, sounds, texts, tmp_path, capsys):
    arguments = [sounds.as_uri(), "--model", model, "--device", "cpu", "--precision", "float32", "--nproc", "2"]
    assert main(arguments) == 0
    assert [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()] == texts
    assert main([*arguments, "--output", str(tmp_path / "out"), "--resume"]) == 0
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")) == [
        *("a.txt", "b.txt", "day 1/a.txt", "day 1/c.txt")
    ]


def test_json_on_stdout_is_a_line_for_each_recording_that_can_be_read(model, sounds):
    """Whatever else there is to say, and whatever the stream can show."""
    (sounds / "broken.wav").write_bytes(b"RIFF")
    (sounds / "empty.mp3").write_bytes(b"")
    (sounds / "truncated.flac").write_bytes((sounds / "a.flac").read_bytes()[:-300])
    (sounds / "é☃.wav").write_bytes((sounds / "b.wav").read_bytes())
    os.link(sounds / "b.wav", os.fsencode(sounds) + b"/not\xffutf-8.wav")
    command = [sys.executable, "-m", "asr.cli.transcribe", str(sounds), "--format", "json", "--model", model]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [os.path.relpath(line["audio"], sounds) for line in lines] == [
        *("a.flac", "b.wav", "day 1/a.wav", "day 1/c.wav", "not\udcffutf-8.wav", "truncated.flac", "é☃.wav")
    ]
    assert done.returncode == 1 and b"2 of 9 could not be transcribed" in done.stderr
