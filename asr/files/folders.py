"""Folders that appear complete or not at all."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asr.files.locks import try_lock
from asr.files.writing import FULL, make_folder

_ENDING = ".new"
_FRESH = 60.0  # seconds within which a new folder may still be unlocked


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Fill a new folder that replaces `folder` when the block ends, and disappears if the block fails.

    On Linux and macOS the two folders are exchanged in one step if the file system can: a killed process leaves the old
    one or the new one. Elsewhere the old folder is renamed first; a process killed between the two steps leaves it
    under another name. The next call removes the folders that killed processes left.
    """
    with _errors_of(folder), _filled(folder) as new:
        yield new


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """See `replacing_folder`."""
    make_folder(folder.parent)
    for other in folder.parent.glob(f".{glob.escape(folder.name)}.*{_ENDING}"):
        _remove_if_dead(other)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_ENDING, dir=folder.parent))
    lock = _lock(new)
    try:
        new.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        yield new
        _put_in_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # the old one, after the exchange
        if lock is not None:
            os.close(lock)


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Errors that name the folder, not one that the user does not know."""
    new = os.fspath(folder.parent / f".{folder.name}.")
    try:
        yield
    except shutil.Error as error:  # of a copied folder: source, destination and error of each file, as texts
        source, destination, reason = error.args[0][0]
        number = re.match(r"\[Errno (\d+)\]", str(reason))
        code = int(number[1]) if number else errno.EIO
        name = folder if os.fspath(destination) in str(reason) else source
        raise OSError(code, os.strerror(code), os.fspath(name)) from None
    except OSError as error:
        if error.errno in FULL or str(error.filename).startswith(new):
            error.filename, error.filename2 = os.fspath(folder), None
        raise


def _put_in_place(new: Path, folder: Path) -> None:
    """Rename the folder `new` to `folder`, and delete the old `folder` if there is one; both on one file system."""
    if not folder.exists():
        new.rename(folder)
        return
    if _exchange(new, folder):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    old = folder.rename(aside / folder.name)
    try:
        new.rename(folder)
    except BaseException:  # Ctrl-C too: at this moment there is no folder in place
        old.rename(folder)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
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
    """Remove the folder of a killed process, but not one that another process is filling."""
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > _FRESH and (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process has it, or the system has no such locks."""
    if sys.platform == "win32":
        return None
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with suppress(OSError):
        if try_lock(file):
            return file
    os.close(file)
    return None
