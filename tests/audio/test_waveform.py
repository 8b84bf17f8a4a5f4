"""asr.audio.waveform against soundfile, soxr in one piece, planted sounds, and files damaged by hand."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import soxr

from asr.audio.libsndfile import RawFormat
from asr.audio.waveform import duration_seconds, quietest_cut, read_audio, stream_audio
from asr.errors import AsrError, AsrWarning, ConfigError, DataError, InputError

RATE = 16_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def sine(frequency: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def written(path: Path, samples: np.ndarray, rate: int = RATE, **options: object) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def cut_off(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.fixture(autouse=True)
def no_temporary_file_stays(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of ffmpeg."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


# --- what is in the file comes out


@pytest.mark.parametrize(
    ("container", "subtype", "step"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 2**-24),  # float32 has 24 bits
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ULAW", 2**-5),
        ("WAV", "ALAW", 2**-5),
        ("RF64", "PCM_16", 2**-15),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
        ("NIST", "PCM_16", 2**-15),
        ("AIFF", "PCM_16", 2**-15),
        ("CAF", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
    ],
)
def test_lossless_files_come_back_within_their_quantisation(
    tmp_path: Path, rng: np.random.Generator, container: str, subtype: str, step: float
) -> None:
    samples = rng.uniform(-0.99, 0.99, 20_000).astype(np.float32)
    path = written(tmp_path / "a", samples, format=container, subtype=subtype)
    waveform = read_audio(path)
    assert waveform.dtype == np.float32 and waveform.shape == samples.shape and waveform.flags.writeable
    np.testing.assert_allclose(waveform, samples, rtol=0, atol=step)
    assert duration_seconds(path) == 20_000 / RATE


@pytest.mark.parametrize(
    ("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "GSM610")]
)
def test_lossy_files_come_back_in_time_and_tone(tmp_path: Path, container: str, subtype: str) -> None:
    samples = sine(440, 2.0)
    waveform = read_audio(written(tmp_path / "a", samples, format=container, subtype=subtype))
    assert len(waveform) == len(samples)
    middle = slice(4_000, 28_000)
    assert np.std(waveform[middle] - samples[middle]) < 0.1 * np.std(samples)


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_decoding_in_blocks_has_no_seams(
    tmp_path: Path, rng: np.random.Generator, container: str, subtype: str
) -> None:
    path = written(tmp_path / "a", rng.uniform(-0.5, 0.5, 700_000), format=container, subtype=subtype)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(read_audio(path), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.zeros(1), sine(440, 0.005)], ids=["silence", "1", "5 ms"])
def test_silence_and_the_shortest_sounds_are_samples(tmp_path: Path, samples: np.ndarray) -> None:
    assert len(read_audio(written(tmp_path / "a.wav", samples))) == len(samples)
    assert len(read_audio((samples, RATE))) == len(samples)


def test_names_do_not_decide_what_a_file_is(tmp_path: Path) -> None:
    written(tmp_path / "a.wav", sine(440, 0.1)).rename(tmp_path / "a.raw")
    assert len(read_audio(tmp_path / "a.raw")) == 1_600


def test_samples_above_full_scale_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", np.array([0.5, 1.5, -3.0]), subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path), np.array([0.5, 1.5, -3.0], np.float32))


# --- channels


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    stereo = np.stack([np.full(1_000, 0.5), np.full(1_000, -0.25)], axis=1)
    for source in (written(tmp_path / "a.wav", stereo), (stereo, RATE)):
        np.testing.assert_array_equal(read_audio(source), np.full(1_000, 0.125, np.float32))
        np.testing.assert_array_equal(read_audio(source, channel=0), np.full(1_000, 0.5, np.float32))
        np.testing.assert_array_equal(read_audio(source, channel=1), np.full(1_000, -0.25, np.float32))


def test_a_thousand_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = rng.uniform(-1, 1, (2_000, 1_000)).astype(np.float32)
    path = written(tmp_path / "a.wav", samples, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(read_audio(path, channel=999), samples[:, 999])


# --- rates


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_equals_soxr_in_one_piece(tmp_path: Path, rng: np.random.Generator, rate: int) -> None:
    samples = rng.uniform(-0.5, 0.5, 600_001).astype(np.float32)
    expected = soxr.resample(samples, rate, RATE)
    np.testing.assert_array_equal(read_audio((samples, rate)), expected)
    np.testing.assert_array_equal(read_audio(written(tmp_path / "a.wav", samples, rate, subtype="FLOAT")), expected)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
def test_resampling_keeps_frequency_level_and_length(rate: int) -> None:
    waveform = read_audio((sine(1_000, 1.0, rate), rate))
    assert len(waveform) == RATE
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(RATE))) / (RATE / 4)
    assert np.argmax(spectrum) == 1_000
    assert spectrum[1_000] == pytest.approx(0.5, rel=1e-3)
    assert np.delete(spectrum, range(995, 1_006)).max() < 1e-4


def test_resampling_removes_what_would_alias() -> None:
    waveform = read_audio((sine(10_000, 1.0, 48_000), 48_000))
    assert np.abs(waveform[1_000:-1_000]).max() < 1e-4


# --- streams


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("block_seconds", [1 / RATE, 0.01, 0.3, 30.0])
def test_blocks_are_the_whole(tmp_path: Path, rng: np.random.Generator, rate: int, block_seconds: float) -> None:
    stereo = rng.uniform(-0.5, 0.5, (2 * rate + 7, 2))
    path = written(tmp_path / "a.flac", stereo, rate)
    for source in (path, (stereo, rate)):
        blocks = list(stream_audio(source, block_seconds=block_seconds))
        assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * RATE)}
        assert 0 < len(blocks[-1]) <= round(block_seconds * RATE)
        np.testing.assert_array_equal(np.concatenate(blocks), read_audio(source))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_hour_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    minute = np.zeros((60 * 44_100, 2), np.int16)
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 44_100, 2) as file:
        for _ in range(60):
            file.write(minute)
    program = (
        "import sys; from asr.audio.waveform import stream_audio;"
        "seconds = sum(len(block) for block in stream_audio(sys.argv[1])) / 16_000;"
        "print(seconds, *[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.flac")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    seconds, kilobytes = map(float, output.split())
    assert seconds == 3_600
    assert kilobytes < 120_000  # the samples alone would be 230 MB


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.flac", sine(440, 1.0))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    np.testing.assert_array_equal(read_audio("-"), read_audio(path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert duration_seconds("-") == 1.0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", sine(440, 1.0))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read_audio(tmp_path / "pipe"), read_audio(path))
    writer.join()


def test_a_file_object_is_read_from_where_it_stands_and_left_open(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", sine(440, 0.5))
    file = io.BytesIO(b"before" + path.read_bytes())
    file.seek(6)
    np.testing.assert_array_equal(read_audio(file), read_audio(path))
    assert not file.closed


def test_an_abandoned_stream_closes_its_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", np.zeros(10 * RATE))
    before = os.listdir("/dev/fd")
    blocks = stream_audio(path, block_seconds=1)
    assert len(next(blocks)) == RATE
    blocks.close()  # type: ignore[attr-defined]
    assert os.listdir("/dev/fd") == before


# --- headerless files


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_headerless_files_are_read_when_told(tmp_path: Path, endian: Literal["LITTLE", "BIG"]) -> None:
    samples = np.arange(-800, 800).astype("<i2" if endian == "LITTLE" else ">i2")
    (tmp_path / "a.raw").write_bytes(samples.tobytes())
    raw = RawFormat(sample_rate=RATE, endian=endian)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.raw", raw=raw), samples.astype(np.float32) / 2**15)
    assert duration_seconds(tmp_path / "a.raw", raw=raw) == 0.1


def test_headerless_files_are_refused_untold(tmp_path: Path, no_ffmpeg: None) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3_200))
    with pytest.raises(DataError, match=r"a\.raw: .*libsndfile cannot read it"):
        read_audio(tmp_path / "a.raw")


def test_a_headerless_file_needs_a_whole_sample(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"1")
    with pytest.raises(DataError, match=r"a.raw: cannot be read as RawFormat\("):
        read_audio(tmp_path / "a.raw", raw=RawFormat(sample_rate=RATE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be between 1000 and 1000000, not 0"),
        ({"sample_rate": RATE, "channels": 0}, "channels must be between 1 and 1024, not 0"),
        ({"sample_rate": RATE, "endian": "MIDDLE"}, "endian must be one of LITTLE, BIG, not 'MIDDLE'"),
        ({"sample_rate": RATE, "subtype": "PCM_17"}, "subtype must be one of .*PCM_16.*; got 'PCM_17'"),
    ],
)
def test_raw_formats_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RawFormat(**options)


# --- arrays


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int8", [-128, 0, 64]),
        ("uint8", [0, 128, 192]),
        ("int16", [-(2**15), 0, 2**14]),
        ("int32", [-(2**31), 0, 2**30]),
        ("float16", [-1, 0, 0.5]),
        ("float64", [-1, 0, 0.5]),
    ],
)
def test_arrays_are_scaled_to_one_and_left_as_they_are(dtype: str, values: list[float]) -> None:
    samples = np.array(values, dtype)
    waveform = read_audio((samples, RATE))
    np.testing.assert_array_equal(waveform, np.array([-1, 0, 0.5], np.float32))
    waveform[:] = 7
    np.testing.assert_array_equal(samples, np.array(values, dtype))
    assert duration_seconds((samples, 3_000)) == 0.001


def test_a_float32_array_is_copied() -> None:
    samples = np.zeros(10, np.float32)
    for waveform in (read_audio((samples, RATE)), *stream_audio((samples, RATE))):
        waveform[:] = 7
        assert not samples.any()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros(0), RATE), r"samples must be \(N,\) or .* at least one and samples first; got \(0,\)"),
        ((np.zeros((5, 0)), RATE), r"at least one and samples first; got \(5, 0\)"),
        ((np.zeros((2, RATE)), RATE), r"samples first; got \(2, 16000\)"),
        ((np.zeros((4, 2, 2)), RATE), r"samples must be .*; got \(4, 2, 2\)"),
        ((np.float64(0), RATE), r"samples must be .*; got \(\)"),
        (([[1.0], [2.0, 3.0]], RATE), "samples must be an array; got list"),
        ((np.zeros(5, np.int64), RATE), "samples must be floating, int8, .*; got int64"),
        ((np.zeros(5, bool), RATE), "samples must be floating, .*; got bool"),
        ((np.zeros(5, complex), RATE), "samples must be floating, .*; got complex128"),
        ((np.array([0, 0, np.nan]), 1_000), "samples must be finite, full scale 1; the one at 0.002 s is nan"),
        ((np.array([0, -np.inf]), 1_000), "the one at 0.001 s is -inf"),
        ((np.array([1e300]), 1_000), "the one at 0.000 s is inf"),
        ((np.zeros(5), 0), "the sample rate must be 1000 to 1000000 Hz; it is 0"),
        ((np.zeros(5), -RATE), "the sample rate must be .*; it is -16000"),
        ((np.zeros(5), 16_000.5), "must be a whole number of Hz; got 16000.5"),
        ((np.zeros(5), float("inf")), "must be a whole number of Hz; got inf"),
        ((np.zeros(5), "16000"), "must be a whole number of Hz; got '16000'"),
        ((np.zeros(5),), r"must be \(samples, rate\); got a tuple of 1"),
        (b"RIFF", "a sound must be a path, .*; got bytes"),
        (None, "a sound must be a path, .*; got NoneType"),
        (np.zeros(160, np.float32), r"a sound must be a path, .* or \(samples, rate\); got ndarray"),
    ],
)
def test_sources_that_are_no_sound_in_memory(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message), warnings.catch_warnings():
        warnings.simplefilter("error")
        read_audio(source)  # type: ignore[arg-type]


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be an integer, 1000 to 1000000 Hz; got 0"),
        ({"sample_rate": 16_000.0}, "sample_rate must be an integer, .*; got 16000.0"),
        ({"sample_rate": 10**9}, "sample_rate must be an integer, .*; got 1000000000"),
        ({"channel": -1}, "channel must be None or an integer from 0; got -1"),
        ({"channel": "left"}, "channel must be None or an integer from 0; got 'left'"),
    ],
)
def test_options_are_checked_at_once(options: dict, message: str) -> None:
    for function in (read_audio, stream_audio):
        with pytest.raises(InputError, match=message):
            function((np.zeros(5), RATE), **options)


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, float("nan"), float("inf"), 3_601])
def test_block_seconds_are_checked_at_once(seconds: float) -> None:
    with pytest.raises(InputError, match="block_seconds must be at least one sample and at most 3600 s; got"):
        stream_audio((np.zeros(5), RATE), block_seconds=seconds)


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    stereo = np.zeros((100, 2))
    with pytest.raises(InputError, match="channel must be below the number of channels, 2; got 2"):
        read_audio((stereo, RATE), channel=2)
    path = written(tmp_path / "a.wav", stereo)
    with pytest.raises(DataError, match=r"a\.wav: channel must be below the number of channels, 2; got 2") as caught:
        read_audio(path, channel=2)
    assert caught.value.path == str(path)


# --- files that are no sound


def wav_header(*, channels: int = 1, rate: int = RATE, subtype: int = 1, bits: int = 16, size: int = 0) -> bytes:
    width = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, subtype, channels, rate, rate * width % 2**32, width, bits)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)


FLOATS = wav_header(subtype=3, bits=32, size=12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold sound; it is empty"),
        (b"This is no sound.\n" * 100, "libsndfile cannot read it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "libsndfile cannot read it"),
        (bytes(2_000), "libsndfile cannot read it"),
        (b"RIFF", "libsndfile cannot read it"),
        (b"\xff\xfb\x90\x64" + bytes(16), r"libsndfile cannot read it \(no frame can be decoded\)"),
        (wav_header(), r"libsndfile cannot read it \(its header states no samples\)"),
        (wav_header(channels=0, size=4) + bytes(4), "libsndfile cannot read it"),
        (wav_header(rate=0, size=4) + bytes(4), "the sample rate must be .*; it is 0|libsndfile cannot read it"),
        (wav_header(rate=1, size=4) + bytes(4), "the sample rate must be 1000 to 1000000 Hz; it is 1"),
        (wav_header(rate=10**9, size=4) + bytes(4), "the sample rate must be .*; it is 1000000000"),
        (FLOATS + struct.pack("<3f", 0, 0, np.nan), "samples must be finite, .*; the one at 0.000 s is nan"),
        (FLOATS + struct.pack("<3f", 0, np.inf, 0), "samples must be finite, .*; the one at 0.000 s is inf"),
        (FLOATS + struct.pack("<3f", 0, 1e30, 0), "samples must be finite, .*; the one at 0.000 s is 1.0"),
        (
            b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00M4A mp42isom\x00\x00\x00\x00",
            "an `ffmpeg` program must be on PATH",
        ),
    ],
)
def test_files_that_are_no_sound_are_named(tmp_path: Path, no_ffmpeg: None, content: bytes, message: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for function in (read_audio, duration_seconds, lambda source: list(stream_audio(source))):
        if "samples must be finite" in message and function is duration_seconds:
            continue  # the header tells
        with pytest.raises(DataError, match=rf"a\.wav: .*({message})") as caught:
            function(path)
        assert caught.value.path == str(path)
    with pytest.raises(DataError, match=rf"<stream>: .*({message})"):
        read_audio(io.BytesIO(content))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.wav: cannot be opened: No such file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(DataError, match="cannot be opened: Is a directory"):
        read_audio(tmp_path)
    with pytest.raises(DataError, match="cannot be opened: embedded null byte"):
        read_audio("a\0b")
    with pytest.raises(DataError, match="/dev/null: must be a file or a pipe; it is a device"):
        read_audio("/dev/null")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"a\.wav: cannot be opened: Permission denied"):
        read_audio("a.wav")


def test_file_objects_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("no sound")
    with path.open() as text, pytest.raises(DataError, match=r"a\.txt: cannot be read as a binary stream"):
        read_audio(text)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a\.txt: cannot be read as a binary stream"):
        read_audio(text)  # type: ignore[arg-type]  # closed


# --- truncated, damaged and chained files


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *[("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW")],
        *[(container, "PCM_16") for container in ("RF64", "FLAC", "NIST", "AIFF", "AU")],
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_a_truncated_file_is_used_and_says_what_is_missing(
    tmp_path: Path, rng: np.random.Generator, container: str, subtype: str
) -> None:
    path = written(tmp_path / "a", rng.uniform(-0.5, 0.5, 10 * RATE), format=container, subtype=subtype)
    whole = read_audio(path)
    cut_off(path, 0.6)
    with pytest.warns(AsrWarning) as caught:
        part = read_audio(path)
    assert len(part) / RATE == pytest.approx(6, abs=0.3)
    settled = len(part) - 2_000  # the last frame of an MP3 lacks the next one's half of the overlap
    np.testing.assert_array_equal(part[:settled], whole[:settled])
    missing = f"{10 - len(part) / RATE:.3f} s of 10.000 s are missing"
    assert [str(warning.message) for warning in caught] == [str(caught[0].message)]
    assert str(caught[0].message).startswith(f"{path}: truncated or damaged: {missing}")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_truncated_ogg_says_that_it_has_no_end(tmp_path: Path, rng: np.random.Generator, subtype: str) -> None:
    path = written(tmp_path / "a", rng.uniform(-0.5, 0.5, 10 * RATE), format="OGG", subtype=subtype)
    whole = read_audio(path)
    cut_off(path, 0.6)
    with pytest.warns(AsrWarning, match=r"a: truncated: \d\.\d+ s are used; the missing length is not"):
        part = read_audio(path)
    assert 4 * RATE < len(part) < 7 * RATE
    np.testing.assert_array_equal(part, whole[: len(part)])


@pytest.mark.parametrize("container", ["FLAC", "WAV", "OGG", "MP3", "AIFF", "AU"])
@pytest.mark.filterwarnings("error")
def test_a_whole_file_gives_no_warning_whatever_follows_it(tmp_path: Path, container: str) -> None:
    path = written(tmp_path / "a", sine(440, 1.0), format=container)
    with path.open("ab") as file:
        file.write(b"TAG" + bytes(125))
    assert len(read_audio(path)) == RATE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [0x7FFF_FFFF, 0xFFFF_FFFF], ids=hex)
def test_a_length_left_open_by_a_pipe_is_no_truncation(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(size=size - 36) + bytes(3_200))
    assert len(read_audio(tmp_path / "a.wav")) == 1_600
    assert duration_seconds(tmp_path / "a.wav") == 0.1


def test_a_stated_length_is_never_allocated(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac", sine(440, 1.0))
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the upper 4 bits of 36: 7e10 samples
    path.write_bytes(data)
    with pytest.warns(AsrWarning, match=r"truncated or damaged: 40265\d\d\.\d+ s of 40265\d\d\.\d+ s are missing"):
        assert len(read_audio(path)) == RATE


def test_damage_within_a_flac_is_told(tmp_path: Path, rng: np.random.Generator) -> None:
    path = written(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, 10 * RATE))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    with pytest.warns(AsrWarning, match=r"truncated or damaged: \d\.\d+ s of 10.000 s are missing \(.*flac"):
        assert len(read_audio(path)) > 4 * RATE


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.filterwarnings("error")
def test_chained_files_are_read_to_the_end(tmp_path: Path, container: str, subtype: str) -> None:
    parts = [
        written(tmp_path / "a", sine(440, 1.0), format=container, subtype=subtype),
        written(tmp_path / "b", sine(880, 2.0, 24_000), 24_000, format=container, subtype=subtype),
        written(tmp_path / "c", sine(220, 0.5), format=container, subtype=subtype),
    ]
    (tmp_path / "chain").write_bytes(b"".join(part.read_bytes() for part in parts))
    np.testing.assert_array_equal(read_audio(tmp_path / "chain"), np.concatenate([read_audio(part) for part in parts]))
    if container == "OGG":
        assert duration_seconds(tmp_path / "chain") == 3.5


@pytest.mark.filterwarnings("error")
def test_an_mp3_without_a_length_is_read_to_the_end(tmp_path: Path, rng: np.random.Generator) -> None:
    """libsndfile takes the bit rate of the first frame for that of the file, and would stop long before its end."""
    samples = np.concatenate([rng.uniform(-1, 1, RATE), np.zeros(20 * RATE)])
    options = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
    path = written(tmp_path / "a.mp3", samples, **options)  # type: ignore[arg-type]
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 2) :])  # without the first frame, which holds the Xing header
    assert soundfile.info(path).duration < 15
    assert len(read_audio(path)) / RATE == pytest.approx(21, abs=0.2)
    assert duration_seconds(path) == pytest.approx(21, abs=0.2)


# --- ffmpeg


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "level"), [("m4a", 0.05), ("mp4", 0.05), ("webm", 0.05), ("mka", 0.05)])
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path: Path, suffix: str, level: float) -> None:
    stereo = np.stack([sine(440, 2.0), sine(880, 2.0)], axis=1)
    wav, path = written(tmp_path / "a.wav", stereo), tmp_path / f"a.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, path], check=True)
    assert duration_seconds(path) == pytest.approx(2.0, abs=0.1)
    waveform = read_audio(path, channel=1)
    assert len(waveform) / RATE == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(waveform[:RATE] * np.hanning(RATE))) / (RATE / 4)
    assert np.argmax(spectrum) == 880 and spectrum[880] == pytest.approx(0.5, rel=level)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_audio(file, channel=1), waveform)
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(path, channel=1, block_seconds=0.1))), waveform)
    with pytest.raises(DataError, match=f"a.{suffix}: channel must be below the number of channels, 2; got 2"):
        read_audio(path, channel=2)


@needs_ffmpeg
def test_a_truncated_webm_is_used_and_says_so(tmp_path: Path, rng: np.random.Generator) -> None:
    wav, path = written(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, 10 * RATE)), tmp_path / "a.webm"
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, path], check=True)
    cut_off(path, 0.6)
    with pytest.warns(AsrWarning, match=r"a\.webm: truncated or damaged: ffmpeg decoded \d\.\d+ s of 00:00:10"):
        assert 4 * RATE < len(read_audio(path)) < 8 * RATE


@needs_ffmpeg
def test_ffmpeg_repairs_a_recording_that_was_never_finished(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header() + np.arange(1_600, dtype="<i2").tobytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), np.arange(1_600, dtype=np.float32) / 2**15)


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"This is no sound.\n" * 100, wav_header(), b"#!/bin/sh\n", bytes(5_000)])
def test_ffmpeg_does_not_make_sound_of_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"a: must be sound; libsndfile cannot read it .*, nor can ffmpeg"):
        read_audio(tmp_path / "a")


def test_ffmpeg_that_fails_is_quoted(tmp_path: Path, ffmpeg: Callable[[str], None]) -> None:
    ffmpeg('echo "[error] it is a Tuesday" >&2; exit 1')
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.m4a: must be sound; .*, nor can ffmpeg \(it is a Tuesday\)"):
        read_audio(tmp_path / "a.m4a")


def test_an_abandoned_ffmpeg_is_ended(tmp_path: Path, ffmpeg: Callable[[str], None]) -> None:
    header = tmp_path / "header"
    header.write_bytes(struct.pack(">4s5I", b".snd", 24, 0xFFFF_FFFF, 6, RATE, 1))
    ffmpeg(f"echo $$ > {tmp_path}/process; cat {header}; head -c 3000000 /dev/zero; exec sleep 600")
    (tmp_path / "a.m4a").write_bytes(b"endless")
    blocks = stream_audio(tmp_path / "a.m4a")
    assert len(next(blocks)) == 30 * RATE
    blocks.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


# --- pauses


def speech(*pieces: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Noise of each (seconds, level) in turn."""
    return np.concatenate([level * rng.standard_normal(round(s * RATE)) for s, level in pieces]).astype(np.float32)


@pytest.mark.parametrize("floor", [0.0, 1e-4, 3e-3])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_the_cut_is_in_the_middle_of_the_longest_pause(rng: np.random.Generator, floor: float, offset: float) -> None:
    waveform = speech((5, 0.1), (0.4, floor), (3, 0.1), (1.0, floor), (3, 0.1), (0.4, floor), (9, 0.1), rng=rng)
    cut = quietest_cut(waveform + np.float32(offset), RATE, earliest=0, latest=len(waveform))
    assert cut / RATE == pytest.approx(8.9, abs=0.1)


def test_the_quietest_pause_wins_over_a_longer_one(rng: np.random.Generator) -> None:
    waveform = speech((5, 0.1), (1, 0.02), (3, 0.1), (0.4, 0.002), (5, 0.1), rng=rng)
    assert quietest_cut(waveform, RATE, earliest=0, latest=len(waveform)) / RATE == pytest.approx(9.2, abs=0.1)


def test_the_later_of_two_equal_pauses(rng: np.random.Generator) -> None:
    waveform = speech((2, 0.1), (0.5, 0), (2, 0.1), (0.5, 0), (2, 0.1), rng=rng)
    assert quietest_cut(waveform, RATE, earliest=0, latest=len(waveform)) / RATE == pytest.approx(4.75, abs=0.05)


def test_only_the_range_counts(rng: np.random.Generator) -> None:
    waveform = speech((2, 0.1), (1, 0), (2, 0.1), (0.3, 0.01), (2, 0.1), rng=rng)
    cut = quietest_cut(waveform, RATE, earliest=4 * RATE, latest=6 * RATE)
    assert cut / RATE == pytest.approx(5.15, abs=0.1)


def test_silence_is_cut_in_its_middle() -> None:
    assert quietest_cut(np.zeros(10 * RATE, np.float32), RATE, earliest=0, latest=10 * RATE) == pytest.approx(
        5 * RATE, abs=RATE // 100
    )


def test_without_a_pause_the_cut_is_at_the_least_power(rng: np.random.Generator) -> None:
    waveform = speech(*[(0.25, level) for level in rng.uniform(0.1, 1, 40)], rng=rng)
    cut = quietest_cut(waveform, RATE, earliest=RATE, latest=9 * RATE)
    power = np.convolve(waveform.astype(float) ** 2, np.full(RATE // 4, 4 / RATE), mode="same")
    assert power[cut] <= 4 * power[RATE : 9 * RATE].min() * 1.05


@pytest.mark.parametrize("align", [1, 7, 160, 640, 5_000])
def test_the_cut_is_a_multiple_in_the_range(rng: np.random.Generator, align: int) -> None:
    waveform = speech((2, 0.1), rng=rng)
    before = waveform.copy()
    for _ in range(50):
        earliest, latest = sorted(rng.integers(len(waveform) + 1, size=2))
        if -(-earliest // align) * align >= latest:
            continue
        cut = quietest_cut(waveform, RATE, earliest=int(earliest), latest=int(latest), align=align)
        assert earliest <= cut < latest and cut % align == 0
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"earliest": 5, "latest": 5}, "0 <= earliest < latest <= 100 samples must hold; got 5, 5"),
        ({"earliest": -1, "latest": 5}, "0 <= earliest < latest <= 100 samples must hold; got -1, 5"),
        ({"earliest": 0, "latest": 101}, "0 <= earliest < latest <= 100 samples must hold; got 0, 101"),
        ({"earliest": 1, "latest": 9, "align": 10}, r"a multiple of align=10 must lie in \[1, 9\); none does"),
        ({"earliest": 1, "latest": 9, "align": 0}, "align and sample_rate must be at least 1; got 0, 16000"),
    ],
)
def test_ranges_without_a_cut_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quietest_cut(np.zeros(100, np.float32), RATE, **arguments)


def test_a_cut_needs_one_channel() -> None:
    with pytest.raises(InputError, match=r"waveform must be \(samples,\); got shape \(100, 2\)"):
        quietest_cut(np.zeros((100, 2), np.float32), RATE, earliest=0, latest=10)


# --- the module


def test_importing_is_light() -> None:
    program = (
        "import sys, asr.audio.waveform; print([name for name in ('librosa', 'torch', 'scipy') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(AsrError) as caught:
        read_audio(tmp_path / "missing.wav")
    assert "\n" not in str(caught.value)
