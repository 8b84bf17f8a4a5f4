"""Open a sound (a path, a URL, a pipe, a file object) as a file in which decoders can seek."""

from __future__ import annotations

import os
import select
import stat
import sys
import tempfile
from contextlib import suppress
from typing import IO, BinaryIO

from asr.errors import AsrError, DataError, InputError
from asr.files.remote import is_url, local_path, opened

MAX_INPUT_BYTES = 8 * 2**30  # of streams, which are copied: 37 hours of stereo WAV at 16 kHz
# Files to take from a folder; a file that the user names may have any suffix.
SOUND_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv"),
        *(".mov", ".mp3", ".mp4", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav", ".webm", ".wma"),
    )
)
PATIENCE = 60.0  # seconds to wait for data from a named pipe


def open_sound(
    source: str | os.PathLike[str] | BinaryIO, name: str | None, *, max_bytes: int = MAX_INPUT_BYTES
) -> IO[bytes]:
    """A regular, non-empty file with a descriptor, for the caller to close; streams are copied to an unnamed file.

    Args:
        source: a path, a URL, "-" for standard input, or a binary file object, which is read to its end.
        name: of the source in errors.
        max_bytes: largest size of a stream.
    Raises:
        InputError: the source is none of these.
        DataError: it cannot be read, is empty, is a device, is longer than `max_bytes`, or is a named pipe that gives
            no data for a minute.
    """
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            kinds = 'a path, "-", a binary file object or (samples, rate)'
            advice = ": wrap them in io.BytesIO" if isinstance(source, bytes | bytearray) else ""
            raise InputError(f"a sound must be {kinds}; got {type(source).__name__}{advice}")
        return copied(source, name, max_bytes=max_bytes)
    if source == "-":
        return copied(sys.stdin.buffer, name, max_bytes=max_bytes)
    if isinstance(source, str) and is_url(source):
        path = local_path(source)
        if path is None:
            with opened(source) as stream:
                return copied(stream, name, max_bytes=max_bytes)
        source = path
    try:
        file = open(os.fsdecode(source), "rb", buffering=0, opener=_at_once)  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"cannot be opened: {getattr(error, 'strerror', error)}", path=name) from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        with file:
            return copied(_Pipe(file, name), name, max_bytes=max_bytes)
    if not stat.S_ISREG(mode):
        file.close()
        raise DataError("must be a file or a pipe; it is a device", path=name)
    return _not_empty(file, name)


def _at_once(path: str, flags: int) -> int:
    """Open a named pipe without waiting for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Pipe:
    """A named pipe with a limit on waiting."""

    def __init__(self, file: IO[bytes], name: str | None):
        self._file, self._name = file, name

    def read(self, size: int) -> bytes:
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            message = f"must be written to while it is read; nothing has come through this pipe for {PATIENCE:g} s"
            raise DataError(message, path=self._name)
        return os.read(self._file.fileno(), size)


def copied(stream: IO[bytes] | _Pipe, name: str | None, *, max_bytes: int | None = None) -> IO[bytes]:
    """The rest of a stream as an unnamed file, deleted when closed: decoders seek, pipes cannot.

    Raises:
        DataError: it cannot be read or copied, is empty, or holds more than `max_bytes`.
    """
    try:
        # An unnamed file disappears even if the program is killed.
        copy = tempfile.TemporaryFile(prefix="asr-")  # noqa: SIM115
        try:
            size = 0
            while block := _read(stream, name):
                size += len(block)
                if max_bytes is not None and size > max_bytes:
                    message = f"must hold at most {max_bytes} bytes, as it is copied to a disk, but holds more"
                    raise DataError(f"{message}: give a file, or another --max-input-bytes", path=name)
                copy.write(block)
            copy.flush()
        except BaseException:
            with suppress(OSError):  # flushing the rest fails again
                copy.close()
            raise
    except OSError as error:
        reason = f"its copy in {tempfile.gettempdir()} cannot be written: {error.strerror}"
        raise DataError(reason, path=name) from error
    return _not_empty(copy, name)


def _read(stream: IO[bytes] | _Pipe, name: str | None) -> bytes:
    try:
        block = stream.read(2**20)
    except AsrError:
        raise
    except (OSError, ValueError) as error:  # ValueError: closed
        raise DataError(f"cannot be read as a binary stream: {error}", path=name) from error
    if not isinstance(block, bytes | bytearray | memoryview):
        kind = type(block).__name__
        raise DataError(f"cannot be read as a binary stream: it gives {kind}, not bytes", path=name)
    return bytes(block)


def _not_empty(file: IO[bytes], name: str | None) -> IO[bytes]:
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise DataError("must hold sound; it is empty (0 bytes)", path=name)
    return file
