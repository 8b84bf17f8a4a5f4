"""Archives of corpora, extracted so that nothing escapes, and whole or not at all."""

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
_MOST_FOLDERS = 100  # that one member lies in; tidying up calls itself for each
_MOST_NAME_BYTES = 4096  # of a path, on Linux
_MOST_HEADER_BYTES = 1 << 20  # of names and attributes that a header is too small for
_LONG_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
_OF_A_NAME = frozenset(
    getattr(errno, f"E{name}")
    for name in ["NAMETOOLONG", "EXIST", "NOTDIR", "ISDIR", "NOTEMPTY", "ILSEQ", "INVAL", "LOOP", "NOENT"]
)


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
            raise _unsafe(archive, shown(error, most=400)) from error
        except AsrError:
            raise
        except OSError as error:
            if error.errno is None:  # not from the system, but from gzip or bz2 about a wrong checksum
                raise DataError(f"is damaged: {shown(error)}", path=archive) from error
            if error.errno not in _OF_A_NAME:
                raise
            name = os.path.relpath(error.filename, contents) if error.filename else "a member"
            raise DataError(f"cannot be extracted: {shown(name)!r}: {error.strerror}", path=archive) from error
        except Exception as error:  # numbers that are none, headers in headers ...: each library has errors of its own
            reason = shown(error, most=400) or type(error).__name__
            raise DataError(f"is truncated, damaged or no tar or zip archive: {reason}", path=archive) from error
        _check_links(archive, contents)
        contents.replace(folder)
    return folder


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

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        """The hook of tarfile for kinds of members; it reads long headers into memory, whatever size they state."""
        if self.type in _LONG_HEADERS and self.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or attribute of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


def _extract_tar(archive: Path, folder: Path) -> None:
    links: set[PurePosixPath] = set()
    # Recordings hardly shrink further, so that the archive's size is about what is needed at least.
    with room(folder, archive.stat().st_size), tarfile.open(archive, tarinfo=_Member) as tar:
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
        raise _unsafe(archive, f"{shown(name)!r} lies in {len(path.parts) - 1} folders")
    if path.is_absolute() or ".." in path.parts:
        raise _unsafe(archive, f"{shown(name)!r} leads out of the folder")
    if "\0" in name:
        raise _unsafe(archive, f"{shown(name)!r} has a byte 0 in its name")
    for place in (path, *path.parents):
        if place in links:
            raise _unsafe(archive, f"{shown(name)!r} goes through the link {shown(place)!r}")


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
