"""A sound from anywhere (a path, a URL, a pipe, a file object) as a file in which decoders can seek."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from typing import IO, BinaryIO

from asr.errors import AsrError, DataError, InputError
from asr.remote import is_url, opened


def open_sound(source: str | os.PathLike[str] | BinaryIO, name: str | None) -> IO[bytes]:
    """A regular file that is not empty, with a descriptor and a name; the caller closes it.

    Args:
        source: a path, a URL, "-" for standard input, or a binary file object, which is read to its end.
        name: what errors call it.
    Raises:
        InputError: the source is none of these.
        DataError: it cannot be read, or is empty.
    """
    if isinstance(source, str) and source == "-":
        return copied(sys.stdin.buffer, name)
    if isinstance(source, str) and is_url(source):
        with opened(source) as stream:
            return copied(stream, name)
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            kinds = 'a path, "-", a binary file object or (samples, rate)'
            raise InputError(f"a sound must be {kinds}; got {type(source).__name__}")
        return copied(source, name)
    try:
        file = open(os.fsdecode(source), "rb", buffering=0)  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"cannot be opened: {getattr(error, 'strerror', error)}", path=name) from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        with file:
            return copied(file, name)
    if not stat.S_ISREG(mode):
        file.close()
        raise DataError("must be a file or a pipe; it is a device", path=name)
    return _not_empty(file, name)


def copied(stream: IO[bytes], name: str | None) -> IO[bytes]:
    """The rest of a stream as a temporary file, gone once closed: decoders seek, pipes do not."""
    try:
        copy = tempfile.NamedTemporaryFile(prefix="asr-")  # noqa: SIM115
        while block := _read(stream, name):
            copy.write(block)
        copy.flush()
    except OSError as error:
        reason = f"its copy in {tempfile.gettempdir()} cannot be written: {error.strerror}"
        raise DataError(reason, path=name) from error
    return _not_empty(copy, name)


def _read(stream: IO[bytes], name: str | None) -> bytes:
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
