"""Files read with a limit, and the identity by which a changed file is recognised."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from typing import IO, Any, NamedTuple

JSON_BYTES = 1 << 27  # a vocabulary of some million words
_OPENED = re.compile("/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading. A named pipe could block for ever, and a device has no end.

    A file that the user has opened, such as /dev/stdin or /dev/fd/N, may be a pipe or a terminal; /dev/null is empty.

    Raises:
        OSError: the file cannot be opened; or (EINVAL) it is a folder, pipe, socket or device, or the name is invalid.
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
                raise OSError(errno.EINVAL, f"it must be a regular file, not a {kind}", os.fspath(path))
            os.set_blocking(file, True)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_regular(path: str | os.PathLike[str], *, at_most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: see `open_regular`; or (EFBIG) the file has more bytes than `at_most`.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"it must have at most {at_most} bytes, but has more", os.fspath(path))
    return content


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file of at most `JSON_BYTES`."""
    return parse_json(read_regular(path, at_most=JSON_BYTES))


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, is nested too deep, or has an integer with thousands of digits.
    """
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:  # its message is advice for programmers
        most = sys.get_int_max_str_digits()
        raise ValueError(f"its whole numbers must have at most {most} digits, but one has more") from None


class Identity(NamedTuple):
    """The identity of a file. It changes when the file is written, even in the same second and with the same size."""

    path: str  # without links
    size: int
    modified_ns: int
    changed_ns: int  # last change of content, owner, name or mode; no program can set it
    inode: int


def identity(path: str | os.PathLike[str]) -> Identity:
    """The identity of a file as it is now. Raises: OSError: there is no such file."""
    status = os.stat(path)
    return Identity(os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
