"""asr.audio.source: what streams, pipes and devices may do to a program, and what is left of a copy."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from asr.audio import source as sound_source
from asr.audio.source import open_sound
from asr.errors import DataError, InputError
from tests.audio.test_waveform import no_temporary_file_stays  # noqa: F401

ENDLESS = """
import sys, tempfile
from asr.audio.source import open_sound
tempfile.tempdir = sys.argv[1]
class Stream:
    def read(self, size):
        print(flush=True)
        return bytes(size)
open_sound(Stream(), "endless")
"""


@pytest.mark.parametrize("kind", ["file object", "stdin", "pipe"])
def test_a_stream_holds_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    content = bytes(3_000_000)
    source: object = io.BytesIO(content)
    if kind == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        source = "-"
    elif kind == "pipe":
        source = tmp_path / "pipe"
        os.mkfifo(source)
        threading.Thread(target=fed, args=(source, content)).start()
    with pytest.raises(DataError, match=r"a: must hold at most 2000000 bytes, .*: give a file, or another --max-input"):
        open_sound(source, "a", max_bytes=2_000_000)  # type: ignore[arg-type]
    with open_sound(io.BytesIO(content), "a", max_bytes=3_000_000) as file:
        assert os.fstat(file.fileno()).st_size == 3_000_000


def fed(pipe: Path, content: bytes) -> None:
    with pipe.open("wb", buffering=0) as file, suppress(BrokenPipeError):
        file.write(content)


def test_a_file_may_hold_more(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000))
    with open_sound(tmp_path / "a", "a", max_bytes=2_000) as file:
        assert len(file.read()) == 3_000
    with open_sound((tmp_path / "a").as_uri(), "a", max_bytes=2_000) as file:
        assert len(file.read()) == 3_000


def test_a_device_without_an_end_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/zero") as zeros, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", zeros)
        with pytest.raises(DataError, match="must hold at most 5000000 bytes"):
            open_sound("-", "<stdin>", max_bytes=5_000_000)
    for source in ("/dev/zero", "file:///dev/zero"):
        with pytest.raises(DataError, match="must be a file or a pipe; it is a device"):
            open_sound(source, source)


@pytest.mark.parametrize("written", [None, b"RIFF"], ids=["no writer", "a writer that pauses"])
@pytest.mark.parametrize("url", [False, True])
def test_a_pipe_through_which_nothing_comes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes | None, url: bool
) -> None:
    monkeypatch.setattr(sound_source, "PATIENCE", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR) if written else None
    try:
        if writer is not None:
            os.write(writer, written or b"")
        with pytest.raises(DataError, match=r"pipe: must be written to .*; nothing has come .* for 0.1 s"):
            open_sound(pipe.as_uri() if url else pipe, "pipe")
    finally:
        if writer is not None:
            os.close(writer)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_copy_is_gone_however_the_program_ends(tmp_path: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()  # the second megabyte is asked for
        process.send_signal(end)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_said_and_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, *_: object) -> int:
            raise OSError(28, "No space left on device")

    copy = Full()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: copy)
    with pytest.raises(DataError, match=r"a: its copy in .* cannot be written: No space left on device"):
        open_sound(io.BytesIO(b"sound"), "a")
    assert copy.closed


def test_bytes_are_refused_with_advice():
    with pytest.raises(InputError, match=r"a sound must be .*; got bytes: wrap them in io\.BytesIO$"):
        open_sound(b"RIFF", None)
