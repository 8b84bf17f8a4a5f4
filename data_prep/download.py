"""Archives of corpora: downloaded so that an interruption costs little, and extracted so that nothing escapes.

`download` writes to DESTINATION.part and renames it when all of it is there and its checksum is right; what is left of
an interrupted download is resumed, in the same call or in a later one. A resumed file must not be glued together
from two versions of it, so the server's name for the version (ETag or Last-Modified) is kept in
DESTINATION.part.version and sent along: a server that has another version by now sends it from its start.
Source: RFC 9110, sections 13.1.5 (If-Range), 14.2 (Range), 14.4 (Content-Range), 15.5.17 (status 416).
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from asr.errors import DataError, InputError

_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 60
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")


def download(
    url: str, destination: str | os.PathLike[str], *, checksum: str | None = None, progress: bool | None = None
) -> Path:
    """The file at a URL, complete and checked, at `destination`.

    A file that is already there is only checked. A connection that is cut is taken up again where it broke, as long
    as each attempt gets further than all before.

    Args:
        url: http, https or file. Redirects are followed, but not from https to anything else.
        destination: path of the file; its folder is made.
        checksum: "sha256:..." or "md5:...", hexadecimal; None trusts the length that the server states.
        progress: a bar on stderr; None means only on a terminal.
    Returns:
        The destination.
    Raises:
        InputError: url or checksum is of another form.
        DataError: the server refuses or is not there, its file is not the right one or ends early, or the disk is
            full. What has arrived is kept, and the next call goes on with it; but with a wrong checksum, which no
            further bytes can mend, it is deleted.
    """
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise InputError(f"the url must begin with http://, https:// or file://, got {url!r}")
    if checksum is not None and not _CHECKSUM.fullmatch(checksum := checksum.lower()):
        raise InputError(f"the checksum must be sha256: and 64 or md5: and 32 hexadecimal digits, got {checksum!r}")
    destination = Path(destination)
    if destination.exists():
        if checksum is not None and (found := _sum(destination, checksum)) != checksum:
            raise DataError(f"must have {checksum}, has {found} (delete it to download it again)", path=destination)
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    version = destination.with_name(f"{destination.name}.part.version")
    _fetch(url, part, version, progress=progress)
    if checksum is not None and (found := _sum(part, checksum)) != checksum:
        part.unlink()
        version.unlink(missing_ok=True)
        raise DataError(f"must have {checksum}, has {found}; what has arrived was deleted", path=url)
    part.replace(destination)
    version.unlink(missing_ok=True)
    return destination


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """The contents of a tar or zip archive in a new folder; all of them, or no folder at all.

    Refused, whatever the archive says: absolute names, names with "..", names that go through a link, links that lead
    out of the folder, devices and pipes. Owners and unusual permissions are not taken over.

    Args:
        archive: .tar, .tar.gz, .tar.bz2, .tar.xz or .zip, told by its content (links are for tar only).
        folder: must not exist yet; its parent is made.
    Returns:
        The folder.
    Raises:
        InputError: the folder exists.
        DataError: the archive is missing, truncated, damaged, encrypted, of another kind or not safe; or the disk is
            full.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise InputError(f"the folder to extract to must not exist yet, got {folder}")
    if not archive.is_file():
        raise DataError("no such archive", path=archive)
    with archive.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder inside the temporary one: mkdtemp's own is private to the user, and would stay so.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        contents = Path(temporary) / "contents"
        contents.mkdir()
        try:
            (_extract_zip if is_zip else _extract_tar)(archive, contents)
        except tarfile.FilterError as error:
            raise _unsafe(archive, str(error)) from error
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            lzma.LZMAError,
            zlib.error,
            EOFError,
            NotImplementedError,
        ) as error:
            raise DataError(f"is truncated, damaged or no tar or zip archive: {error}", path=archive) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # Not from the system, but from gzip or bz2 about a wrong checksum.
            raise DataError(f"is damaged: {error}", path=archive) from error
        _check_links(archive, contents)
        contents.replace(folder)
    return folder


class _Cut(Exception):
    """The connection ended before the file did."""


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DataError(f"must not be redirected from https to {newurl}", path=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, part: Path, version: Path, *, progress: bool | None) -> None:
    """Complete the part file, over as many connections as it takes."""
    furthest = -1
    while True:
        try:
            return _fetch_rest(url, part, version, progress=progress)
        except _Cut as cut:
            arrived = part.stat().st_size if part.exists() else 0
            if arrived <= furthest:
                rest = "what has arrived is kept, run again to go on" if arrived else "run again"
                raise DataError(f"the connection ended early ({cut}); {rest}", path=url) from cut
            furthest = arrived


def _fetch_rest(url: str, part: Path, version: Path, *, progress: bool | None) -> None:
    """Append what is missing to the part file, or write it anew where the server wants that. Raises: _Cut."""
    headers = {"User-Agent": "asr", "Accept-Encoding": "identity"}
    offset = part.stat().st_size if part.exists() and version.exists() else 0
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version.read_text(encoding="latin-1")}
    response = _open(urllib.request.Request(url, headers=headers))
    with response:
        sent = response.headers.get("Content-Range", "")
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if sent == f"bytes */{offset}":
                return  # nothing is missing
            part.unlink()
            raise _Cut(f"{offset} bytes were here, more than the server has")
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not sent.startswith(f"bytes {offset}-"):
            part.unlink()
            raise DataError(f"the server must send the bytes from {offset} on, sent {sent!r} (run again)", path=url)
        if not resumed:
            offset = 0
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else None
        with (
            _room(part.parent, 1 if total is None else total - offset),
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=Path(urlsplit(url).path).name,
                initial=offset,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None if progress is None else not progress,  # None: hidden unless stderr is a terminal
            ) as bar,
        ):
            if not resumed:
                _write_version(version, response.headers)  # only now that the bytes of the old version are gone
            for block in _blocks(response):
                bar.update(file.write(block))
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise _Cut(f"{arrived} of {total} bytes")


def _open(request: urllib.request.Request) -> Any:
    """The answer: status 200 or 206, 416 when a range was asked for, or None for a file. Raises: _Cut, DataError."""
    try:
        return urllib.request.build_opener(_StayOnHttps).open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and request.has_header("Range"):
            return error
        error.close()
        raise DataError(
            f"the server must send the file, answered {error.code} {error.reason}", path=request.full_url
        ) from error
    except urllib.error.URLError as error:
        raise DataError(f"cannot be reached: {error.reason}", path=request.full_url) from error
    except (http.client.HTTPException, OSError) as error:  # accepted, then hung up or fell silent
        raise _Cut(repr(error)) from error


def _write_version(version: Path, headers: Any) -> None:
    """Keep what If-Range may hold: a strong ETag, else the date; without either the part can't be resumed."""
    etag = headers.get("ETag", "")
    name = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    if name:
        version.write_text(name, encoding="latin-1")
    else:
        version.unlink(missing_ok=True)


def _blocks(response: Any) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (http.client.HTTPException, OSError) as error:
        raise _Cut(repr(error)) from error


def _sum(path: Path, like: str) -> str:
    """The checksum of a file, in the form and with the algorithm of another."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


@contextmanager
def _room(folder: Path, needed: int) -> Iterator[None]:
    """Refuse to write `needed` more bytes where they don't fit, before (if they are known) or when it turns out."""

    def full() -> DataError:
        free = shutil.disk_usage(folder).free
        return DataError(f"the disk must have room for at least {needed} more bytes, {free} are free", path=folder)

    if needed > shutil.disk_usage(folder).free:
        raise full()
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full() from error


class _Member(tarfile.TarInfo):
    """A member of an archive that must have an end mark; tarfile takes a missing or damaged header for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the two blocks of zeros; typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end mark, but {error}") from error


def _extract_tar(archive: Path, folder: Path) -> None:
    links: set[PurePosixPath] = set()
    # Recordings hardly shrink further, so that the archive's size is about what is needed at least.
    with _room(folder, archive.stat().st_size), tarfile.open(archive, tarinfo=_Member) as tar:
        for member in tar:
            _check_name(archive, member.name, links)
            if member.islnk():
                _check_name(archive, member.linkname, links)
            tar.extract(member, folder, filter="data")
            if member.issym():
                links.add(PurePosixPath(member.name))
        while tar.fileobj.read(_BLOCK):  # what follows the end mark: the checksum of the compression
            pass


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed, _room(folder, sum(info.file_size for info in packed.infolist())):
        for info in packed.infolist():
            _check_name(archive, info.filename, set())
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, f"{info.filename!r} is neither a file nor a folder")
            if info.flag_bits & 1:
                raise DataError(f"must not be encrypted, but {info.filename!r} is", path=archive)
            packed.extract(info, folder)


def _check_name(archive: Path, name: str, links: set[PurePosixPath]) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _unsafe(archive, f"{name!r} leads out of the folder")
    for place in (path, *path.parents):
        if place in links:
            raise _unsafe(archive, f"{name!r} goes through the link {str(place)!r}")


def _check_links(archive: Path, folder: Path) -> None:
    """Look at the links as they lie on the disk: several together may lead out where each alone does not."""
    root = os.path.realpath(folder)
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            if os.path.islink(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise _unsafe(archive, f"{os.path.relpath(path, folder)!r} leads out of the folder")


def _unsafe(archive: Path, reason: str) -> DataError:
    return DataError(f"is not safe to extract: {reason}", path=archive)
