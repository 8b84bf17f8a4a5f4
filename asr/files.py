"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NAME_BYTES = 255  # of a file's name, on most file systems
_OPENED = re.compile("/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # which come without the name of a file


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write, which takes the place of `path` once the block ends, and vanishes if it fails.

    It is written in the same folder, which is made if missing, and is on the disk before it gets its name:
    after a kill or a power cut there is the old file or the new one. A device or pipe, such as /dev/stdout, is written
    to and keeps its place.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = f".{secrets.token_hex(4)}.tmp"  # other machines write here too
    named = len(os.fsencode(path.name)) + len(ending) < NAME_BYTES
    temporary = path.with_name(f".{path.name}{ending}" if named else ending)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL or error.filename == os.fspath(temporary):  # which would mean nothing to a person
            error.filename = os.fspath(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_whole(path: str | os.PathLike[str], content: str | bytes | memoryview) -> None:
    """Write a file, text as UTF-8 (what UTF-8 cannot hold as an escape); see `replacing`."""
    with replacing(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read that has an end. Reading a named pipe could wait for ever, and a device has none.

    What the user has opened for us, as /dev/stdin or /dev/fd/N, may be a pipe or a terminal.

    Raises:
        OSError: it cannot be opened, or (EINVAL) it is a folder, a pipe, a socket or a device, or no name.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL in the name, or half a surrogate pair
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode) or not _OPENED.fullmatch(os.fsdecode(path)):
                kind = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
                raise OSError(errno.EINVAL, f"it must be a regular file, and is a {kind}", os.fspath(path))
            os.set_blocking(file, True)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


def user_cache_folder() -> Path | None:
    """Where this user's caches of asr go; None where nobody knows the user's home."""
    user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    return Path(user) / "asr" if os.path.isabs(user) else None  # else "~" stays as it is
