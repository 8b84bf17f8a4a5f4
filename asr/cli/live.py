"""Transcribe a microphone, or a pipe while it is written: final sentences on stdout, the open one on the terminal."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, Any

from asr.cli.arguments import given_options, show_progress
from asr.cli.recognizer import load_recognizer
from asr.errors import AsrError
from asr.recognition.stream_options import StreamOptions
from asr.text.segments import TextSegment

if TYPE_CHECKING:
    from asr.audio.libsndfile import RatedBlocks
    from asr.recognition.streaming import StreamUpdate

UNSEEN_STEP = 2.0  # seconds between computations if no open text is shown: half of the work
_CLEAR, _DIM, _PLAIN = "\r\x1b[K", "\x1b[2m", "\x1b[22m"


def find_live_blocks(args: argparse.Namespace) -> RatedBlocks | None:
    """The sound to transcribe live: of the microphone, or of standard input if it is raw, or a pipe with a WAV."""
    from asr.audio.live_source import is_live_wav, is_pipe, raw_blocks, wav_blocks

    if args.live:
        from asr.importing.recording import RATE, SystemMicrophone

        return ((RATE, block) for block in SystemMicrophone().blocks())
    stdin: Any = sys.stdin.buffer
    if args.raw_rate:
        return raw_blocks(stdin, args.raw_rate, name="<stdin>")
    if isinstance(stdin, io.BufferedReader) and is_pipe(stdin) and is_live_wav(stdin):
        return wav_blocks(stdin, channel=args.channel, name="<stdin>")
    return None


def transcribe_live(args: argparse.Namespace, blocks: RatedBlocks, show: Callable[[TextSegment], None]) -> bool:
    """Show the sentences of live sound until it ends or Ctrl-C ends it; whether there were any.

    Raises:
        AsrError: the sound is wrong, or ends in an error; the sentences before it are shown.
    """
    recognizer = load_recognizer(args, args.model)
    options = given_options(args, StreamOptions)
    line = OpenLine(shown=show_progress(args))
    if not line.shown and not hasattr(args, "step"):
        options = replace(options, step=UNSEEN_STEP)
    stream = recognizer.stream(options, style=args.style)
    num_shown, fault = 0, None

    def tell(update: StreamUpdate) -> None:
        nonlocal num_shown
        if update.segments:
            line.write("", "")
        for segment in update.segments:
            show(segment)
            num_shown += 1
        line.write(update.stable, update.unstable)

    try:
        with Interruptible() as interruption:
            try:
                for rate, block in interruption.until_interrupted(blocks):
                    tell(stream.accept(block, rate))
            except AsrError as error:  # of the sound; what was heard before it is shown
                fault = error
        tell(stream.finish())
    finally:
        line.write("", "")
    if fault:
        raise fault
    return num_shown > 0


class OpenLine:
    """The open sentence on the last line of a terminal, on stderr; its unstable words are dimmed.

    Args:
        shown: None means if stderr is a terminal.
    """

    def __init__(self, *, shown: bool | None):
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._written = ""

    def write(self, stable: str, unstable: str) -> None:
        """Show other words; none clear the line."""
        if not self.shown:
            return
        text = " ".join(filter(None, (stable, unstable)))
        visible = end_of_line(text, _columns() - 1)
        num_dim = min(len(unstable), len(visible))
        line = visible[: len(visible) - num_dim]
        if num_dim:
            line += f"{_DIM}{visible[len(visible) - num_dim :]}{_PLAIN}"
        if line != self._written:
            sys.stderr.write(_CLEAR + line)
            sys.stderr.flush()
            self._written = line


def end_of_line(text: str, columns: int) -> str:
    """The end of a text that fits into so many columns, with … for its beginning."""
    widths = [2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text]
    if sum(widths) <= columns:
        return text
    room, first = columns - 1, len(text)
    while first and widths[first - 1] <= room:
        first -= 1
        room -= widths[first]
    return f"…{text[first:]}"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Interruptible:
    """While it is open, Ctrl-C ends the sound, not the command; a second Ctrl-C ends the command."""

    def __init__(self) -> None:
        self._waiting = self._interrupted = False
        self._before: Any = None

    def __enter__(self) -> Interruptible:
        if current_thread() is main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def until_interrupted(self, blocks: RatedBlocks) -> Iterator[tuple[int, Any]]:
        """The blocks that come before Ctrl-C."""
        while not self._interrupted:
            try:
                self._waiting = True
                block = next(blocks, None)
                self._waiting = False
            except KeyboardInterrupt:
                return
            if block is None:
                return
            yield block

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._waiting or self._interrupted:
            self._waiting = False
            self._interrupted = True
            raise KeyboardInterrupt
        self._interrupted = True
