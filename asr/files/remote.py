"""Files on a disk or at a URL of an object store or a web server, through fsspec.

Most kinds of URL need one more package, named in the error if it is missing: s3fs for s3://, gcsfs for gs://, adlfs for
az://, aiohttp (the extra `urls`) for https://.
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
from urllib.parse import unquote, urlsplit

from asr.errors import AsrError, ConfigError, DataError
from asr.files.reading import open_regular

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")


def is_url(name: str) -> bool:
    """Whether the name has the form of a URL."""
    return _URL.match(name) is not None


def place_of(url: str) -> PurePosixPath:
    """The path in a URL, without the query for a web server: /a/talk.wav in https://host/a/talk.wav?key=1."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in ("http", "https"):
        return PurePosixPath(urlsplit(url).path)
    return PurePosixPath(local_path(url) or rest)  # names in object stores may have any character


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Open a file to read from start to end.

    Raises:
        ConfigError: a package for such URLs is not installed.
        DataError: the file cannot be read; or gzip or tar raises in the block because it is damaged.
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
    """A file whose errors name it, in any kind of store."""

    def __init__(self, file: IO[bytes], name: str):
        self._file, self.name = file, name

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        with _reached(self.name):
            return self._file.read(-1 if size is None else size)


def names_below(folder: str, *, depth: int | None = None) -> list[str]:
    """The files in a folder and its subfolders, sorted, relative to it; none if there is no folder.

    Args:
        folder: a path or URL.
        depth: of subfolders; 1: the folder itself; None: all.
    Raises:
        ConfigError: a package for such URLs is not installed.
        DataError: the folder cannot be listed.
    """
    with _reached(folder):
        import fsspec

        local = local_path(folder)
        if local is None:
            store, root = fsspec.core.url_to_fs(folder.rstrip("/"))
        else:
            store, root = fsspec.filesystem("file"), os.path.abspath(local)
        paths = store.find(root, maxdepth=depth)
        return sorted(path.removeprefix(root).lstrip("/") for path in paths if path != root)


def local_path(name: str) -> str | None:
    """The name itself if it is a path, or the path of a file:// URL; None for other URLs."""
    if not is_url(name):
        return name
    parts = urlsplit(name)
    return unquote(parts.path) if parts.scheme.lower() == "file" else None


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Turn all errors into those of asr; for calls of fsspec only."""
    try:
        yield
    except AsrError:
        raise
    except ImportError as error:
        reason = str(error)
        if name.lower().startswith(("http://", "https://")):  # fsspec names two packages, and needs one
            reason = "web addresses need aiohttp, which is not installed: pip install 'asr[urls]'"
        raise ConfigError(f"{name} cannot be reached: {reason}") from error
    except Exception as error:  # each kind of store has its own errors; an unknown kind is a ValueError
        raise DataError(f"cannot be read: {str(error) or type(error).__name__}", path=name) from error
