"""Files on a disk or behind a URL, an object store's or a web server's, by fsspec.

fsspec comes with torch; most kinds of URL need one more package, and errors say which: s3fs for s3://, gcsfs for gs://,
adlfs for az://, aiohttp and requests for https://.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from asr.errors import AsrError, ConfigError, DataError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")


def is_url(name: str) -> bool:
    """Whether it is a URL, in form, and not a path."""
    return _URL.match(name) is not None


def place_of(name: str) -> PurePosixPath:
    """The path in a URL, without what it asks of a server: https://host/a/talk.wav?key=1 is at /a/talk.wav."""
    return PurePosixPath(urlsplit(name).path)


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file to be read from front to back.

    Raises:
        ConfigError: a package for such URLs is not installed.
        DataError: it cannot be read; also while it is open, if an OSError or an error of gzip or tar leaves the block.
    """
    with _reached(name):
        import fsspec

        with fsspec.open(name, "rb") as file:
            yield file


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
        from fsspec.core import url_to_fs

        files, place = url_to_fs(folder.rstrip("/"))
        return sorted(path[len(place) :].lstrip("/") for path in files.find(place, maxdepth=depth) if path != place)


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Says what is wrong with a file, or with what it takes to reach it."""
    try:
        yield
    except AsrError:
        raise
    except ImportError as error:
        raise ConfigError(f"{name} cannot be reached: {error}") from error
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:  # ValueError: an unknown protocol
        raise DataError(f"cannot be read: {error}", path=name) from error
