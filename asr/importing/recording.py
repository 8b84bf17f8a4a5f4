"""Record sentences that a person reads, one by one, into a folder that `asr-data import` takes.

    sentence ─▶ shown ─▶ microphone ─▶ level checked ─▶ kept, repeated or played ─▶ 001.wav, 001.txt

A sentence whose two files exist is done, so the same call goes on where another one stopped.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import soundfile

from asr.errors import ConfigError, InputError
from asr.files.texts import read_text
from asr.files.writing import replacing, write_whole
from asr.lm.documents import read_sentences_of

RATE = 16_000
LONGEST_WORDS = 25  # of a sentence; longer ones are hard to read at once
_WINDOW = RATE // 40
_QUIET_DB, _CLIPPED, _SHORTEST_SECONDS = -35.0, 0.999, 0.5

HELP = "Enter: record, and stop; then Enter: keep, p: play, r: repeat, s: skip the sentence, q: quit"


class Microphone(Protocol):
    """Where recordings come from and are played."""

    def recording(self) -> AbstractContextManager[list[np.ndarray]]:
        """A list that fills with blocks (N,) float32 at `RATE` until the context ends."""

    def play(self, samples: np.ndarray) -> None:
        """Play samples (N,) float32 at `RATE` to their end."""


def default_sentences() -> list[str]:
    """The package's own sentences: prompts of Common Voice (CC0), chosen for many pairs of letters in few words."""
    return files("asr.importing").joinpath("sentences.txt").read_text(encoding="utf-8").splitlines()


def sentences_to_read(path: str | os.PathLike[str] | None) -> list[str]:
    """The sentences of a text, those that are short enough to read at once; the package's own for None.

    Raises:
        DataError: the text cannot be read.
        InputError: it has no such sentence.
    """
    if path is None:
        return default_sentences()
    found = [" ".join(sentence.split()) for sentence in read_sentences_of(path)]
    sentences = [sentence for sentence in found if 0 < len(sentence.split()) <= LONGEST_WORDS]
    if not sentences:
        raise InputError(f"{os.fspath(path)} must have a sentence of at most {LONGEST_WORDS} words to read")
    return sentences


def record_sentences(
    sentences: Sequence[str],
    folder: Path,
    *,
    microphone: Microphone,
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> int:
    """Record sentences until all are done or the person quits; the number of recordings in the folder.

    Args:
        sentences: in the order of reading; the numbers of files are theirs.
        folder: gets 001.wav (16 kHz, 16 bits) and 001.txt; created if missing.
        microphone: see `Microphone`.
        ask: shows a prompt, and returns the line that the person types.
        show: shows a line.
    Raises:
        ConfigError: the folder has the recording of another text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = max(3, len(str(len(sentences))))
    show(HELP)
    for number, sentence in enumerate(sentences, start=1):
        sound, text = (folder / f"{number:0{digits}}{ending}" for ending in (".wav", ".txt"))
        if sound.is_file() and text.is_file():
            if read_text(text).strip() != sentence:
                raise ConfigError(f"{text} has another text than sentence {number}: choose another folder")
            continue
        show("")
        show(f"{number} of {len(sentences)}")
        show(textwrap.fill(sentence, 76, initial_indent="    ", subsequent_indent="    "))
        samples = _record_one(microphone, ask, show)
        if samples is None:
            break
        if len(samples):
            with replacing(sound) as file:
                soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
            write_whole(text, f"{sentence}\n")
    return sum(path.with_suffix(".txt").is_file() for path in folder.glob("*.wav"))


def _record_one(microphone: Microphone, ask: Callable[[str], str], show: Callable[[str], None]) -> np.ndarray | None:
    """The samples of a sentence that the person keeps; none to skip it, None to quit."""
    samples = np.zeros(0, np.float32)
    answer = ask("Enter to record > ").strip().lower()
    while True:
        if answer == "q":
            return None
        if answer == "s":
            return np.zeros(0, np.float32)
        if answer == "p" and len(samples):
            microphone.play(samples)
        elif answer == "" and len(samples):
            return samples
        elif answer in ("", "r"):
            with microphone.recording() as blocks:
                ask("recording; Enter to stop > ")
            samples = np.concatenate([np.zeros(0, np.float32), *blocks])
            if fault := fault_of(samples):
                show(f"  {fault}")
                samples = samples[:0]
            else:
                show(f"  {len(samples) / RATE:.1f} s")
        else:
            show(f"  {HELP}")
        answer = ask("Enter to keep, p, r, s, q > " if len(samples) else "Enter to record again > ").strip().lower()


def fault_of(samples: np.ndarray) -> str:
    """A sentence on what makes a recording useless, samples (N,) in [-1, 1] at `RATE`; empty if nothing does."""
    if len(samples) < _SHORTEST_SECONDS * RATE:
        return "too short: press Enter, read, and press Enter again"
    windows = samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW).astype(np.float64)
    loudest = math.sqrt(float((windows**2).mean(axis=1).max()))
    if loudest < 10 ** (_QUIET_DB / 20):
        return "too quiet: move closer to the microphone, or raise its level"
    if np.abs(samples).max() >= _CLIPPED:
        return "too loud, and clipped: move away from the microphone, or lower its level"
    return ""


class SystemMicrophone:
    """The system's default microphone and loudspeaker, by sounddevice (PortAudio).

    Raises:
        ConfigError: sounddevice is missing, or the system has no microphone.
    """

    def __init__(self) -> None:
        try:
            import sounddevice
        except ImportError:
            raise ConfigError("to record, install sounddevice: pip install 'asr[live]'") from None
        except OSError as error:  # PortAudio itself
            raise ConfigError(f"to record, install PortAudio (libportaudio2): {error}") from None
        self._sounddevice: Any = sounddevice
        try:
            sounddevice.check_input_settings(samplerate=RATE, channels=1)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise ConfigError(f"this system has no microphone that records at {RATE} Hz: {error}") from None

    @contextmanager
    def recording(self) -> Iterator[list[np.ndarray]]:
        blocks: list[np.ndarray] = []

        def keep(block: np.ndarray, *_: object) -> None:
            blocks.append(block[:, 0].copy())

        with self._listening(keep):
            yield blocks

    @contextmanager
    def _listening(self, keep: Callable[..., None]) -> Iterator[None]:
        """Call a function with each block (n, 1), until the context ends."""
        try:
            with self._sounddevice.InputStream(samplerate=RATE, channels=1, dtype="float32", callback=keep):
                yield
        except self._sounddevice.PortAudioError as error:
            raise ConfigError(f"the microphone cannot record: {error}") from None

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks (N,) float32 at `RATE`, without end, all sound since the block before."""
        recorded: SimpleQueue[np.ndarray] = SimpleQueue()

        def keep(block: np.ndarray, *_: object) -> None:
            recorded.put(block[:, 0].copy())

        with self._listening(keep):
            while True:
                blocks = [recorded.get()]
                while not recorded.empty():
                    blocks.append(recorded.get())
                yield np.concatenate(blocks)

    def play(self, samples: np.ndarray) -> None:
        try:
            self._sounddevice.play(samples, RATE, blocking=True)
        except self._sounddevice.PortAudioError as error:
            raise ConfigError(f"this system cannot play sound at {RATE} Hz: {error}") from None
