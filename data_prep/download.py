"""Download files of corpora, and resume interrupted downloads.

`download` writes to DESTINATION.part, and renames it when it is complete and its checksum is right. An interrupted
download is resumed, in the same call or in a later one. A resumed file must not mix two versions, so the server's name
of the version (ETag or Last-Modified) is stored in DESTINATION.part.version and sent with the request: a server with
another version sends it from the start. Content-Range gives the position of the bytes and the total: a server may send
fewer bytes than requested.
Source: RFC 9110, sections 13.1.5 (If-Range), 14.2 (Range), 14.4 (Content-Range), 15.5.17 (status 416).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from asr.corpora.connection import Cut, Pace, TooSlow, open_url, read_block, shown
from asr.corpora.disk import room
from asr.errors import DataError, InputError
from asr.files.locks import locked

_BLOCK = 1 << 16
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
_LENGTH = re.compile(r"\s*([0-9]{1,18})\s*")  # Python needs minutes to parse very long numbers
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_VERSION = re.compile(r"([ -~]+)(?:\n([0-9]{1,18}))?")  # name, and length of the whole file if stated


def download(
    url: str,
    destination: str | os.PathLike[str],
    *,
    checksum: str | None = None,
    progress: bool | None = None,
    pace: Pace | None = None,
) -> Path:
    """Download a file, completely and checked, to `destination`.

    A file that exists is only checked. A broken connection is resumed as long as each attempt gets more bytes than all
    earlier ones.

    Args:
        url: http, https or file. Redirects from https to another scheme are refused.
        destination: path of the file; its folder is made.
        checksum: "sha256:..." or "md5:...", hexadecimal; None trusts the length that the server states.
        progress: a bar on stderr; None means only on a terminal.
        pace: slowest allowed pace of the server; None takes the defaults of `Pace`.
    Returns:
        The destination.
    Raises:
        InputError: the form of url or checksum is wrong.
        DataError: the server refuses or cannot be reached; the file has a wrong checksum, arrives too slowly or ends
            early; another process is downloading it; or the disk is full. The part file is kept for the next call, but
            deleted if its checksum is wrong.
    """
    if not url.lower().startswith(("http://", "https://", "file://")):
        raise InputError(f"the url must begin with http://, https:// or file://, got {url!r}")
    if checksum is not None and not _CHECKSUM.fullmatch(checksum := checksum.lower()):
        raise InputError(f"the checksum must be sha256: and 64 or md5: and 32 hexadecimal digits, got {checksum!r}")
    destination = Path(destination)
    if destination.exists():
        if checksum is not None and (actual := _sum(destination, checksum)) != checksum:
            raise DataError(f"must have {checksum}, has {actual} (delete it to download it again)", path=destination)
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _alone(destination):
        _complete(url, destination, checksum=checksum, pace=pace or Pace(), progress=progress)
    return destination


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Lock the part file against other processes; the system releases the lock when this one ends."""
    lock = destination.with_name(f"{destination.name}.part.lock")
    with locked(lock) as own:
        if not own:
            raise DataError("another process is downloading it; wait for it", path=destination)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot delete an open file
                lock.unlink()


def _complete(url: str, destination: Path, *, checksum: str | None, pace: Pace, progress: bool | None) -> None:
    """Fetch the rest of a file, check it, and give it its name."""
    part = destination.with_name(f"{destination.name}.part")
    version = destination.with_name(f"{destination.name}.part.version")
    _fetch(url, part, version, pace=pace, progress=progress)
    if checksum is not None and (actual := _sum(part, checksum)) != checksum:
        part.unlink()
        version.unlink(missing_ok=True)
        raise DataError(f"must have {checksum}, has {actual}; the downloaded file was deleted", path=url)
    part.replace(destination)
    version.unlink(missing_ok=True)


def _fetch(url: str, part: Path, version: Path, *, pace: Pace, progress: bool | None) -> None:
    """Complete the part file, with as many connections as needed."""
    furthest = -1
    while True:
        try:
            return _fetch_rest(url, part, version, pace=pace, progress=progress)
        except TooSlow as slow:
            raise DataError(f"{slow}; {_advice(part)}", path=url) from slow
        except Cut as cut:
            arrived = _size(part)
            if arrived <= furthest:
                raise DataError(f"{cut}; {_advice(part)}", path=url) from cut
            furthest = arrived


def _advice(part: Path) -> str:
    return "the downloaded part is kept, run again to resume" if _size(part) else "run again"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch_rest(url: str, part: Path, version: Path, *, pace: Pace, progress: bool | None) -> None:
    """Append the missing bytes to the part file, or restart it if the server sends all. Raises: Cut, TooSlow."""
    headers = {"User-Agent": "asr", "Accept-Encoding": "identity"}
    offset, name, total = _arrived(part, version)
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": name}
    with open_url(url, headers, pace) as response:
        sent = response.headers.get("Content-Range", "")
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if sent == f"bytes */{offset}":
                return  # nothing is missing
            part.unlink()
            raise Cut(f"the connection ended early ({offset} bytes were here, more than the server has)")
        if response.status == http.client.PARTIAL_CONTENT:
            end: int | None
            first, end, stated = _range(sent)
            if first != offset or (total and stated and stated != total):
                part.unlink(missing_ok=True)
                of = f"of {total} " if total else ""
                raise Cut(f"the server must send the bytes {of}from {offset} on, sent {shown(sent)!r}")
            total = stated or total
        else:
            offset, end = 0, _length(response.headers, url)
            total = end
        with (
            room(part.parent, 1 if total is None else total - offset),
            part.open("ab" if offset else "wb") as file,
            tqdm(
                desc=Path(urlsplit(url).path).name,
                initial=offset,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None if progress is None else not progress,  # None: hidden unless stderr is a terminal
            ) as bar,
        ):
            if not offset:
                _write_version(version, response.headers, total)  # after the old bytes are deleted
            for block in _blocks(response, None if end is None else end - offset, pace):
                bar.update(file.write(block))
        known_to_end = total is None and response.status != http.client.PARTIAL_CONTENT
    arrived = _size(part)
    if arrived != total and not known_to_end:
        raise Cut(f"the connection ended early ({arrived} of {total or 'an unknown number of'} bytes)")


def _range(sent: str) -> tuple[int, int, int | None]:
    """First byte, end, and length of the file or None; -1 as first byte if the range is not valid."""
    match = _CONTENT_RANGE.fullmatch(sent)
    if match is None:  # for example several ranges at once
        return -1, -1, None
    first, end, total = int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3])
    return (first, end, total) if first < end and (total is None or end <= total) else (-1, -1, None)


def _length(headers: Any, url: str) -> int | None:
    """The length that the server states, or None."""
    stated = headers.get("Content-Length")
    if stated is None:
        return None
    match = _LENGTH.fullmatch(stated)
    if match is None:
        raise DataError(f"the server must state the length in bytes, stated {shown(stated)!r}", path=url)
    return int(match[1])


def _arrived(part: Path, version: Path) -> tuple[int, str, int | None]:
    """The number of bytes to resume from, the name of their version, and the total length if known."""
    if not (_size(part) and version.exists()):
        return 0, "", None
    match = _VERSION.fullmatch(version.read_text(encoding="latin-1"))
    return (_size(part), match[1], int(match[2]) if match[2] else None) if match else (0, "", None)


def _write_version(version: Path, headers: Any, total: int | None) -> None:
    """Store a strong ETag, else the date, for If-Range; without either the part cannot be resumed."""
    etag = headers.get("ETag", "")
    name = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    if name:
        version.write_text(name if total is None else f"{name}\n{total}", encoding="latin-1")
    else:
        version.unlink(missing_ok=True)


def _blocks(response: Any, wanted: int | None, pace: Pace) -> Iterator[bytes]:
    """The bytes that the server sends, at most `wanted`. Raises: Cut, TooSlow."""
    while wanted != 0 and (block := read_block(response, _BLOCK if wanted is None else min(_BLOCK, wanted))):
        yield block
        pace.count(len(block))
        wanted = None if wanted is None else wanted - len(block)


def _sum(path: Path, like: str) -> str:
    """The checksum of a file, with the algorithm of another checksum."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
