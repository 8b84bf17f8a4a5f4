"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME_BYTES = 255  # of a file's name, on most file systems
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # which come without the name of a file


@contextmanager
def replacing(path: str | os.PathLike[str], *, follow: bool = True) -> Iterator[IO[bytes]]:
    """A binary file to write, which takes the place of `path` once the block ends, and vanishes if it fails.

    It is written in the same folder, which is made if missing, and is on the disk before it gets its name:
    after a kill or a power cut there is the old file or the new one. A device or pipe, such as /dev/stdout, is written
    to and keeps its place.

    Args:
        path: the file.
        follow: of a link, replace what it leads to; otherwise the link itself.
    """
    path = Path(path)
    if follow:
        if path.exists() and not path.is_file():
            with open(path, "wb") as device:
                yield device
            return
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, opened = _temporary(path)
    try:
        with opened as file, _or_removed(temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:  # Windows renames no open file
                file.close()
            os.replace(temporary, path)  # while it is locked
    except OSError as error:
        if error.errno in _FULL or error.filename == os.fspath(temporary):  # which would mean nothing to a person
            error.filename = os.fspath(path)
        raise


@contextmanager
def _or_removed(temporary: Path, file: IO[bytes]) -> Iterator[None]:
    """Removes the file if the block fails, before another process can take it for its own."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if fcntl is None:
                file.close()
            temporary.unlink()
        raise


def _temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """An empty file in the folder of `path`, open for writing.

    It has the same name each time and is locked, so that what a killed process left is used again; while another
    process writes, it has a name of its own.
    """
    for token in ("", f".{secrets.token_hex(4)}"):
        named = len(os.fsencode(path.name)) + len(token) + 5 < NAME_BYTES
        temporary = path.with_name(f".{path.name}{token}.tmp" if named else f".{secrets.token_hex(8)}.tmp")
        try:
            return temporary, _take(temporary) if not token else open(temporary, "xb")
        except OSError as error:
            if token:
                error.filename = os.fspath(path)
                raise
    raise AssertionError


def _take(temporary: Path) -> IO[bytes]:
    """The file, made or emptied, and locked; OSError if it is another's, or in use."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks")
    flags, made = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, True
    try:
        file = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        file, made = os.open(temporary, flags), False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(file)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not own or os.lstat(temporary).st_ino != status.st_ino:  # it may have become the file just now
            raise OSError(errno.EBUSY, "in use")
        os.ftruncate(file, 0)
        return open(file, "wb")
    except BaseException as error:
        os.close(file)
        if made and not isinstance(error, BlockingIOError):  # no locks here; else another process has it by now
            temporary.unlink()
        raise


def write_whole(path: str | os.PathLike[str], content: str | bytes | memoryview) -> None:
    """Write a file, text as UTF-8 (what UTF-8 cannot hold as an escape); see `replacing`."""
    with replacing(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
