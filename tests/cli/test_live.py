"""Live sound on the command line: pipes fed slowly, raw samples, Ctrl-C, the open line of a terminal."""

from __future__ import annotations

import io
import os
import pty
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.cli.live import end_of_line
from asr.cli.transcribe import main
from asr.importing import recording
from tests.recognition.test_streaming import RATE, SENTENCES, talk


@pytest.fixture(scope="module")
def samples() -> bytes:
    """16 bits at 8 kHz."""
    return (talk(SENTENCES, np.random.default_rng(5)) * 2**15).astype("<i2").tobytes()


def header(size: int = 0xFFFF_FFFF) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", size, b"WAVE") + form + struct.pack("<4sI", b"data", size)


def start(model: str, *flags: str, **streams) -> subprocess.Popen:
    command = [sys.executable, "-m", "asr.cli.transcribe", "--model", model, "--precision", "float32", *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **streams)


def feed(process: subprocess.Popen, content: bytes, *, until: float = np.inf) -> None:
    """Write a tenth of a second of sound at a time, ten times as fast as it was spoken."""
    for at in range(0, int(min(len(content), 2 * RATE * until)), RATE // 5):
        process.stdin.write(content[at : at + RATE // 5])
        process.stdin.flush()
        time.sleep(0.01)


def test_a_sentence_is_printed_while_the_pipe_is_still_written(model, samples):
    with start(model, "-", "--verbose", "--step", "0.5") as process:
        feed(process, header() + samples, until=3)
        first = process.stdout.readline().decode()
        assert first.startswith("[00:00.")  # trained weights, and so times, differ between processors
        assert first.endswith(f"]  {SENTENCES[0]}\n")
        assert process.poll() is None
        feed(process, samples[6 * RATE :])
        process.stdin.close()
        rest = process.stdout.read().decode().splitlines()
    assert [line.partition("]  ")[2] for line in rest] == SENTENCES[1:]
    assert process.returncode == 0


def test_raw_samples_and_a_wav_give_the_text_of_the_file(model, samples, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(samples)))
    assert main(["--model", model, "-", "--raw-rate", str(RATE)]) == 0
    assert capsys.readouterr() == ("".join(f"{text}\n" for text in SENTENCES), "")
    with start(model, "-") as process:
        lines = process.communicate(header(len(samples)) + samples)[0].decode().splitlines()
    assert lines == SENTENCES


def test_what_was_heard_before_an_error_is_printed(model, samples):
    with start(model, "-", "--step", "10", stderr=subprocess.PIPE) as process:
        out, err = process.communicate(header(len(samples)) + samples + b"\1" * 100)
    assert out.decode().splitlines() == SENTENCES
    assert b"error: <stdin>: a chunk of a WAV file must come after its samples" in err
    assert process.returncode == 1


def test_a_closed_standard_input_is_empty(model):
    command = f'"$0" -m asr.cli.transcribe --model "$1" - --raw-rate {RATE} <&-'
    result = subprocess.run(["sh", "-c", command, sys.executable, model], capture_output=True, text=True)
    assert result.stderr == "asr-transcribe: error: <stdin>: must hold sound; it holds no samples\n"
    assert (result.returncode, result.stdout) == (1, "")


def test_ctrl_c_ends_the_sound_and_prints_what_was_heard(model, samples):
    with start(model, "-", "--step", "0.5", stderr=subprocess.PIPE) as process:
        feed(process, header() + samples, until=3.5)
        assert process.stdout.readline().decode() == f"{SENTENCES[0]}\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read().decode(), process.stderr.read()
    assert SENTENCES[1].startswith(rest.strip())
    assert rest.strip()
    assert (process.wait(), errors) == (0, b"")


def test_a_terminal_shows_the_open_sentence_on_its_last_line(model, samples):
    terminal, side = pty.openpty()
    with start(model, "-", stderr=side) as process:
        os.close(side)
        feed(process, header() + samples, until=3)
        process.stdin.close()
        assert process.stdout.readline().decode() == f"{SENTENCES[0]}\n"
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 1000)
            except OSError:  # the other side is closed
                break
    os.close(terminal)
    writings = shown.decode().split("\r\x1b[K")
    assert any(writing.endswith("\x1b[22m") for writing in writings)  # unstable words are dim
    plain = [writing.replace("\x1b[2m", "").replace("\x1b[22m", "") for writing in writings]
    assert {word for line in plain for word in line.split()} & {"AA", "BC", "CA"}
    assert writings[-1] == ""
    assert not any("\n" in writing for writing in writings)


def test_silence_is_an_empty_line(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(2 * RATE))))
    assert main(["--model", model, "-", "--raw-rate", str(RATE)]) == 0
    assert capsys.readouterr() == ("\n", "")


def test_the_microphone_is_transcribed_until_ctrl_c(model, samples, monkeypatch, capsys):
    class Microphone:
        def blocks(self):
            yield from np.array_split(np.frombuffer(samples, "<i2") / np.float32(2**15), 50)
            raise KeyboardInterrupt

    monkeypatch.setattr(recording, "SystemMicrophone", Microphone)
    monkeypatch.setattr(recording, "RATE", RATE)
    assert main(["--model", model, "--live"]) == 0
    assert capsys.readouterr().out.splitlines() == SENTENCES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--live", "a.wav"], "--live transcribes the microphone: leave out PATH"),
        (["a.wav", "--raw-rate", "8000"], "--raw-rate is for samples on standard input: give - as the only PATH"),
        (["--live", "-f", "srt"], "live sound becomes text on standard output: leave out flags of files, formats and"),
        (["-", "--raw-rate", "8000", "-o", "x"], "live sound becomes text on standard output: leave out flags of"),
        (["-", "--raw-rate", "8000", "--look-ahead", "11"], "--look-ahead must be between 0 and 10, not 11.0"),
    ],
)
def test_flags_that_contradict_live_sound_are_refused(model, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(100))))
    assert main(["--model", model, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_raw_rate_out_of_range_is_named(model, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(100))))
    assert main(["--model", model, "-", "--raw-rate", "10"]) == 1
    assert "error: <stdin>: the sample rate must be 1000 to 1000000 Hz; it is 10" in capsys.readouterr().err


def test_a_line_keeps_its_end():
    assert end_of_line("CAB AC", 6) == "CAB AC"
    assert end_of_line("CAB AC", 5) == "…B AC"
    assert end_of_line("你好吗", 5) == "…好吗"
    assert end_of_line("你好吗", 4) == "…吗"


def test_standard_input_that_is_a_file_is_read_as_one(model, samples, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(header(len(samples)) + samples)
    expected = asr.load(model, precision="float32").transcribe(tmp_path / "a.wav").text
    with (tmp_path / "a.wav").open("rb") as file:
        command = [sys.executable, "-m", "asr.cli.transcribe", "--model", model, "--precision", "float32", "-"]
        result = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
    assert result.stdout.split() == expected.split()
