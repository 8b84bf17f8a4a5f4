"""Files that appear complete or not at all, that are read only if they have an end, and what tells them apart."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

JSON_BYTES = 1 << 27  # a vocabulary of some million words
NAME_BYTES = 255  # of a file's name, on most file systems
_OPENED = re.compile("/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")
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


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read that has an end. Reading a named pipe could wait for ever, and a device has none.

    What the user has opened for us, as /dev/stdin or /dev/fd/N, may be a pipe or a terminal; /dev/null is empty.

    Raises:
        OSError: it cannot be opened, or (EINVAL) it is a folder, a pipe, a socket or a device, or no name.
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
                raise OSError(errno.EINVAL, f"it must be a regular file, and is a {kind}", os.fspath(path))
            os.set_blocking(file, True)
        return open(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_regular(path: str | os.PathLike[str], *, at_most: int) -> bytes:
    """The bytes of such a file; see `open_regular`.

    Raises:
        OSError: as there, or (EFBIG) it has more bytes than `at_most`.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"it must have {at_most} bytes at most, and has more", os.fspath(path))
    return content


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds, of a regular file of `JSON_BYTES` at most.

    Raises:
        OSError: it cannot be read; see `read_regular`.
        ValueError: as `parse_json`.
    """
    return parse_json(read_regular(path, at_most=JSON_BYTES))


def parse_json(content: str | bytes) -> Any:
    """What JSON says. Raises: ValueError: it is no JSON, is nested too deep, or has a number of thousands of digits."""
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:  # whose words are advice for programmers
        most = sys.get_int_max_str_digits()
        raise ValueError(f"its whole numbers must have at most {most} digits, and one has more") from None


class Identity(NamedTuple):
    """A file as it is now; one that is written again has another, even in the same second with the same size."""

    path: str  # without links
    size: int
    modified_ns: int
    changed_ns: int  # of its content or its owner, name or mode: nobody can set it back
    inode: int


def identity(path: str | os.PathLike[str]) -> Identity:
    """What tells a file from others, and from itself after a change; OSError where there is none."""
    status = os.stat(path)
    return Identity(os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
