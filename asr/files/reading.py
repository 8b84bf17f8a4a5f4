"""Files that appear complete or not at all, that are read only if they have an end, and what tells them apart."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from typing import IO, Any, NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

JSON_BYTES = 1 << 27  # a vocabulary of some million words
_OPENED = re.compile("/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read that has an end. Reading a named pipe could wait for ever, and a device has none.

    What the user has opened for us, as /dev/stdin or /dev/fd/N, may be a pipe or a terminal; /dev/null is empty.

    Raises:
        OSError: it cannot be opened, or (EINVAL) it is a folder, a pipe, a socket or a device, or no name.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL in the name, or half a surrogate pair
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        status = os.fstat(file)
        mode = status.st_mode
        if not stat.S_ISREG(mode) and not os.path.samestat(status, os.stat(os.devnull)):
            if stat.S_ISDIR(mode) or not _OPENED.fullmatch(os.fsdecode(path)):
                kind = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
                raise OSError(errno.EINVAL, f"it must be a regular file, and is a {kind}", os.fspath(path))
            os.set_blocking(file, True)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_regular(path: str | os.PathLike[str], *, at_most: int) -> bytes:
    """The bytes of such a file; see `open_regular`.

    Raises:
        OSError: as there, or (EFBIG) it has more bytes than `at_most`.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"it must have {at_most} bytes at most, and has more", os.fspath(path))
    return content


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds, of a regular file of `JSON_BYTES` at most.

    Raises:
        OSError: it cannot be read; see `read_regular`.
        ValueError: as `parse_json`.
    """
    return parse_json(read_regular(path, at_most=JSON_BYTES))


def parse_json(content: str | bytes) -> Any:
    """What JSON says. Raises: ValueError: it is no JSON, is nested too deep, or has a number of thousands of digits."""
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:  # whose words are advice for programmers
        most = sys.get_int_max_str_digits()
        raise ValueError(f"its whole numbers must have at most {most} digits, and one has more") from None


class Identity(NamedTuple):
    """A file as it is now; one that is written again has another, even in the same second with the same size."""

    path: str  # without links
    size: int
    modified_ns: int
    changed_ns: int  # of its content or its owner, name or mode: nobody can set it back
    inode: int


def identity(path: str | os.PathLike[str]) -> Identity:
    """What tells a file from others, and from itself after a change; OSError where there is none."""
    status = os.stat(path)
    return Identity(os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
