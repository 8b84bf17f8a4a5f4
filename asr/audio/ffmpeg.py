"""Decode sound that libsndfile cannot read with an `ffmpeg` program, with every sample at its time."""

from __future__ import annotations

import os
import re
import select
import shutil
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from asr.audio.libsndfile import BLOCK_SAMPLES, RatedBlocks
from asr.errors import AsrWarning, ChoiceWarning, DataError

# Formats that hold their own sound. Formats that name other files (playlists, lists) are never opened.
_FORMATS = (
    "aa,aac,aax,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,ast,au,avi,caf,dhav,dsf,dss,dts,dtshd,"
    "dv,eac3,epaf,flac,flv,g722,g723_1,g726,g729,gsm,gxf,h264,hevc,iff,ilbc,ircam,ivf,ivr,"
    "live_flv,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mulaw,mxf,nistsphere,nsv,"
    "nut,nuv,ogg,oma,paf,pva,pvf,qcp,rm,rso,sbc,sds,shn,sln,sox,spdif,swf,tak,truehd,tta,voc,"
    "vqf,w64,wav,wsd,wtv,wv,wve,xwma"
)
_LONGEST_GAP = 3600  # seconds; for more silence at once, ffmpeg writes gigabytes and loses the sound after it
# A frame is placed at its time stamp if that leaves a gap of 0.1 s to an hour, else directly after the last frame. So
# jitter, encoder delays and time stamps that go back cost no sample. st(0) is its start, st(1) its end, st(3) the gap;
# the first gap that is too long is printed, and stored in st(2).
_TIMED = (
    f"asetpts='st(3,PTS-ld(1));st(0,if(gt(ld(3),0.1/TB)*lte(ld(3),{_LONGEST_GAP}/TB),PTS,ld(1)));"
    f"if(gt(ld(3),{_LONGEST_GAP}/TB)*not(ld(2)),print(st(2,ld(3)*TB),16));"
    "st(1,ld(0)+S/SR/TB);ld(0)',aresample=async=1:first_pts=0"
)
# Seconds of silence allowed in total, plus one second per byte of the file: damaged time stamps may ask for days.
_LONGEST_GAPS = 24 * 3600
STALL_SECONDS = 60.0  # without output, after which ffmpeg is taken to hang
_WAITS = 60  # in these seconds
_REPORT_BYTES = 2**20  # of ffmpeg's messages; the rest repeats
# ffmpeg's messages go into a file of 4 MB at most: they may be a hundred times as long as the input. Python and its
# child processes ignore the signal of a full file.
_BOUNDED = ["/bin/sh", "-c", 'ulimit -f 8192; exec "$@"', "sh"]


class NotSound(DataError):
    """A file in which neither libsndfile nor ffmpeg finds sound."""


@dataclass(frozen=True, kw_only=True)
class _Track:
    """A sound track, as ffmpeg describes it."""

    codec: str
    language: str
    title: str
    default: bool

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.language, f'"{self.title}"' if self.title else "", self.codec]))


def ffmpeg_blocks(file: IO[bytes], name: str | None, reason: str, *, track: int | None = None) -> RatedBlocks:
    """The blocks of one sound track; gaps of 0.1 s or more between time stamps are filled with silence.

    Args:
        file: a regular file.
        name: of the file in errors.
        reason: why libsndfile cannot read it.
        track: counted from 0; None takes the first track with the flag "default", or else the first.
    Raises:
        DataError: there is no ffmpeg, or it hangs, or the file is not sound or video, is encrypted, has no such track,
            or lists other files.
    Warns:
        AsrWarning: the file is truncated or damaged.
        ChoiceWarning: it has more than one track.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise NotSound(
            f"must be sound; libsndfile cannot read it ({reason}); for m4a, mp4, or webm an `ffmpeg` program "
            "must be on PATH and there is none: install ffmpeg, or convert the file to wav or flac",
            path=name,
        )
    if _is_encrypted(file):
        raise DataError("must not be encrypted; decoding it needs the seller's key", path=name)
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # /dev/fd/N starts from this position on some systems
    chosen, decoded, rate, report = track or 0, 0, 0, ""
    while True:
        with _running(_command(program, file, chosen), file.fileno()) as (process, messages):
            assert process.stdout is not None
            sound = _Pipe(process.stdout, name)
            header = sound.read(24)
            if not header:
                _await(process, name)
            tracks = _sound_tracks(messages())
            default = next((number for number, described in enumerate(tracks) if described.default), 0)
            if track is None and chosen != default:
                chosen = default
                continue
            if not header:
                _check_track(messages(), tracks, chosen, name)
            if track is None and len(tracks) > 1:
                warnings.warn(ChoiceWarning(f"{name}: {_choice(tracks, chosen)}"), stacklevel=2)
            for rate, block in _au_blocks(sound, header):
                decoded += len(block)
                if decoded > rate * (_LONGEST_GAPS + os.fstat(file.fileno()).st_size):
                    raise DataError("must have time stamps without gaps of days; they are damaged", path=name)
                yield rate, block
            _await(process, name)
            report = messages()
        break
    if gap := re.search(r"^(?:\[\w+ @ \w+\] )?\[error\] (\d+\.\d{6})\n", report, re.MULTILINE):
        report = report.replace(gap[0], "")
        message = (
            f"time stamps leave a gap of {float(gap[1]) / 3600:.1f} hours, which is closed: later times come early"
        )
        warnings.warn(AsrWarning(f"{name}: {message}"), stacklevel=2)
    problems = [problem.removeprefix(f"{_address(file)}: ") for problem in _problems(report)]
    if not decoded:
        elsewhere = "Skipped opening external track" in report
        nothing = "its sound is in another file, which is not opened" if elsewhere else "it found no samples"
        detail = problems[0] if problems else nothing
        raise NotSound(f"must be sound; libsndfile cannot read it ({reason}), nor can ffmpeg ({detail})", path=name)
    # The AMR decoder reports omitted silence as an error.
    if problems and not (tracks and tracks[chosen].codec.startswith("amr")):
        stated = re.search(r"Duration: ([\d:.]+)", report)
        whole = f" of {stated[1]}" if stated else ""
        message = f"{name}: truncated or damaged: ffmpeg decoded {decoded / rate:.3f} s{whole} ({problems[0]})"
        warnings.warn(AsrWarning(message), stacklevel=2)


def _command(program: str, file: IO[bytes], track: int) -> list[str]:
    """The command that writes a track to stdout as AU, whose short header can be read from a pipe."""
    # `file:` and the whitelists prevent a name or a list in a file from opening an address or another file.
    command = [program, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command += ["-format_whitelist", _FORMATS, "-protocol_whitelist", "file", "-i", _address(file)]
    command += ["-map", f"0:a:{track}", "-af", _TIMED, "-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
    if os.pread(file.fileno(), 8, 0)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        # If no other track is read, ffmpeg starts the times of some formats with this one. MP4 is not among them, so
        # its video need not be read.
        command += ["-map", "0:a", "-map", "0:v?", "-c", "copy", "-f", "null", "-"]
    return command


def _address(file: IO[bytes]) -> str:
    return f"file:{file.name}" if isinstance(file.name, str) else f"file:/dev/fd/{file.fileno()}"  # a copy has no name


@contextmanager
def _running(command: list[str], descriptor: int) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A running ffmpeg and a function that gives its messages so far; it is killed at the end of the block."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*_BOUNDED, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=(descriptor,),
            restore_signals=False,
        ) as process,
    ):
        try:  # pread: seeking would move ffmpeg's writing position
            yield process, lambda: os.pread(log.fileno(), _REPORT_BYTES, 0).decode(errors="replace")
        finally:
            process.kill()  # if the reader stops early, ffmpeg would wait for ever to write to a full pipe


class _Pipe:
    """What a process writes; reading it ends with an error where the process hangs."""

    def __init__(self, stream: IO[bytes], name: str | None):
        self._descriptor, self._name, self._poll = stream.fileno(), name, select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, size: int) -> bytes:
        """So many bytes, or what is left.

        Raises:
            DataError: nothing comes for `STALL_SECONDS`.
        """
        parts: list[bytes] = []
        while size:
            # A wait ends at once where this process goes on after a stop (Ctrl-Z); so there are many short ones.
            if not any(self._poll.poll(1000 * STALL_SECONDS / _WAITS) for _ in range(_WAITS)):
                raise _stalled(self._name)
            part = os.read(self._descriptor, size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _await(process: subprocess.Popen[bytes], name: str | None) -> None:
    """Wait for the end of a process that has closed its output.

    Raises:
        DataError: it does not end.
    """
    try:
        process.wait(STALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise _stalled(name) from None


def _stalled(name: str | None) -> DataError:
    message = f"must be sound that ffmpeg can decode; it gave nothing for {STALL_SECONDS:g} s and was stopped"
    return DataError(message, path=name)


def _au_blocks(stream: _Pipe, header: bytes) -> RatedBlocks:
    """The blocks of an AU stream of 32-bit floats, whose first 24 bytes have been read."""
    if len(header) < 24:
        return
    _, start, _, _, rate, channels = struct.unpack(">4s5I", header)
    stream.read(start - 24)
    size = 4 * channels * max(1, BLOCK_SAMPLES // channels)
    while data := stream.read(size):
        block = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], ">f4")
        yield rate, block.astype(np.float32).reshape(-1, channels)


def _sound_tracks(report: str) -> list[_Track]:
    """The sound tracks of the input, in ffmpeg's order."""
    tracks = {}
    for number, language, details, tags in _streams(report, "Audio"):
        title = re.search(r"^\[info\] +(?:title|name) *: (.*)", tags, re.MULTILINE)
        tracks[number] = _Track(
            codec=details.split(",")[0].split()[0],
            language="" if language == "und" else language,
            title=title[1] if title else "",
            default="(default)" in details,
        )
    return [tracks[number] for number in sorted(tracks)]


def _streams(report: str, kind: str) -> Iterator[tuple[int, str, str, str]]:
    """The number, language, details and tags of each stream of a kind ("Audio", "Video") in the input."""
    described = re.split(r"^\[info\] (?:Stream mapping|Output #0)", report, maxsplit=1, flags=re.MULTILINE)[0]
    parts = re.split(r"^\[info\] +Stream #0:", described, flags=re.MULTILINE)[1:]
    for part in parts:
        if match := re.match(rf"(\d+)(?:\[\w+\])?(?:\((.*?)\))?: {kind}: (\S.*)", part):
            yield int(match[1]), match[2] or "", match[3], part[match.end() :]


def _check_track(report: str, tracks: list[_Track], chosen: int, name: str | None) -> None:
    """Raises: DataError: the format of the file is not allowed, or it has no such track."""
    if "ormat not on whitelist" in report:
        others = "a playlist, a list of files, pictures or subtitles, say"
        raise DataError(f"must be a file of sound or video; it is another ({others}), which is not opened", path=name)
    if re.search(r"^\[info\] Input #0", report, re.MULTILINE) and chosen >= len(tracks):
        if tracks:
            message = f"track must be below the number of sound tracks, {len(tracks)}; got {chosen}"
        else:
            video = any(_streams(report, "Video"))
            message = f"must hold sound; it is {'a video' if video else 'a file'} without a sound track"
        raise DataError(message, path=name)


def _choice(tracks: list[_Track], chosen: int) -> str:
    others = "; ".join(f"track {number} ({track})" for number, track in enumerate(tracks) if number != chosen)
    return f"has {len(tracks)} sound tracks: track {chosen} ({tracks[chosen]}) is used, --track takes another: {others}"


def _problems(report: str) -> list[str]:
    """The errors among ffmpeg's messages; the tags of a file may look like an error, but never begin a line."""
    return re.findall(r"^(?:\[[^\]\n]+ @ \w+\] )*\[(?:error|fatal)\] (.*)", report, re.MULTILINE)


def _is_encrypted(file: IO[bytes]) -> bool:
    """Whether the header of an MP4 names sound that is encrypted: common encryption, FairPlay, Audible.

    Source: ISO/IEC 14496-12, 4.2 and 8.5.2; ISO/IEC 23001-7, 4.1.
    """
    position = 0
    for _ in range(1_000):  # boxes
        head = os.pread(file.fileno(), 16, position)
        if len(head) < 16:
            return False
        size, kind, large = struct.unpack(">I4sQ", head)
        if kind == b"moov":
            moov = os.pread(file.fileno(), min(size, 2**24), position)
            return re.search(rb"(?:enca|drms|aavd)\0{6}", moov) is not None
        size = large if size == 1 else size
        if size < 8:
            return False
        position += size
    return False
