"""Locks between processes, which the system lifts when a process ends, however it ends."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_ASK_AGAIN_SECONDS = 0.05
_FAR = 1 << 30  # beyond the end of any file that is locked here


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock of a file, which is made if missing; yields whether this process has it.

    Where the file system has no locks, it has it always. Others may read and write the file all the same.

    Args:
        path: of a file that only who holds it may replace or delete, and then let go of it at once.
        wait: until others have let go of it, instead of yielding False.
    Raises:
        OSError: the file cannot be opened.
    """
    while True:
        with open(path, "ab") as file:
            own = _taken(file, wait=wait)
            if own and not _is_at(file, path):
                continue  # who had it before has deleted it since it was opened, and others may have a new one
            yield own
            return


def _is_at(file: IO[bytes], path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _taken(file: IO[bytes], *, wait: bool) -> bool:
    while True:
        try:
            _lock(file)
            return True
        except OSError as error:
            if error.errno not in _TAKEN:  # no locks here
                return True
            if not wait:
                return False
            time.sleep(_ASK_AGAIN_SECONDS)


def _lock(file: IO[bytes]) -> None:
    """Lock a file, at once or not at all. Raises: OSError."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(file.fileno(), _FAR, os.SEEK_SET)  # others may read the file, and not a byte that is locked
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
