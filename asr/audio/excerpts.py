"""Read the bytes of a file at any position, search them, and open byte ranges as a file, without a copy."""

from __future__ import annotations

import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import IO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 2**16
_ZEROS = bytes(_BLOCK)
Range: TypeAlias = tuple[int, int]
"""Bytes [start, end) of a file."""


class Excerpt(io.RawIOBase):
    """Byte ranges of a file as one file, between a head and a tail; a range beyond the end of the file is shortened.

    Args:
        file: has a descriptor; its position is neither used nor moved.
        ranges: in reading order.
        head, tail: bytes before and after the ranges.
    """

    def __init__(self, file: IO[bytes], ranges: Sequence[Range], *, head: bytes = b"", tail: bytes = b""):
        self._descriptor = file.fileno()
        self._pieces: list[bytes | Range] = [head, *ranges, tail]
        lengths = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self._pieces)
        self._starts = [0, *accumulate(lengths)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view, count = memoryview(buffer).cast("B"), 0
        while count < len(view) and self._position < self._starts[-1]:
            number = bisect_right(self._starts, self._position) - 1
            offset = self._position - self._starts[number]
            size = min(len(view) - count, self._starts[number + 1] - self._position)
            piece = self._pieces[number]
            if isinstance(piece, bytes):
                data = piece[offset : offset + size]
            else:
                data = os.pread(self._descriptor, size, piece[0] + offset)
            if not data:
                break
            view[count : count + len(data)] = data
            count += len(data)
            self._position += len(data)
        return count


class FileBytes:
    """The bytes of a file up to an end; one block at a time is in memory."""

    def __init__(self, file: IO[bytes], end: int):
        self._descriptor, self.end = file.fileno(), end
        self._start, self._block = 0, b""

    def at(self, position: int, count: int) -> bytes:
        """`count` bytes from a position; fewer at the end, none before the beginning."""
        offset = position - self._start
        if offset < 0 or offset + count > len(self._block):
            if not 0 <= position < self.end:
                return b""
            self._block = os.pread(self._descriptor, max(count, _BLOCK), position)
            self._start, offset = position, 0
        return self._block[offset : offset + min(count, max(0, self.end - position))]

    def search(self, pattern: re.Pattern[bytes], position: int) -> int:
        """The next position of a pattern of up to eight bytes; the end of the range if there is none."""
        while self.at(position, 8):
            offset, limit = position - self._start, min(len(self._block), self.end - self._start)
            if match := pattern.search(self._block, offset, limit):
                return self._start + match.start()
            if self._start + limit >= self.end:
                break
            position = max(position + 1, self._start + limit - 7)
        return self.end

    def backwards(self, pattern: re.Pattern[bytes], reach: Range, count: int) -> Iterator[tuple[int, bytes]]:
        """Each match of a pattern of up to `count` bytes in a range, last first: its position and `count` bytes."""
        (begin, position), size, following = reach, 2**13, b""
        while position > begin:
            start = max(begin, position - size)
            block = os.pread(self._descriptor, position - start, start) + following
            for match in reversed([*pattern.finditer(block)]):
                if match.start() < position - start:
                    yield start + match.start(), block[match.start() : match.start() + count]
            position, size, following = start, min(2 * size, _BLOCK), block[:count]

    def after_zeros(self, position: int) -> int:
        """The end of the run of zeros at a position; the position itself if there are none."""
        count = 2**9  # small at first, so that many short runs do not read the file many times
        while block := self.at(position, count):
            if block != _ZEROS[: len(block)]:
                return position + len(block) - len(block.lstrip(b"\0"))
            position, count = position + len(block), min(2 * count, _BLOCK)
        return position

    def before_zeros(self, begin: int) -> int:
        """The start of the zeros at the end of the file, at least `begin`; the end if there are none."""
        position = self.end
        while position > begin:
            start = max(begin, position - _BLOCK)
            block = os.pread(self._descriptor, position - start, start)
            if block != _ZEROS[: len(block)]:
                return start + len(block.rstrip(b"\0"))
            position = start
        return position
