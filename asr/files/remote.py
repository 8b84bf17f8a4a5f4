"""Files on a disk or behind a URL, an object store's or a web server's, by fsspec.

fsspec comes with torch; most kinds of URL need one more package, and errors say which: s3fs for s3://, gcsfs for gs://,
adlfs for az://, aiohttp and requests for https://.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from asr.errors import AsrError, ConfigError, DataError
from asr.files.reading import open_regular

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")


def is_url(name: str) -> bool:
    """Whether it is a URL, in form, and not a path."""
    return _URL.match(name) is not None


def place_of(url: str) -> PurePosixPath:
    """The path in a URL, without what it asks of a web server: https://host/a/talk.wav?key=1 is at /a/talk.wav."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in ("http", "https"):
        return PurePosixPath(urlsplit(url).path)
    return PurePosixPath(local_path(url) or rest)  # stores may have any character in a name


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file to be read from front to back.

    Raises:
        ConfigError: a package for such URLs is not installed.
        DataError: it cannot be read; or it is damaged, where gzip or tar says so inside the block.
    """
    with _reached(name):
        local = local_path(name)
        if local is None:
            import fsspec

            file: Any = fsspec.open(name, "rb").open()
        else:
            file = open_regular(local)
    with file:
        try:
            yield _Stream(file, name)  # type: ignore[misc]
        except (EOFError, zlib.error, tarfile.TarError, OSError) as error:
            raise DataError(f"cannot be read: {error}", path=name) from error


class _Stream(io.RawIOBase):
    """A file whose errors name it, whatever kind of store it is in."""

    def __init__(self, file: IO[bytes], name: str):
        self._file, self.name = file, name

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        with _reached(self.name):
            return self._file.read(-1 if size is None else size)


def names_below(folder: str, *, depth: int | None = None) -> list[str]:
    """The files in a folder and in those below it, sorted, as they are called from there; none if there is no folder.

    Args:
        folder: a path or URL.
        depth: how far below, 1 being the folder itself; None: all the way.
    Raises:
        ConfigError: a package for such URLs is not installed.
        DataError: it cannot be listed.
    """
    with _reached(folder):
        import fsspec

        local = local_path(folder)
        if local is None:
            files, place = fsspec.core.url_to_fs(folder.rstrip("/"))
        else:
            files, place = fsspec.filesystem("file"), os.path.abspath(local)
        inside = files.find(place, maxdepth=depth)
        return sorted(path.removeprefix(place).lstrip("/") for path in inside if path != place)


def local_path(name: str) -> str | None:
    """The path of a name that is one, or of a file:// URL; None for other URLs."""
    if not is_url(name):
        return name
    parts = urlsplit(name)
    return url2pathname(parts.path) if parts.scheme.lower() == "file" else None


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Says what is wrong with a file, or with what it takes to reach it; for calls of fsspec and nothing else."""
    try:
        yield
    except AsrError:
        raise
    except ImportError as error:
        raise ConfigError(f"{name} cannot be reached: {error}") from error
    except Exception as error:  # each kind of store has classes of its own, and an unknown one is a ValueError
        raise DataError(f"cannot be read: {str(error) or type(error).__name__}", path=name) from error
