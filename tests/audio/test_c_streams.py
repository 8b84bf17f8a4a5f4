"""asr.audio.c_streams against words that C prints, in this process and by the decoders."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.c_streams import silenced
from asr.audio.sound_files import sound_header
from asr.audio.waveform import read_audio
from tests.audio.test_mp3_frames import encoded, frames_of

C = ctypes.CDLL(None)
needs_names = pytest.mark.skipif(not hasattr(C, "stdout"), reason="this C library has no variable `stdout`")


def said(capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
    C.fflush(None)
    return capfd.readouterr()


@needs_names
def test_words_of_c_go_nowhere_and_those_of_python_do_not(capfd: pytest.CaptureFixture[str]) -> None:
    C.puts(b"before")
    C.fflush(None)
    with silenced(), silenced():
        C.puts(b"within")
        C.perror(b"within")
        os.write(1, b"by descriptor\n")
        print("by Python", file=sys.stderr)
    C.puts(b"after")
    assert said(capfd) == ("before\nby descriptor\nafter\n", "by Python\n")


@needs_names
def test_silence_lasts_until_the_last_thread_leaves_it(capfd: pytest.CaptureFixture[str]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with silenced():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait()
    with silenced():
        pass
    C.puts(b"within")
    leave.set()
    thread.join()
    C.puts(b"after")
    assert said(capfd) == ("after\n", "")


@needs_names
def test_a_forked_process_can_speak(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced():
        if os.fork() == 0:
            C.puts(b"child")
            C.fflush(None)
            os._exit(0)
        os.wait()
    assert said(capfd) == ("child\n", "")


@needs_names
@pytest.mark.filterwarnings("ignore")
def test_decoders_say_nothing_of_damage(
    tmp_path: Path, rng: np.random.Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = frames_of(encoded(rng.uniform(-0.5, 0.5, 16_000), 16_000))
    broken = [frame[:5] + rng.bytes(len(frame) - 5) for frame in frames[1:]]
    (tmp_path / "a.mp3").write_bytes(b"".join(broken))
    soundfile.write(tmp_path / "a.sds", rng.uniform(-0.5, 0.5, 16_000), 16_000, format="SDS", subtype="PCM_16")
    dump = bytearray((tmp_path / "a.sds").read_bytes())
    dump[21 + 127 * 5] = 0  # where a block begins
    (tmp_path / "a.sds").write_bytes(dump)
    for function in (read_audio, sound_header):
        function(tmp_path / "a.mp3")
        function(tmp_path / "a.sds")
    assert said(capfd) == ("", "")

    soundfile.read(tmp_path / "a.sds")  # what the two say otherwise
    soundfile.read(tmp_path / "a.mp3")
    out, err = said(capfd)
    assert out.startswith("Error A : ") and "libmpg123" in err
