"""Locks between processes. The system releases them when a process ends, even if it is killed.

Only this module uses `fcntl`, or `msvcrt` on Windows. The package filelock cannot replace it: filelock locks a path
and not an open file, so it can lock neither a folder nor a file that is renamed while it is locked. Where a file system
has no locks, filelock makes a marker file instead, and a killed process leaves it behind.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_RETRY_SECONDS = 0.05
_FAR = 1 << 30  # beyond the end of any file that is locked here


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[bool]:
    """Lock a file, which is made if missing; yields whether this process has the lock.

    Where the file system has no locks, it is always True. A locked file can still be read and written.

    Args:
        path: the file. Only the process with the lock may replace or delete it, and must then release the lock at once.
        wait: wait until the lock is free, instead of yielding False.
    Raises:
        OSError: the file cannot be opened.
    """
    while True:
        with open(path, "ab") as file:
            own = _lock(file.fileno(), wait=wait)
            if own and not _is_at(file.fileno(), path):
                continue  # the process that had the lock has deleted the file; there may be a new one
            yield own
            return


def try_lock(file: int) -> bool:
    """Lock an open file, or on Unix an open folder; False if another process has the lock.

    The lock ends when the descriptor is closed.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(file, _FAR, os.SEEK_SET)  # other processes can read the file, but not a locked byte
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _lock(file: int, *, wait: bool) -> bool:
    """Whether the file is locked now; True where the file system has no locks."""
    try:
        while not try_lock(file):
            if not wait:
                return False
            time.sleep(_RETRY_SECONDS)
    except OSError:  # no locks here
        pass
    return True


def _is_at(file: int, path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
