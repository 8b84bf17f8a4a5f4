"""Uploads as samples: those of `read_audio`, within limits, from a file whose name means nothing."""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from asr.audio.waveform import read_audio
from asr.errors import InputError
from asr.server.notes import collecting
from asr.server.sound import read_sound
from tests.server.conftest import MERCHANT


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_the_samples_are_those_of_read_audio(rate):
    with MERCHANT.open("rb") as file:
        sound = read_sound(file, rate, max_seconds=60)
    expected = read_audio(MERCHANT, sample_rate=rate)
    np.testing.assert_array_equal(sound.samples, expected)
    assert (sound.samples.dtype, sound.notes) == (np.float32, ())
    assert sound.seconds == len(expected) / rate


def test_the_limit_is_that_of_the_decoded_sound():
    seconds = len(read_audio(MERCHANT)) / 16_000
    assert read_sound(io.BytesIO(MERCHANT.read_bytes()), 16_000, max_seconds=seconds).seconds == seconds
    with pytest.raises(InputError, match=r"^must be at most 4\.7 s long; it is longer$"):
        read_sound(io.BytesIO(MERCHANT.read_bytes()), 16_000, max_seconds=4.7)


def test_the_name_of_the_file_means_nothing():
    file = io.BytesIO(b"junk")
    file.name = "/etc/passwd"
    with pytest.raises(InputError, match=r"^must be sound") as caught:
        read_sound(file, 16_000, max_seconds=60)
    assert "passwd" not in str(caught.value)


def test_damage_is_noted():
    with collecting():
        sound = read_sound(io.BytesIO(MERCHANT.read_bytes()[:40_000]), 16_000, max_seconds=60)
    (note,) = sound.notes
    assert note.startswith("truncated or damaged: ")


@contextmanager
def file_sizes(most: int) -> Iterator[None]:
    """No file of this process may be longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [50_000, 150_000])  # less than the upload; less than its samples
def test_a_full_disk_is_no_fault_of_the_sound(most):
    with file_sizes(most), pytest.raises(OSError, match="File too large"):
        read_sound(io.BytesIO(MERCHANT.read_bytes()), 16_000, max_seconds=60)


def test_sound_that_takes_long_to_decode():
    sound = MERCHANT.read_bytes()
    with pytest.raises(InputError, match=r"^must be decoded within 0 s; it takes longer$"):
        read_sound(io.BytesIO(sound), 16_000, max_seconds=60, work_seconds=0)


def test_a_decoder_that_hangs(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("asr.audio.ffmpeg.STALL_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"^must be sound that ffmpeg can decode; it gave nothing for 0\.2 s and was"):
        read_sound(io.BytesIO(b"junk"), 16_000, max_seconds=60)


def test_sound_that_nobody_wants_any_more():
    asked = []

    def is_left() -> bool:
        asked.append(True)
        return len(asked) == 2

    file = io.BytesIO()
    soundfile.write(file, np.zeros(200 * 16_000, np.int16), 16_000, format="FLAC")
    file.seek(0)
    with pytest.raises(InputError):
        read_sound(file, 16_000, max_seconds=3600, is_left=is_left)
    assert len(asked) == 2
