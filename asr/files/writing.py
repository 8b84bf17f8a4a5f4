"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from asr.files.locks import try_lock

NAME_BYTES = 255  # of a file's name, on most file systems
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # raised without the name of a file


@contextmanager
def replacing(path: str | os.PathLike[str], *, follow: bool = True) -> Iterator[IO[bytes]]:
    """Write a binary file that replaces `path` when the block ends, and disappears if the block fails.

    The new file is written in the same folder, which is made if missing, and is on the disk before it is renamed: after
    a kill or a power cut, the old file or the new one is complete. A device or a pipe, such as /dev/stdout, is written
    directly.

    Args:
        path: the file.
        follow: if `path` is a link, replace its target; otherwise replace the link itself.
    """
    path = Path(path)
    if follow:
        if path.exists() and not path.is_file():
            with open(path, "wb") as device:
                yield device
            return
        path = Path(os.path.realpath(path))
    make_folder(path.parent)
    temporary, opened = _temporary(path)
    try:
        with opened as file, _removed_on_failure(temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # Windows does not rename an open file
                file.close()
            os.replace(temporary, path)  # while it is locked
    except OSError as error:
        if error.errno in FULL or error.filename == os.fspath(temporary):  # a name that the user does not know
            error.filename = os.fspath(path)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check, before long work, that `replacing` can write this file; its folder is made if missing.

    Raises:
        OSError: it cannot.
    """
    if not Path(path).exists() or Path(path).is_file():
        target = Path(os.path.realpath(path))
        make_folder(target.parent)
        temporary, file = _temporary(target)
        with file:
            _remove(temporary, file)
    elif Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", os.fspath(path))


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        NotADirectoryError: a part of the path is a file.
        OSError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(errno.ENOTDIR, "a part of this path is a file", os.fspath(path)) from error


@contextmanager
def _removed_on_failure(temporary: Path, file: IO[bytes]) -> Iterator[None]:
    """Remove the file if the block fails, while it is still locked against other processes."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            _remove(temporary, file)
        raise


def _remove(temporary: Path, file: IO[bytes]) -> None:
    """Remove the file while it is still locked; Windows does not remove an open file."""
    if sys.platform == "win32":
        file.close()
    temporary.unlink()


def _temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """An empty file in the folder of `path`, open for writing.

    The name is always the same, so that the file of a killed process is used again; a lock protects it. While another
    process writes that file, this one gets a random name.
    """
    for token in ("", f".{secrets.token_hex(4)}"):
        fits = len(os.fsencode(path.name)) + len(token) + 5 < NAME_BYTES
        temporary = path.with_name(f".{path.name}{token}.tmp" if fits else f".{secrets.token_hex(8)}.tmp")
        try:
            return temporary, _take(temporary) if not token else open(temporary, "xb")
        except OSError as error:
            if token:
                error.filename = os.fspath(path)
                raise
    raise AssertionError


def _take(temporary: Path) -> IO[bytes]:
    """The file, made or emptied, and locked. Raises OSError if it belongs to another user or is in use."""
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "a locked file cannot be renamed")
    flags, is_new = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, True
    try:
        file = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        file, is_new = os.open(temporary, flags), False
    try:
        try:
            locked = try_lock(file)
        except OSError:  # no locks here
            if is_new:
                temporary.unlink()
            raise
        status = os.fstat(file)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not (locked and own) or os.lstat(temporary).st_ino != status.st_ino:  # it may just have been renamed
            raise OSError(errno.EBUSY, "in use")
        os.ftruncate(file, 0)
        return open(file, "wb")
    except BaseException:
        os.close(file)
        raise


def write_whole(path: str | os.PathLike[str], content: str | bytes | memoryview) -> None:
    """Write a file completely or not at all; see `replacing`.

    A text is written as UTF-8; characters that UTF-8 cannot encode are escaped.
    """
    with replacing(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
