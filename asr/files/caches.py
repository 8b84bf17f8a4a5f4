"""Read and write cache files, and only if no other user can write them.

The content of a cache file is executed, or used without further checks. So the file, its folder and all folders above
must belong to this user or to root, and no other user may write to them. One exception: a sticky folder above the
file's own folder may be writable for all, like /tmp, because nobody can rename another user's files there. Links are
followed first, and their targets are checked. On Windows, where files have no owners, nothing is checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asr.files.writing import replacing


def user_cache_folder() -> Path | None:
    """The folder of this user's caches; None if the user has no home folder."""
    user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    return Path(user) / "asr" if os.path.isabs(user) else None  # without a home, "~" remains


def open_cache(path: Path) -> IO[bytes]:
    """Open a cache file for reading; its content may still be damaged.

    Raises:
        OSError: there is no such file; or (EPERM) another user can write to it.
    """
    real = _trusted(path.parent) / path.name
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(real, flags)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or _is_in_reach(status):
            raise _refusal(real)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


@contextmanager
def writing_cache(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Write a cache file completely or not at all; see `asr.files.writing.replacing`. Missing folders are made.

    Raises:
        OSError: the file cannot be written; or (EPERM) another user can write to its folder.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o755, exist_ok=True)
    with replacing(_trusted(path.parent) / path.name, follow=False) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), mode)
        yield file


def _trusted(folder: Path) -> Path:
    """The folder without links; no other user can write to it or replace it."""
    real = Path(os.path.realpath(folder))
    for path in (*reversed(real.parents), real):  # from the root: nobody can change a folder that has been checked
        status = os.lstat(path)
        sticky = status.st_mode & stat.S_ISVTX and path != real
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
        if _is_in_reach(status, writable=bool(sticky)):
            raise _refusal(path)
    return real


def _is_in_reach(status: os.stat_result, *, writable: bool = False) -> bool:
    """Whether another user owns the file, or may write to it although it is not `writable` for all."""
    if not hasattr(os, "geteuid"):
        return False
    by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not writable
    return status.st_uid not in (0, os.geteuid()) or bool(by_others)


def _refusal(path: Path) -> OSError:
    return OSError(errno.EPERM, "another user can write here, so it is not used as a cache", os.fspath(path))
