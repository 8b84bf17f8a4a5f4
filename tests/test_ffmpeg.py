"""asr.ffmpeg: files made by ffmpeg with planted tones, and files that name other files."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from asr.audio import read_audio
from asr.errors import DataError
from tests.test_audio import RATE, needs_ffmpeg, no_temporary_file_stays, sine, written  # noqa: F401

pytestmark = needs_ffmpeg


def made(path: Path, *options: object) -> Path:
    """A file that ffmpeg makes with these options."""
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, options), path], check=True)
    return path


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Two seconds of 440 Hz."""
    return written(tmp_path / "tone.wav", sine(440, 2.0))


# --- what names other files


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\ntone.wav\n#EXT-X-ENDLIST\n"
MANIFEST = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet mimeType="audio/wav">
<Representation id="1" bandwidth="64000"><BaseURL>tone.wav</BaseURL></Representation></AdaptationSet></Period></MPD>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("upload.m3u8", PLAYLIST),
        ("upload.wav", "ffconcat version 1.0\nfile tone.wav\n"),
        ("upload.wav", MANIFEST),
        ("upload.wav", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
        ("tone.idx", "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"),
        ("upload.wav", "1\n00:00:01,000 --> 00:00:02,000\nhello\n"),
        ("upload.wav", "WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n"),
        ("upload.wav", ";FFMETADATA1\ntitle=x\n"),
        ("tone%d.png", "a picture of which 1 is the first"),
    ],
    ids=["hls", "concat", "dash", "sdp", "vobsub", "srt", "webvtt", "ffmetadata", "image2"],
)
def test_a_file_that_names_others_is_refused(tmp_path: Path, tone: Path, name: str, content: str) -> None:
    for beside in ("tone.sub", "tone1.png"):
        (tmp_path / beside).write_bytes(tone.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name}: must be a file of sound or video; it is another \(a playlist, .*"):
        read_audio(tmp_path / name)
    with (tmp_path / name).open("rb") as file, pytest.raises(DataError, match="must be"):
        read_audio(file)


def test_a_playlist_under_another_suffix_is_refused(tmp_path: Path, tone: Path) -> None:
    (tmp_path / "upload.wav").write_text(PLAYLIST)
    with pytest.raises(DataError, match=r"upload\.wav: must be (a file of sound or video|sound)"):  # as releases differ
        read_audio(tmp_path / "upload.wav")


def test_a_film_whose_sound_is_in_another_file_is_refused(tmp_path: Path, tone: Path) -> None:
    (tmp_path / "film.mov").write_bytes(elsewhere(made(tmp_path / "sound.mov", "-i", tone).read_bytes()))
    with pytest.raises(DataError, match=r"nor can ffmpeg \(its sound is in another file, which is not opened\)"):
        read_audio(tmp_path / "film.mov")


def elsewhere(film: bytes) -> bytes:
    """A QuickTime film whose only track says that its data are in sound.mov beside it: an alias in place of `url `."""
    volume, name = b"volume".ljust(27, b"\0"), b"sound.mov".ljust(63, b"\0")
    path = struct.pack(">hh10s", 2, 10, b"/sound.mov")
    entry = (
        bytes(10)
        + b"\6"
        + volume
        + bytes(12)
        + b"\x09"
        + name
        + bytes(16)
        + struct.pack(">hh", 1, 1)
        + bytes(16)
        + path
    )
    entry = struct.pack(">I4sI", 16 + len(entry), b"alis", 0) + entry + struct.pack(">hh", -1, 0)
    place = film.index(b"dref") + 12
    changed = bytearray(film)
    changed[place : place + 12] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = film.rindex(box, 0, place) - 4
        (size,) = struct.unpack_from(">I", changed, start)
        struct.pack_into(">I", changed, start, size + len(entry) - 12)
    return bytes(changed)


# --- what holds no sound that can be heard


def test_encrypted_sound_says_so(tmp_path: Path, tone: Path) -> None:
    key = "0123456789abcdef" * 2
    options = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    for name in ("a.mp4", "a.m4a"):
        made(tmp_path / name, "-i", tone, "-c:a", "aac", *options)
        with pytest.raises(DataError, match=rf"{name}: must not be encrypted; .* with the key of its seller$"):
            read_audio(tmp_path / name)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi"])
def test_a_video_without_sound_says_so(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"a.{suffix}", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=1")
    with pytest.raises(DataError, match=rf"a\.{suffix}: must hold sound; it is a video without a sound track$"):
        read_audio(path)


def test_a_file_of_other_tracks_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    path = made(tmp_path / "a.mkv", "-i", tmp_path / "a.srt")
    with pytest.raises(DataError, match=r"a\.mkv: must hold sound; it is a file without a sound track$"):
        read_audio(path)
