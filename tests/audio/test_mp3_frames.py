"""asr.audio.mp3_frames against ffmpeg, over MP3s of random make; and against frames laid by hand."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.mp3_frames import frame_header, mp3_streams, silent_frame
from asr.audio.waveform import duration_seconds, read_audio, stream_channels
from asr.errors import AsrWarning

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def encoded(samples: np.ndarray, rate: int, *, mode: str = "CONSTANT", compression: float = 0.5) -> bytes:
    """By LAME, with its Xing header, whatever the length."""
    file = io.BytesIO()
    options = {"bitrate_mode": mode, "compression_level": compression}
    soundfile.write(file, samples, rate, format="MP3", **options)
    return file.getvalue()


def frames_of(data: bytes) -> list[bytes]:
    """The frames of an MP3 without tags."""
    frames, position = [], 0
    while (header := frame_header(data[position : position + 4])) is not None:
        frames.append(data[position : position + header.size])
        position += header.size
    assert position == len(data)
    return frames


def without_xing(data: bytes) -> bytes:
    first, *others = frames_of(data)  # LAME leaves its header out where the frames are too small for it
    return b"".join(others) if b"LAME" in first else data


def without_lame(data: bytes) -> bytes:
    """With a Xing header that says nothing of delay and padding, as of other encoders."""
    return data.replace(b"LAME3", b"Xyzw3", 1)


def with_vbri(data: bytes) -> bytes:
    """With Fraunhofer's header in the place of LAME's."""
    others = frames_of(without_xing(data))
    fields = struct.pack(">4s3H2I4H", b"VBRI", 1, 1_105, 75, len(data), len(others), 1, 1, 2, len(others))
    first = others[0]
    head = bytes((first[0], first[1] | 1, 0xA0 | first[2] & 0x0C, first[3]))
    header = frame_header(head)
    assert header is not None
    return (head + bytes(32) + fields).ljust(header.size, b"\0") + b"".join(others)


HEADERS = {"xing": bytes, "none": without_xing, "no lame": without_lame, "vbri": with_vbri}
ID3V2 = b"ID3\4\0\0" + bytes((0, 0, 2, 1)) + b"TIT2\0\0\0\6\0\0\0\xff\xfb\x90" + bytes(242) + b"."
ID3V1 = b"TAG" + b"\xff\xfb\x90\x64 Merchant".ljust(125, b"\0")
APE_ITEM = struct.pack("<II", 4, 0) + b"Title\0" + b"\xff\xfb\x90\x64"
APE = b"".join(
    struct.pack("<8s4I8s", b"APETAGEX", 2_000, len(APE_ITEM) + 32, 1, flags, bytes(8)) + item
    for flags, item in ((0xA000_0000, APE_ITEM), (0x8000_0000, b""))
)
LYRICS = b"LYRICSBEGIN" + b"IND00003100" + b"000022" + b"LYRICS200"
BEFORE = {"": b"", "v2": ID3V2, "v2 v2": ID3V2 + ID3V2, "v2 zeros": ID3V2 + bytes(700)}
BEHIND = {"": b"", "v1": ID3V1, "ape": APE, "ape v1": APE + ID3V1, "lyrics v1": LYRICS + ID3V1, "zeros": bytes(3_000)}


def by_ffmpeg(path: Path, channels: int) -> np.ndarray:
    command = ["ffmpeg", "-v", "error", "-f", "mp3", "-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    output = subprocess.run(command, capture_output=True, check=False).stdout
    return np.frombuffer(output, "<f4").reshape(-1, channels)


def channels_of(path: Path) -> tuple[int, np.ndarray]:
    """Rate and samples of a file of one rate."""
    rates, blocks = zip(*stream_channels(path), strict=True)
    assert len(set(rates)) == 1
    return rates[0], np.concatenate(blocks)


def random_mp3(rng: np.random.Generator) -> tuple[bytes, bytes, str]:
    """An MP3; the same without the tags behind it and zeros, of which ffmpeg 5.1 makes samples; and how it was made."""
    rate, channels = int(rng.choice(RATES)), int(rng.integers(1, 3))
    count = int(rng.choice([rng.integers(1, 5_000), rng.integers(5_000, 5 * rate)]))
    level = rng.choice([0, 0.01, 0.3], size=(1 + count // 4_000, 1)).repeat(4_000, axis=0)[:count]
    samples = level * rng.uniform(-1, 1, (count, channels))
    mode, compression = str(rng.choice(["CONSTANT", "AVERAGE", "VARIABLE"])), float(rng.uniform(0, 1))
    header, before, behind = (str(rng.choice(list(table))) for table in (HEADERS, BEFORE, BEHIND))
    data = HEADERS[header](encoded(samples, rate, mode=mode, compression=compression))
    made = f"{count} x {channels} at {rate} Hz, {mode} {compression:.2f}, header {header}, tags [{before}] [{behind}]"
    return BEFORE[before] + data + BEHIND[behind], BEFORE[before].rstrip(b"\0") + data, made


@needs_ffmpeg
@pytest.mark.filterwarnings("error")
def test_random_mp3s_come_out_as_from_ffmpeg(
    tmp_path: Path, seed: int, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    path, plain_path = tmp_path / "a.mp3", tmp_path / "b.mp3"
    for number in range(request.config.getoption("--mp3-files")):
        data, plain, made = random_mp3(np.random.default_rng([seed, number]))
        path.write_bytes(data)
        plain_path.write_bytes(plain)
        rate, samples = channels_of(path)
        expected = by_ffmpeg(plain_path, samples.shape[1])
        assert samples.shape == expected.shape, f"seed {seed}, {number}: {made}"
        # The two decoders differ a little in some frames; a shift of one sample would be most of the level.
        assert np.std(samples - expected) <= 0.3 * np.std(expected) + 1e-5, f"seed {seed}, {number}: {made}"
        assert duration_seconds(path) * rate == pytest.approx(len(samples))
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", range(10_000, 10_576, 64))
def test_a_last_frame_of_padding_is_no_second_stream(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded(np.zeros(count), 16_000))
    assert channels_of(path)[1].shape == (count, 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_mp3s(tmp_path: Path, rng: np.random.Generator, count: int) -> None:
    frames = frames_of(encoded(rng.uniform(-0.5, 0.5, 5_000), 16_000))
    path = tmp_path / "a.mp3"
    for behind in (b"", bytes(5_000), ID3V1):
        path.write_bytes(b"".join(frames[1 : 1 + count]) + behind)
        assert len(read_audio(path)) == 576 * count
        assert duration_seconds(path) == 576 * count / 16_000


@pytest.mark.filterwarnings("error")
def test_frames_behind_those_that_a_header_announces_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = rng.uniform(-0.5, 0.5, 16_000)
    data = encoded(samples, 16_000)
    path = tmp_path / "a.mp3"
    path.write_bytes(data + without_xing(data))
    whole = read_audio(path)
    assert len(whole) == 2 * len(frames_of(without_xing(data))) * 576 - 1_105
    path.write_bytes(data)
    np.testing.assert_allclose(whole[:15_000], read_audio(path)[:15_000], atol=1e-6)


def test_frames_that_a_header_announces_and_that_are_not_there_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(frames_of(encoded(np.zeros(16_000), 16_000))[:-10]))
    with pytest.warns(AsrWarning, match=r"a\.mp3: truncated or damaged: 0\.\d+ s of 1\.000 s are missing"):
        read_audio(path)
    assert duration_seconds(path) == 1.0


@pytest.mark.filterwarnings("error")
def test_a_header_that_counts_itself_announces_no_more_than_there_is(tmp_path: Path) -> None:
    data = bytearray(encoded(np.zeros(16_000), 16_000))
    place = data.index(b"Info") + 11
    data[place] += 1
    (tmp_path / "a.mp3").write_bytes(data)
    assert 16_000 <= len(read_audio(tmp_path / "a.mp3")) < 17_000


def test_what_is_no_frame_is_counted_and_passed_over(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = frames_of(encoded(np.zeros(32_000), 16_000))
    junk = rng.bytes(5_000)
    for parts in (
        (frames, [junk]),
        (frames[:30], [junk], frames[30:]),
        (frames[:30], [junk, ID3V2, junk], frames[30:]),
    ):
        path = tmp_path / "a.mp3"
        path.write_bytes(b"".join(b"".join(part) for part in parts))
        lost = sum(part.count(junk) for part in parts) * len(junk)
        with pytest.warns(AsrWarning, match=rf"a\.mp3: {lost} bytes that belong to no sound") as caught:
            assert len(read_audio(path)) == 32_000
        assert len(caught) == 1


@pytest.mark.filterwarnings("error")
def test_a_stream_ends_where_the_rate_or_the_channels_change(tmp_path: Path) -> None:
    mono, stereo = np.zeros((16_000, 1)), np.zeros((16_000, 2))
    parts = [encoded(mono, 16_000), encoded(stereo, 16_000), encoded(stereo, 24_000)]
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(map(without_xing, parts)))
    shapes = [(rate, block.shape) for rate, block in stream_channels(path)]
    counts = [len(frames_of(without_xing(part))) for part in parts]
    channels = [(16_000, 1), (16_000, 2), (24_000, 2)]
    assert shapes == [(rate, (576 * count, n)) for count, (rate, n) in zip(counts, channels, strict=True)]


@needs_ffmpeg
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_layer_2(tmp_path: Path, rng: np.random.Generator, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, (2 * rate, 2)), rate)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-b:a", "128k", tmp_path / "a.mp2"]
    subprocess.run(command, check=True)
    _, samples = channels_of(tmp_path / "a.mp2")
    np.testing.assert_allclose(samples, by_ffmpeg(tmp_path / "a.mp2", 2), atol=1e-4)


@needs_ffmpeg
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_in_a_wav_file_is_whole(tmp_path: Path, rng: np.random.Generator, rate: int) -> None:
    soundfile.write(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, 2 * rate), rate)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.flac", "-c:a", "libmp3lame", tmp_path / "a.wav"]
    subprocess.run(command, check=True)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<f4")
    np.testing.assert_allclose(channels_of(tmp_path / "a.wav")[1][:, 0], expected, atol=1e-4)


# --- the frames themselves


@pytest.mark.parametrize(
    ("header", "size", "samples", "rate", "channels"),
    [  # as ffprobe -show_packets tells them
        ("fffb9064", 417, 1_152, 44_100, 2),
        ("fffb9264", 418, 1_152, 44_100, 2),
        ("fffbe4c4", 960, 1_152, 48_000, 1),
        ("fff318c4", 36, 576, 16_000, 1),
        ("ffe318c4", 72, 576, 8_000, 1),
        ("fffd84c4", 384, 1_152, 48_000, 1),
        ("ffff84c4", 256, 384, 48_000, 1),
    ],
)
def test_headers(header: str, size: int, samples: int, rate: int, channels: int) -> None:
    found = frame_header(bytes.fromhex(header))
    assert found is not None and found[:4] == (size, samples, rate, channels)


@pytest.mark.parametrize(
    "header", ["", "fffb90", "fff99064", "ffeb9064", "fffb0064", "fffbf064", "fffb9c64", "7ffb9064"]
)
def test_what_is_no_header(header: str) -> None:
    assert frame_header(bytes.fromhex(header)) is None


@pytest.mark.parametrize("second", [0xFB, 0xF3, 0xE3, 0xFA, 0xFD])
@pytest.mark.parametrize("mode", [0x00, 0x40, 0xC0])
def test_silent_frames_are_silent(second: int, mode: int) -> None:
    for rate_bits in (0x90, 0x94, 0x98):
        frame = silent_frame(bytes((0xFF, second, rate_bits, mode)))
        samples, _ = soundfile.read(io.BytesIO(frame * 5), dtype="float32")
        assert len(samples) and not samples.any()


def test_what_follows_a_tag_and_is_no_mp3_is_left_to_others(tmp_path: Path) -> None:
    for content in (b"", b"ID3", ID3V2, ID3V2 + b"fLaC" + bytes(500), b"\xff\xfb" * 500, bytes(5_000), ID3V1):
        path = tmp_path / "a"
        path.write_bytes(content)
        with path.open("rb") as file:
            assert list(mp3_streams(file, 0, len(content))) == []


def test_junk_that_looks_like_frames_takes_no_time(tmp_path: Path) -> None:
    frames = b"".join(frames_of(encoded(np.zeros(16_000), 16_000))[1:10])
    content = frames + b"\xff\xfb\x90\x64\xff" * 40_000 + frames
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        start = time.process_time()
        (stream,) = mp3_streams(file, 0, len(content))
        assert time.process_time() - start < 5
    assert (stream.num_frames, stream.lost) == (18, 200_000)
