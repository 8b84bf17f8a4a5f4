"""Extract archives of corpora safely: completely or not at all, and only into their folder."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from asr.corpora.connection import shown
from asr.corpora.disk import room
from asr.errors import AsrError, DataError, InputError

_BLOCK = 1 << 16
_MOST_FOLDERS = 100  # nested; removing them recurses
_MOST_NAME_BYTES = 4096  # of a path, on Linux
_MOST_HEADER_BYTES = 1 << 20  # of long names and attributes
_LONG_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
_OF_A_NAME = frozenset(
    getattr(errno, f"E{name}")
    for name in ["NAMETOOLONG", "EXIST", "NOTDIR", "ISDIR", "NOTEMPTY", "ILSEQ", "INVAL", "LOOP", "NOENT"]
)


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Extract a tar or zip archive to a new folder, completely or not at all; the folder.

    Absolute names, names with "..", names that go through a link, links that lead out of the folder, devices and pipes
    are refused. Owners and unusual permissions are ignored.

    Args:
        archive: .tar, .tar.gz, .tar.bz2, .tar.xz or .zip, recognised by content (links in tar only).
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
    # A folder inside the temporary one: the permissions of mkdtemp's own folder are private.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        contents = Path(temporary) / "contents"
        contents.mkdir()
        try:
            (_extract_zip if is_zip else _extract_tar)(archive, contents)
        except tarfile.FilterError as error:
            raise _unsafe(archive, shown(error, most=400)) from error
        except AsrError:
            raise
        except OSError as error:
            if error.errno is None:  # a wrong checksum, from gzip or bz2
                raise DataError(f"is damaged: {shown(error)}", path=archive) from error
            if error.errno not in _OF_A_NAME:
                raise
            name = os.path.relpath(error.filename, contents) if error.filename else "a member"
            raise DataError(f"cannot be extracted: {shown(name)!r}: {error.strerror}", path=archive) from error
        except Exception as error:  # bad numbers, nested headers, ...: each library has its own errors
            reason = shown(error, most=400) or type(error).__name__
            raise DataError(f"is truncated, damaged or not a tar or zip archive: {reason}", path=archive) from error
        _check_links(archive, contents)
        contents.replace(folder)
    return folder


class _Member(tarfile.TarInfo):
    """A member of an archive that must have an end mark; tarfile accepts a missing or damaged header as the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the two blocks of zeros; typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end mark: {error}") from error

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        """A hook of tarfile, which reads long headers of any size into memory."""
        if self.type in _LONG_HEADERS and self.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or attribute of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


def _extract_tar(archive: Path, folder: Path) -> None:
    links: set[PurePosixPath] = set()
    # Recordings hardly compress, so at least about the archive's size is needed.
    with room(folder, archive.stat().st_size), tarfile.open(archive, tarinfo=_Member) as tar:
        for member in tar:
            _check_name(archive, member.name, links)
            if member.islnk():
                _check_name(archive, member.linkname, links)
            tar.extract(member, folder, filter="data")
            if member.issym():
                links.add(PurePosixPath(member.name))
        while tar.fileobj.read(_BLOCK):  # after the end mark: the checksum of the compression
            pass


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed, room(folder, sum(info.file_size for info in packed.infolist())):
        for info in packed.infolist():
            _check_name(archive, info.filename, set())
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, f"{info.filename!r} is neither a file nor a folder")
            if info.flag_bits & 1:
                raise DataError(f"must not be encrypted, but {info.filename!r} is", path=archive)
            packed.extract(info, folder)


def _check_name(archive: Path, name: str, links: set[PurePosixPath]) -> None:
    if len(os.fsencode(name)) > _MOST_NAME_BYTES:
        raise _unsafe(archive, f"{shown(name)!r} has a name of {len(os.fsencode(name))} bytes")
    path = PurePosixPath(name)
    if len(path.parts) > _MOST_FOLDERS:
        raise _unsafe(archive, f"{shown(name)!r} is in {len(path.parts) - 1} nested folders")
    if path.is_absolute() or ".." in path.parts:
        raise _unsafe(archive, f"{shown(name)!r} leads out of the folder")
    if "\0" in name:
        raise _unsafe(archive, f"{shown(name)!r} has a byte 0 in its name")
    for folder in (path, *path.parents):
        if folder in links:
            raise _unsafe(archive, f"{shown(name)!r} goes through the link {shown(folder)!r}")


def _check_links(archive: Path, folder: Path) -> None:
    """Check the extracted links: several together may lead out of the folder although none alone does."""
    root = os.path.realpath(folder)
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            if os.path.islink(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise _unsafe(archive, f"{os.path.relpath(path, folder)!r} leads out of the folder")


def _unsafe(archive: Path, reason: str) -> DataError:
    return DataError(f"is not safe to extract: {reason}", path=archive)
