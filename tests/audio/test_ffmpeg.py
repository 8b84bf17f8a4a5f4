"""asr.audio.ffmpeg: files made by ffmpeg with planted tones, and files that name other files."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.audio.waveform import duration_seconds, read_audio, stream_audio
from asr.decoding.options import DecodingOptions
from asr.errors import AsrWarning, DataError, InputError
from tests.audio.test_waveform import RATE, ffmpeg, needs_ffmpeg, no_temporary_file_stays, sine, written  # noqa: F401

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


def test_what_is_no_sound_is_not_called_by_the_name_of_its_copy(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"This is no sound.")
    for source, name in ((tmp_path / "a", tmp_path / "a"), (io.BytesIO(b"This is no sound."), "<stream>")):
        with pytest.raises(
            DataError, match=rf"^{name}: .*, nor can ffmpeg \((Invalid data|Error opening input)[^/]*\)$"
        ):
            read_audio(source)


def test_encrypted_sound_says_so(tmp_path: Path, tone: Path) -> None:
    key = "0123456789abcdef" * 2
    options = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    for name in ("a.mp4", "a.m4a"):
        made(tmp_path / name, "-i", tone, "-c:a", "aac", *options)
        with pytest.raises(DataError, match=rf"{name}: must not be encrypted; decoding it needs the seller"):
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


# --- times


def starts(waveform: np.ndarray) -> float:
    """Seconds before the first sample that is heard."""
    return int(np.argmax(np.abs(waveform) > 0.05)) / RATE


VIDEO = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=5")


@pytest.mark.parametrize(
    ("suffix", "video", "sound"),
    [
        ("mkv", "mpeg4", "aac"),
        ("mp4", "mpeg4", "aac"),
        ("mov", "mpeg4", "pcm_s16le"),
        ("webm", "libvpx", "libopus"),
        ("ts", "mpeg2video", "aac"),
        ("mpg", "mpeg2video", "mp2"),
        ("ogv", "libtheora", "libvorbis"),
        ("wmv", "wmv2", "wmav2"),
        ("flv", "flv", "aac"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_sound_that_begins_after_the_video_is_heard_at_its_time(
    tmp_path: Path, tone: Path, suffix: str, video: str, sound: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    made(path, *VIDEO, "-itsoffset", 2.5, "-i", tone, "-map", "0:v", "-map", "1:a", "-c:v", video, "-c:a", sound)
    waveform = read_audio(path)
    assert starts(waveform) == pytest.approx(2.5, abs=0.06)
    assert len(waveform) / RATE == pytest.approx(4.5, abs=0.15)
    assert duration_seconds(path) == pytest.approx(len(waveform) / RATE, abs=1e-4)
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(path, block_seconds=0.3))), waveform)


@pytest.mark.parametrize(("suffix", "sound"), [("mkv", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("ts", "mp2")])
@pytest.mark.filterwarnings("error")
def test_a_gap_between_packets_is_silence(tmp_path: Path, tone: Path, suffix: str, sound: str) -> None:
    late = "asetpts=PTS+gte(T\\,1)*5/TB"
    path = made(tmp_path / f"a.{suffix}", "-i", tone, "-af", late, "-c:a", sound)
    waveform = read_audio(path)
    assert starts(waveform[int(1.5 * RATE) :]) == pytest.approx(4.5, abs=0.1)  # the gap is between two packets
    assert len(waveform) / RATE == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ("-c:a", "aac")),
        ("without_edit_list.m4a", ("-c:a", "aac", "-use_editlist", 0)),
        ("fragments.mp4", ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov")),
        ("lossless.m4a", ("-c:a", "alac")),
        ("opus.webm", ("-c:a", "libopus")),
        ("vorbis.webm", ("-c:a", "libvorbis")),
        ("mp3.mka", ("-c:a", "libmp3lame")),
        ("a.aac", ()),
        ("a.ts", ("-c:a", "aac")),
        ("a.wma", ()),
    ],
)
@pytest.mark.filterwarnings("error")
def test_without_gaps_not_a_sample_is_added_or_taken(tmp_path: Path, name: str, options: tuple[object, ...]) -> None:
    sound = written(tmp_path / "a.wav", sine(440, 2.3217, 44_100), 44_100)
    path = made(tmp_path / name, "-i", sound, *options)
    plain = made(tmp_path / "plain.wav", "-i", path, "-c:a", "pcm_f32le")
    np.testing.assert_array_equal(read_audio(path), read_audio(plain))


def test_times_that_go_back_cost_no_sample(tmp_path: Path, tone: Path) -> None:
    back = "asetnsamples=1000,asetpts=PTS-gte(T\\,1)*0.5/TB"
    path = made(tmp_path / "a.nut", "-i", tone, "-af", back, "-c:a", "pcm_s16le")
    np.testing.assert_allclose(read_audio(path), read_audio(tone), atol=1e-4)


# Payload bytes of each kind of frame: RFC 4867, section 5.3; 3GPP TS 26.101 and 26.201.
NARROW = (b"#!AMR\n", [12, 13, 15, 17, 19, 20, 26, 31, 5])
WIDE = (b"#!AMR-WB\n", [17, 23, 32, 36, 40, 46, 50, 58, 60, 5])
NO_DATA = 15


def amr(kind: tuple[bytes, list[int]], *frames: int, rng: np.random.Generator) -> bytes:
    """A file with frames of these types, whose speech is noise."""
    magic, sizes = kind
    return magic + b"".join(
        bytes([frame << 3 | 4]) + rng.bytes(sizes[frame] if frame < len(sizes) else 0) for frame in frames
    )


@pytest.mark.parametrize(("kind", "speech"), [(NARROW, 7), (WIDE, 2)], ids=["narrow", "wide"])
@pytest.mark.parametrize("pause", ["left out", "described"])
@pytest.mark.filterwarnings("error")
def test_silence_that_amr_leaves_out_is_silence(
    tmp_path: Path, rng: np.random.Generator, kind: tuple[bytes, list[int]], speech: int, pause: str
) -> None:
    description = len(kind[1]) - 1
    silent = [NO_DATA if pause == "left out" or number % 8 else description for number in range(96)]
    path = tmp_path / "a.amr"
    path.write_bytes(amr(kind, *[speech] * 50, *silent, *[speech] * 50, rng=rng))
    for sound in (path, made(tmp_path / "a.3gp", "-i", path, "-c", "copy")):
        waveform = read_audio(sound)
        assert len(waveform) == pytest.approx(RATE * 196 / 50, abs=RATE * 0.02)
        loud = np.abs(waveform) > 0.01
        assert loud[: int(0.9 * RATE)].any() and loud[int(2.95 * RATE) :].any()
        assert not loud[int(1.05 * RATE) : int(2.9 * RATE)].any()


def test_a_gap_of_hours_is_closed_and_said(tmp_path: Path, tone: Path) -> None:
    """Of so much silence at once, ffmpeg makes gigabytes and then loses the sound."""
    video = ("-f", "lavfi", "-i", "color=size=64x64:duration=1")
    path = made(tmp_path / "a.mkv", "-itsoffset", "17000", "-i", tone, *video, "-map", "0:a", "-map", "1:v")
    with pytest.warns(AsrWarning, match=r"a\.mkv: time stamps leave a gap of 4\.7 hours, which is closed: ") as caught:
        waveform = read_audio(path)
    assert len(caught) == 1
    assert len(waveform) == pytest.approx(len(read_audio(tone)), abs=0.1 * RATE)


def test_time_stamps_of_days_are_refused(tmp_path: Path, ffmpeg: Callable[[str], None]) -> None:  # noqa: F811
    (tmp_path / "header").write_bytes(struct.pack(">4s5I", b".snd", 24, 0xFFFF_FFFF, 6, 1_000, 1))
    ffmpeg(f"echo '[info] Input #0, x' >&2; echo '[info]   Stream #0:0: Audio: y' >&2; cat {tmp_path}/header /dev/zero")
    (tmp_path / "a.mkv").write_bytes(b"100 bytes.." * 9)
    blocks = stream_audio(tmp_path / "a.mkv", sample_rate=1_000, block_seconds=3_600)
    with pytest.raises(DataError, match=r"a\.mkv: must have time stamps without gaps of days; they are damaged$"):
        assert sum(len(block) for block in blocks) < 25 * 3_600 * 1_000


def test_time_in_which_all_is_stopped_is_none_in_which_ffmpeg_hangs() -> None:
    """As after Ctrl-Z and fg."""
    script = """
import subprocess
from asr.audio import ffmpeg
ffmpeg.STALL_SECONDS = 2.0
with subprocess.Popen(["/bin/sh", "-c", "sleep 1; printf sound"], stdout=subprocess.PIPE) as process:
    print("ready", flush=True)
    print(ffmpeg._Pipe(process.stdout, "a").read(5))
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.stdout.read() == "b'sound'\n"


@pytest.mark.parametrize("before", ["", "cat HEADER;", "cat HEADER; head -c 4000 /dev/zero;", "exec >&-;"])
def test_an_ffmpeg_that_hangs_is_stopped(
    tmp_path: Path,
    ffmpeg: Callable[[str], None],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    before: str,
) -> None:
    monkeypatch.setattr("asr.audio.ffmpeg.STALL_SECONDS", 0.5)
    (tmp_path / "header").write_bytes(struct.pack(">4s5I", b".snd", 24, 0xFFFF_FFFF, 6, 16_000, 1))
    talk = "echo '[info] Input #0, x' >&2; echo '[info]   Stream #0:0: Audio: y' >&2;"
    ffmpeg(f"{talk} echo $$ > {tmp_path}/pid; {before.replace('HEADER', f'{tmp_path}/header')} exec sleep 100")
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    with pytest.raises(
        DataError, match=r"a\.m4a: must be sound that ffmpeg can decode; it gave nothing for 0\.5 s and"
    ):
        read_audio(tmp_path / "a.m4a")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_ffmpeg_says_does_not_fill_the_disk(tmp_path: Path, ffmpeg: Callable[[str], None]) -> None:  # noqa: F811
    talk = "head -c 20000000 /dev/zero >&2"
    ffmpeg(f"echo '[error] it is a Tuesday' >&2; {talk} || touch {tmp_path}/full; exit 1")
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"nor can ffmpeg \(it is a Tuesday\)"):
        read_audio(tmp_path / "a.m4a")
    assert (tmp_path / "full").exists()


@pytest.mark.parametrize(
    ("name", "begins"), [("sound_begins_late.mkv", [5.28]), ("gap_in_packet_times.webm", [1.28, 26.0])]
)
def test_words_have_the_times_of_the_container(name: str, begins: list[float]) -> None:
    recognizer = asr.load(device="cpu", precision="float32", decoding=DecodingOptions())
    words = recognizer.transcribe(Path(__file__).parent / name).words
    starts = [word.start for word in words if word.text == "But"]
    assert starts == pytest.approx(begins, abs=0.1)


# --- several tracks


@pytest.fixture
def film(tmp_path: Path, tone: Path) -> Path:
    """A film with German (440 Hz) and with English sound (880 Hz), which is the default."""
    other = written(tmp_path / "other.wav", sine(880, 2.0))
    options = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:v", "mpeg4", "-c:a", "aac", "-b:a", "64k")
    english = ("-metadata:s:a:1", "language=eng", "-metadata:s:a:1", "title=[error] a title", "-disposition:a:1")
    german = ("-metadata:s:a:0", "language=deu", "-disposition:a:0", 0)
    return made(tmp_path / "a.mkv", *VIDEO, "-i", tone, "-i", other, *options, *german, *english, "default")


def pitch(waveform: np.ndarray) -> int:
    return int(np.argmax(np.abs(np.fft.rfft(waveform[:RATE]))))


def test_the_default_track_is_heard_and_the_others_are_named(film: Path) -> None:
    with pytest.warns(AsrWarning) as caught:
        assert pitch(read_audio(film)) == 880
    (message,) = (str(warning.message) for warning in caught)
    heard = f'{film}: has 2 sound tracks: track 1 (eng, "[error] a title", aac) is used'
    assert message == f"{heard}, --track takes another: track 0 (deu, aac)"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("track", "frequency"), [(0, 440), (1, 880)])
def test_a_track_can_be_chosen(film: Path, track: int, frequency: int) -> None:
    waveform = read_audio(film, track=track)
    assert pitch(waveform) == frequency
    assert duration_seconds(film, track=track) == pytest.approx(len(waveform) / RATE)
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(film, track=track))), waveform)


def test_a_track_that_is_not_there_is_refused(film: Path, tone: Path) -> None:
    for path, count in ((film, 2), (tone, 1)):
        with pytest.raises(DataError, match=rf"track must be below the number of sound tracks, {count}; got 2"):
            read_audio(path, track=2)
    assert len(read_audio(tone, track=0)) == 2 * RATE
    with pytest.raises(InputError, match="track must be below the number of sound tracks, 1; got 1"):
        read_audio((np.zeros(5), RATE), track=1)
    with pytest.raises(InputError, match="track must be None or an integer from 0; got -1"):
        read_audio(film, track=-1)
