"""Text files in UTF-8, or in the encoding of their byte-order mark, with a limit on their size.

The rule for all texts, lists, tables, subtitles and manifests: the byte-order mark decides the encoding (UTF-8, UTF-16,
UTF-32); without one it is UTF-8, or the encoding given by the caller. Folders, named pipes and devices are refused.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import os
from collections.abc import Iterator
from typing import IO, Any, cast

from asr.errors import DataError
from asr.files.reading import open_regular

MOST_BYTES = 1 << 30  # of a text that is read at once
MOST_LINE = 1 << 26  # characters of a line, if a file is read line by line
MOST_UNPACKED = 200
"""Largest ratio of unpacked to compressed bytes: manifests, lists and sentences have 3 to 30, bombs a thousand."""
FREE_BYTES = 1 << 23  # unpacked bytes that any compressed text may have

_MARKS = (  # UTF-32 first, because its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8", *, flag: str = "") -> str:
    """A whole text file, without its byte-order mark.

    Args:
        path: a regular file, or a pipe that the shell has opened (/dev/stdin, /dev/fd/N).
        encoding: of a file without a mark.
        flag: the flag that sets another encoding, for the message.
    Raises:
        DataError: the file cannot be read, is too long, or is not in this encoding.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    return decode_text(content, path, encoding, flag=flag)


def decode_text(content: bytes, path: str | os.PathLike[str], encoding: str = "utf-8", *, flag: str = "") -> str:
    """The text of a file from its bytes; see `read_text`."""
    if len(content) > MOST_BYTES:
        raise DataError(f"a text must have at most {MOST_BYTES >> 20} MB, but this file has more", path=path)
    mark, name = _mark(content[:4])
    try:
        text = content[len(mark) :].decode(name or encoding)
    except UnicodeError as error:
        start = len(mark) + error.start if isinstance(error, UnicodeDecodeError) else 0
        message = f"must be text in {name or encoding}" + f", or set its encoding with {flag}" * bool(flag)
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise DataError(f"{message}: {reason}", path=path, line=content.count(b"\n", 0, start) + 1) from error
    if _is_wide(text):
        raise DataError(_no_text(flag), path=path, line=text.count("\n", 0, text.index("\0")) + 1)
    return text


def _is_wide(text: str) -> bool:
    """Whether a text has so many NULs that it must be UTF-16; a few NULs are not checked here."""
    return "\0" in text and 4 * text.count("\0") > len(text)


def _mark(begin: bytes) -> tuple[bytes, str]:
    """The byte-order mark at the start of a file, and its encoding; both empty if there is none."""
    return next(((mark, name) for mark, name in _MARKS if begin.startswith(mark)), (b"", ""))


def _no_text(flag: str = "") -> str:
    remedy = f"use {flag} utf-16-le, or save it as UTF-8" if flag else "save it as UTF-8"
    return f"must be text, but has NUL characters, like UTF-16 without a byte-order mark: {remedy}"


def unpacked(file: Any, path: str | os.PathLike[str]) -> IO[bytes]:
    """The unpacked content of an open file if its name ends in .gz or .xz; otherwise the file itself.

    Reading raises DataError at more than `MOST_UNPACKED` times the compressed bytes (a decompression bomb). The caller
    must close `file` too.
    """
    name = os.fspath(path)
    if not name.endswith((".gz", ".xz")):
        return cast(IO[bytes], file)
    counted = _Counted(file)
    inner: Any = gzip.GzipFile(fileobj=counted) if name.endswith(".gz") else lzma.LZMAFile(counted)  # type: ignore[call-overload]  # noqa: SIM115
    return io.BufferedReader(_Bounded(inner, counted, path), 1 << 16)


class _Counted:
    """An open file that counts the bytes read."""

    def __init__(self, file: Any):
        self._file, self.num_read = file, 0

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._file.read(size)
        self.num_read += len(content)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Bounded(io.RawIOBase):
    """The unpacked content of a file, with a limit on the ratio to the compressed bytes."""

    def __init__(self, inner: Any, packed: _Counted, path: str | os.PathLike[str]):
        self._inner, self._packed, self._path, self._num_unpacked = inner, packed, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size: int = self._inner.readinto(buffer)
        self._num_unpacked += size
        if self._num_unpacked > FREE_BYTES + MOST_UNPACKED * self._packed.num_read:
            raise DataError(
                f"a compressed text must unpack to at most {MOST_UNPACKED} times its size, but this file has more: if "
                "you trust it, unpack it yourself",
                path=self._path,
            )
        return size


def _begun(file: Any) -> tuple[Any, str]:
    """An open file after its byte-order mark, and the encoding of the mark, or empty."""
    buffer = file if hasattr(file, "peek") else io.BufferedReader(file)
    mark, name = _mark(buffer.peek(4)[:4])
    buffer.read(len(mark))
    return buffer, name


def text_lines(file: Any, path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of an open file, without their ends; one line at a time is in memory.

    Args:
        file: of bytes, at its beginning.
        path: its name in messages.
    Raises:
        DataError: a line is too long, or not in the file's encoding; names the line.
    """
    lines, name = _begun(file)
    if name not in ("", "utf-8"):
        lines = io.TextIOWrapper(lines, name, newline="\n")
    number = 0
    while True:
        number += 1
        try:
            line = lines.readline(MOST_LINE + 1)
            text = line.rstrip(b"\r\n").decode() if isinstance(line, bytes) else line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            message = f"the text must be {name.upper() or 'UTF-8'}, but {error.reason} at byte {error.start}"
            raise DataError(message, path=path, line=number) from None
        if not line:
            return
        if len(line) > MOST_LINE:
            raise DataError(f"a line must have at most {MOST_LINE} characters", path=path, line=number)
        if _is_wide(text):
            raise DataError(_no_text(), path=path, line=number)
        yield text


def lines_with_ends(file: Any, *, errors: str = "surrogateescape") -> IO[str]:
    """The lines of an open file with their ends; `errors` is for bytes that are not in its encoding, as in `open`."""
    buffer, name = _begun(file)
    return io.TextIOWrapper(
        buffer, name or "utf-8", errors=errors if name in ("", "utf-8") else "replace", newline="\n"
    )
