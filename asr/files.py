"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NAME_BYTES = 255  # of a file's name, on most file systems
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


def user_cache_folder() -> Path | None:
    """Where this user's caches of asr go; None where nobody knows the user's home."""
    user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    return Path(user) / "asr" if os.path.isabs(user) else None  # else "~" stays as it is
