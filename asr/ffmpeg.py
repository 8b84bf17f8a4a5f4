"""The sound of files that libsndfile does not read, decoded by an `ffmpeg` program."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
import warnings
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import AsrWarning, DataError

if TYPE_CHECKING:
    from asr.sound_files import RatedBlocks

_BLOCK_SAMPLES = 2**18  # over all channels, that are decoded at a time


def ffmpeg_blocks(path: str, name: str | None, reason: str) -> RatedBlocks:
    """The blocks of the first sound track, decoded by ffmpeg to AU, whose short header can be read from a pipe."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise DataError(
            f"must be sound; libsndfile cannot read it ({reason}); for m4a, mp4, webm and the like an `ffmpeg` program "
            "must be on PATH and there is none: install ffmpeg, or convert the file to wav or flac",
            path=name,
        )
    # `file:` and the whitelist: no name, and no playlist in a file, opens an address.
    command = [program, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command += ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
    decoded, rate = 0, 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            header = process.stdout.read(24)
            if len(header) == 24:
                _, start, _, _, rate, channels = struct.unpack(">4s5I", header)
                process.stdout.read(start - 24)
                size = 4 * channels * max(1, _BLOCK_SAMPLES // channels)
                while data := process.stdout.read(size):
                    block = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], ">f4")
                    decoded += len(block) // channels
                    yield rate, block.astype(np.float32).reshape(-1, channels)
        except BaseException:
            process.kill()  # the reader stopped early; ffmpeg would wait at a full pipe for ever
            raise
        process.wait()
        log.seek(0)
        report = log.read(2**20).decode(errors="replace")
    problems = re.findall(r"\[(?:error|fatal)\] (.*)", report)
    if not decoded:
        detail = problems[0] if problems else "it found no samples"
        raise DataError(f"must be sound; libsndfile cannot read it ({reason}), nor can ffmpeg ({detail})", path=name)
    if problems:
        stated = re.search(r"Duration: ([\d:.]+)", report)
        whole = f" of {stated[1]}" if stated else ""
        message = f"{name}: truncated or damaged: ffmpeg decoded {decoded / rate:.3f} s{whole} ({problems[0]})"
        warnings.warn(AsrWarning(message), stacklevel=2)
