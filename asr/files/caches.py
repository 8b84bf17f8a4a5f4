"""Files that a process keeps for later ones, read only where nobody but this user could have put them.

What such a file says is run, or followed without asking. So it must be this user's or root's, and so must its folder
and all folders above it, and no other user may write to any of them. One exception: above the file's own folder, a
folder that all may write to, like /tmp, is fine if it is sticky, for there nobody can move what is another's. Links are
followed first, and the checks are about what they lead to. Where files have no owners (Windows), nothing is checked.
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
    """Where this user's caches of asr go; None where nobody knows the user's home."""
    user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    return Path(user) / "asr" if os.path.isabs(user) else None  # else "~" stays as it is


def open_cache(path: Path) -> IO[bytes]:
    """The file, to read; what it holds may still be damaged.

    Raises:
        OSError: there is no such file, or it is none to trust: with EPERM and what is wrong, if others can write to it.
    """
    place = _trusted(path.parent) / path.name
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(place, flags)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or _is_in_reach(status):
            raise _refusal(place)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


@contextmanager
def writing_cache(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file to write, which appears whole; see `asr.files.writing.replacing`. Missing folders are made.

    Args:
        path: the file.
        mode: who may read it.
    Raises:
        OSError: it cannot be written, or (EPERM) not where only this user can write.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o755, exist_ok=True)
    with replacing(_trusted(path.parent) / path.name, follow=False) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), mode)
        yield file


def _trusted(folder: Path) -> Path:
    """The folder without links, once it is known that no other user can write to it, or replace it."""
    real = Path(os.path.realpath(folder))
    for place in (*reversed(real.parents), real):  # from the root: what is checked then stays
        status = os.lstat(place)
        sticky = status.st_mode & stat.S_ISVTX and place != real
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(place))
        if _is_in_reach(status, writable=bool(sticky)):
            raise _refusal(place)
    return real


def _is_in_reach(status: os.stat_result, *, writable: bool = False) -> bool:
    """Whether another user owns it, or may write to it unless that is allowed."""
    if not hasattr(os, "geteuid"):
        return False
    by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not writable
    return status.st_uid not in (0, os.geteuid()) or bool(by_others)


def _refusal(place: Path) -> OSError:
    return OSError(errno.EPERM, "another user can write here, so it is not used as a cache", os.fspath(place))
