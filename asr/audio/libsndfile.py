"""Sound files read forwards by libsndfile, and the lengths that their headers state."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.c_streams import silenced
from asr.audio.excerpts import Excerpt
from asr.audio.sound_parts import SoundPart
from asr.errors import ConfigError
from asr.options import check_options, option

# A damaged header may state any rate. Recordings are within this range; outside it, resampling would multiply the
# samples.
LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE = 1_000, 1_000_000
# SF_COUNT_MAX, libsndfile's value for a length that the header does not state.
UNKNOWN_FRAMES = 2**63 - 1

_BAD_FILE = 7  # libsndfile reports "File does not exist" for an open file whose first MP3 frame is incomplete

Waveform: TypeAlias = NDArray[np.float32]
RatedBlocks: TypeAlias = Generator[tuple[int, Waveform], None, None]
"""The output of a decoder: the rate in Hz, and samples (n, channels), n >= 1, otherwise unchecked."""

BLOCK_SAMPLES = 2**18  # samples of all channels in a block: 1 MB of float32


@dataclass(frozen=True, kw_only=True)
class RawFormat:
    """The format of a file of samples without a header."""

    sample_rate: int = option(
        help="samples per second of a headerless file", least=LOWEST_SAMPLE_RATE, most=HIGHEST_SAMPLE_RATE
    )
    channels: int = option(1, "interleaved channels of a headerless file", least=1, most=1024)
    subtype: str = option("PCM_16", "sample type of a headerless file, by its name in soundfile")
    endian: Literal["LITTLE", "BIG"] = option("LITTLE", "byte order of a headerless file")

    def __post_init__(self) -> None:
        check_options(self)
        if not soundfile.check_format("RAW", self.subtype, self.endian):
            subtypes = ", ".join(soundfile.available_subtypes("RAW"))
            raise ConfigError(
                f"subtype must be one of {subtypes}, available {self.endian} endian; got {self.subtype!r}"
            )


def rate_range() -> str:
    """The sample rates that can be read, for messages."""
    return f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz"


class Sound(soundfile.SoundFile):
    """A sound file that is read forwards only.

    soundfile seeks after each read of a seekable file. The MP3 decoder then loses its bit reservoir, and sound read in
    blocks crackles at their borders. The file is opened by descriptor: by name, soundfile takes any `.raw` file for
    headerless, and libsndfile any `.vox` file.
    """

    def __init__(self, file: IO[bytes] | Excerpt, raw: RawFormat | None):
        options: dict[str, Any] = {}
        if raw is not None:
            options = {"channels": raw.channels, "subtype": raw.subtype, "endian": raw.endian, "format": "RAW"}
            options["samplerate"] = raw.sample_rate
        with silenced():
            if isinstance(file, Excerpt):
                super().__init__(io.BufferedReader(file, 2**16), **options)
            else:
                os.lseek(file.fileno(), 0, os.SEEK_SET)
                super().__init__(file.fileno(), closefd=False, **options)

    def seekable(self) -> bool:
        return False

    def read_into(self, block: Waveform) -> int:
        """Decode into the beginning of (n, channels); the number of frames, 0 at the end.

        Raises:
            soundfile.LibsndfileError: decoding failed; the frames before the error are in the block.
        """
        with silenced():
            return len(self.read(out=block))


def stated_frames(sound: Sound, part: SoundPart, file: IO[bytes]) -> int | None:
    """The number of frames in the header, if stated; libsndfile lowers this number to the frames in the file."""
    if part.stated is not None:
        first, last = part.samples or (0, sound.frames)
        return round(part.stated * (last - first))
    log = sound.extra_info
    if sound.frames == UNKNOWN_FRAMES or sound.format == "MP3":  # an MP3 of free bit rate: libsndfile guesses
        return None
    if sound.format == "NIST":
        count = re.search(rb"\nsample_count -i (\d{1,18})\n", os.pread(file.fileno(), 1024, part.begin))
        return int(count[1]) if count else None
    if frames := re.search(r"read from 'COMM' chunk \(?(\d{1,18})\b", log):  # aiff; 0 if it was written to a pipe
        return int(frames[1])
    # w64 and au; 2 GiB or more if the writer could not return to the header.
    sizes = re.search(r"^ *(?:data|riff|Data Size) *: (\d{1,18}) \(should be (\d{1,18})\)", log, re.MULTILINE)
    if sizes and int(sizes[2]) > 0 and int(sizes[1]) < 0x7FFF_F000:
        return round(sound.frames * int(sizes[1]) / int(sizes[2]))
    return sound.frames


def problem_of(error: soundfile.LibsndfileError) -> str:
    if error.code == _BAD_FILE:
        return "no frame can be decoded"
    return error.error_string.removeprefix("Error : ").rstrip(". ")
