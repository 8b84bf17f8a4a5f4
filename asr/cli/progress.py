"""The progress bar of asr-transcribe: seconds of sound that are done of all, speed, and time left."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from types import TracebackType

from asr.cli.arguments import disable_progress
from asr.errors import AsrError
from asr.recognition.recordings import Recording

_MOST_SECONDS = 2.0  # to spend on the durations of all recordings; after that, their sum is unknown


class SoundBar:
    """A bar of tqdm on stderr, removed at its end; it never shows more sound than there is."""

    def __init__(self, args: argparse.Namespace, recordings: Sequence[Recording | AsrError]):
        from tqdm import tqdm

        sounds = [item for item in recordings if isinstance(item, Recording)]
        self.done = 0.0
        self.bar = tqdm(disable=disable_progress(args), leave=False, dynamic_ncols=True, bar_format="{desc}")
        self.seconds = {} if self.bar.disable else _durations(sounds)
        are_known = bool(sounds) and all(item.path in self.seconds for item in sounds)
        self.total = sum(self.seconds[item.path] for item in sounds) if are_known else None
        self.started = time.monotonic()
        self.advance(0.0)

    def __enter__(self) -> SoundBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.bar.close()

    def advance(self, seconds: float) -> None:
        """Count seconds of sound whose text is final."""
        self.done += seconds
        if self.bar.disable:
            return
        if self.total:
            self.bar.bar_format = "{percentage:3.0f}%|{bar}| {desc}"
            self.bar.total, self.bar.n = self.total, min(self.done, self.total)
        self.bar.set_description_str(self._state())

    def skip(self, path: str) -> None:
        """Leave a recording out of the sum."""
        if self.total is not None:
            self.total -= self.seconds.get(path, 0.0)

    @property
    def summary(self) -> str:
        """How much of the sound is done, as the end of a sentence; empty before the first text."""
        return f", {self._amount()} of sound" if self.done else ""

    def _amount(self) -> str:
        if not self.total:
            return clock(self.done, places=0)
        return f"{clock(min(self.done, self.total), places=0)} of {clock(self.total, places=0)}"

    def _state(self) -> str:
        """`12:30 of 1:00:00 of sound, 31.0x real time, 1:32 left`"""
        elapsed = time.monotonic() - self.started
        parts = [f"{self._amount()} of sound"]
        if self.done and elapsed:
            parts.append(f"{self.done / elapsed:.1f}x real time")
            if self.total:
                parts.append(f"{clock(max(self.total - self.done, 0) * elapsed / self.done, places=0)} left")
        return ", ".join(parts)


def clock(seconds: float, *, places: int = 3) -> str:
    """Minutes and seconds as 00:04.200, with hours before them from the first hour on, as Whisper prints them."""
    units = 10**places
    minutes, rest = divmod(int(seconds * units + 0.5), 60 * units)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % units:0{places}d}" if places else ""
    return f"{f'{hours:02d}:' if hours else ''}{minutes:02d}:{rest // units:02d}{fraction}"


def _durations(recordings: Sequence[Recording]) -> dict[str, float]:
    """The seconds of each recording by its path, as far as manifests and headers state them and time allows."""
    from asr.audio.waveform import stated_seconds

    latest = time.monotonic() + _MOST_SECONDS
    durations: dict[str, float] = {}
    for item in recordings:
        if item.utterance:
            durations[item.path] = item.utterance.duration_seconds
        elif time.monotonic() < latest and os.path.isfile(item.path):
            seconds = stated_seconds(item.path)
            if seconds is not None:
                durations[item.path] = seconds
    return durations
