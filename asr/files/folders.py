"""Folders that appear complete or not at all."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ENDING = ".new"
_FRESH = 60.0  # seconds in which a folder may be made and not yet locked


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` once the block ends, and vanishes if it fails.

    The two change places at once, on Linux and macOS and where the file system can, so that a kill leaves the old one
    or the new one in its place. Elsewhere the old one is renamed first, and a kill just then leaves it beside its
    place. What killed processes left beside it goes with the next one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{_ENDING}"):
        _remove_if_dead(left)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_ENDING, dir=folder.parent))
    lock = _lock(new)
    try:
        new.chmod(0o755)  # mkdtemp's folders are closed to everyone else
        yield new
        _put_in_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # the old one, once they have changed places
        if lock is not None:
            os.close(lock)


def _put_in_place(new: Path, folder: Path) -> None:
    """Gives the folder `new` the name of `folder`, which may exist and then goes; both on one file system."""
    if not folder.exists():
        new.rename(folder)
        return
    if _exchange(new, folder):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    old = folder.rename(aside / folder.name)
    try:
        new.rename(folder)
    except BaseException:  # Ctrl-C as well: there is a moment without a folder in its place
        old.rename(folder)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two have changed names, in one step; False where the system has no such step."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "linux":
            here = -100  # AT_FDCWD
            return library.renameat2(here, names[0], here, names[1], 2) == 0  # RENAME_EXCHANGE
        if sys.platform == "darwin":
            return library.renamex_np(*names, 2) == 0  # RENAME_SWAP
    return False


def _remove_if_dead(folder: Path) -> None:
    """Removes what a killed process left; not what another one is filling."""
    with suppress(OSError):
        if fcntl is not None and time.time() - folder.stat().st_mtime > _FRESH and (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process has it, or there are no locks."""
    if fcntl is None:
        return None
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except OSError:
        os.close(file)
        return None
