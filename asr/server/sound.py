"""An upload as samples in an unnamed file: decoded, checked and measured before it takes the recogniser's time."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from asr.audio.waveform import Waveform, stream_audio
from asr.errors import DataError, InputError
from asr.server.notes import collected

_NAME = "<stream>: "  # of a file object, in messages


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One recording.

    Args:
        samples: (N,) float32 at `sample_rate`, in a file that disappears with the array.
        sample_rate: Hz.
        notes: what was repaired or left out.
    """

    samples: Waveform
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


def read_sound(
    file: BinaryIO,
    sample_rate: int,
    *,
    max_seconds: float,
    work_seconds: float = math.inf,
    is_left: Callable[[], bool] = lambda: False,
) -> Sound:
    """The samples of a sound file of any format; memory does not grow with its length.

    The file is only read as bytes; its name is not used.

    Args:
        work_seconds: most time for decoding: a small file may state a high rate, many channels and much silence.
        is_left: asked after each block; true if nobody wants the samples any more.
    Raises:
        InputError: it is not sound, longer than `max_seconds`, takes too long to decode, or is left.
        OSError: there is no room for the samples.
    """
    num_samples, limit = 0, int(max_seconds * sample_rate)
    unnamed, deadline = _Unnamed(file), time.monotonic() + work_seconds
    with tempfile.TemporaryFile(prefix="asr-") as copy, collected() as notes:
        try:
            for block in stream_audio(unnamed, sample_rate=sample_rate):  # type: ignore[arg-type]
                num_samples += len(block)
                if num_samples > limit:
                    raise InputError(f"must be at most {max_seconds:g} s long; it is longer")
                if is_left() or time.monotonic() > deadline:
                    raise InputError(f"must be decoded within {work_seconds:g} s; it takes longer")
                copy.write(block.tobytes())
        except DataError as error:
            if isinstance(error.__cause__, OSError):  # of the copy of the file, not of its content
                raise error.__cause__ from None
            raise InputError(str(error).removeprefix(_NAME)) from error
        copy.flush()
        samples = np.memmap(copy, dtype=np.float32, mode="r", shape=(num_samples,))
    return Sound(samples=samples, sample_rate=sample_rate, notes=tuple(note.removeprefix(_NAME) for note in notes))


class _Unnamed:
    """A file object without a name, which messages would show."""

    def __init__(self, file: BinaryIO):
        self.read = file.read
