"""Archives that are damaged, odd or hostile."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import stat
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asr.corpora import disk
from asr.corpora.archives import extract
from asr.errors import DataError, InputError

CONTENT = np.random.default_rng(0).bytes(20_000)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tar_of(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(CONTENT[: info.size]))
    return path


def zip_of(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_extract(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "archive"
    if mode == "zip":
        zip_of(archive, {"a/b.txt": CONTENT[:1000], "a/empty/": b""})
    else:
        folder = member("./a", tarfile.DIRTYPE)
        folder.mode, folder.uid = 0o755, 12345
        tar_of(archive, folder, member("./a/empty", tarfile.DIRTYPE), member("a/b.txt", size=1000), mode=mode)
    assert extract(archive, tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert (tmp_path / "new/out/a/b.txt").read_bytes() == CONTENT[:1000]
    assert (tmp_path / "new/out/a/empty").is_dir()
    assert names(tmp_path / "new") == ["out"]
    (tmp_path / "plain").mkdir()
    for made in ("new/out", "new/out/a"):
        assert (tmp_path / made).stat().st_uid == (tmp_path / "plain").stat().st_uid
    assert (tmp_path / "new/out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_links_within_the_folder(tmp_path: Path) -> None:
    """As in corpora that store a recording once and link it into their splits."""
    archive = tar_of(
        tmp_path / "x.tar",
        member("data/a.wav", size=10),
        member("train/a.wav", tarfile.SYMTYPE, link="../data/a.wav"),
        member("again.wav", tarfile.LNKTYPE, link="data/a.wav"),
    )
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/train/a.wav").read_bytes() == (tmp_path / "out/again.wav").read_bytes() == CONTENT[:10]


HOSTILE = {
    "absolute": ([member("/tmp/asr-escaped")], "'/tmp/asr-escaped' leads out of the folder"),
    "parent": ([member("../escaped")], "'../escaped' leads out of the folder"),
    "parent inside": ([member("a/../../escaped")], "leads out of the folder"),
    "link to absolute": ([member("a", tarfile.SYMTYPE, link="/etc/passwd")], "a.*absolute path"),
    "link out": ([member("a", tarfile.SYMTYPE, link="../x")], "a.*outside the destination"),
    "hard link out": ([member("a", tarfile.LNKTYPE, link="../escaped")], "'../escaped' leads out of the folder"),
    "through a link": (
        [member("d", tarfile.DIRTYPE), member("a", tarfile.SYMTYPE, link="d"), member("a/x", size=3)],
        "'a/x' goes through the link 'a'",
    ),
    "over a link": (
        [member("d", size=1), member("./a", tarfile.SYMTYPE, link="d"), member("a", size=3)],
        "'a' goes through the link 'a'",
    ),
    "hard link through a link": (
        [member("d", size=1), member("a", tarfile.SYMTYPE, link="d"), member("b", tarfile.LNKTYPE, link="a")],
        "'a' goes through the link 'a'",
    ),
    # Each link alone stays inside when it is made, since what it goes through does not exist yet.
    "links that lead out together": (
        [
            member("a", tarfile.SYMTYPE, link="b/.."),
            member("d", tarfile.DIRTYPE),
            member("b", tarfile.SYMTYPE, link="."),
        ],
        "'a' leads out of the folder",
    ),
    "a long name": ([member("n" * 5000)], r"'n+\.\.\.' has a name of 5000 bytes"),
    "deep": ([member("d/" * 1500 + "x")], r"'(d/)+\.\.\.' is in 1500 nested folders"),
    "parent at the end of a long name": ([member("d/" * 60 + "../" * 61 + "x")], "is in 121 nested folders"),
    "pipe": ([member("a", tarfile.FIFOTYPE)], "'a' is a special file"),
    "device": ([member("a", tarfile.CHRTYPE)], "'a' is a special file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar(tmp_path: Path, case: str) -> None:
    members, message = HOSTILE[case]
    (tmp_path / "in").mkdir()
    archive = tar_of(tmp_path / "in" / "x.tar", member("first", size=5), *members)
    with pytest.raises(DataError, match=f"x.tar: is not safe to extract: .*{message}"):
        extract(archive, tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == []
    assert names(tmp_path) == ["deep", "in"]
    assert not os.path.exists("/tmp/asr-escaped")


def test_a_hostile_zip(tmp_path: Path) -> None:
    for name in ("/tmp/asr-escaped", "../escaped", "a/../../escaped"):
        archive = zip_of(tmp_path / "x.zip", {"first": b"1", name: b"2"})
        with pytest.raises(DataError, match=f"x.zip: is not safe to extract: '{re.escape(name)}' leads out"):
            extract(archive, tmp_path / "out")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is neither a file nor a folder"):
        extract(tmp_path / "x.zip", tmp_path / "out")
    assert names(tmp_path) == ["x.zip"]


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"x.zip: must not be encrypted, but 'a' is"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_a_truncated_archive(tmp_path: Path, mode: str) -> None:
    """Cut anywhere, also between two members, where tarfile alone sees nothing amiss."""
    archive = tmp_path / "x"
    if mode == "zip":
        zip_of(archive, {"a": CONTENT[:2000], "b": CONTENT[:1000]})
    else:
        tar_of(archive, member("a", size=2000), member("b", size=1000), mode=mode)
    whole = archive.read_bytes()
    end = 512 + 2048 + 512 + 1024 if mode == "w" else len(whole)  # of a plain tar only zeros follow the members
    for size in sorted({*range(0, end, 256), *range(end - 10, end), 512 + 2048, 512 + 2048 + 512} - {end}):
        if size >= end:
            continue
        archive.write_bytes(whole[:size])
        with pytest.raises(DataError, match="x: is truncated, damaged or not a tar or zip archive: "):
            extract(archive, tmp_path / "out")
        assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_a_damaged_archive(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "x"
    if mode == "zip":
        zip_of(archive, {"a": CONTENT[:20_000]})
    else:
        tar_of(archive, member("a", size=20_000), mode=mode)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"x: is (truncated, )?damaged"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == ["x"]


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", member("a", size=512), member("b", size=512))
    data = bytearray(archive.read_bytes())
    data[1024 + 5] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match="no end mark: bad checksum"):
        extract(archive, tmp_path / "out")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<html>404</html>" * 100)
    with pytest.raises(DataError, match="x: is truncated, damaged or not a tar or zip archive: "):
        extract(tmp_path / "x", tmp_path / "out")
    with pytest.raises(DataError, match="none: no such archive"):
        extract(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match=r"must not exist yet, got .*there"):
        (tmp_path / "there").mkdir()
        extract(tmp_path / "x", tmp_path / "there")


@pytest.mark.parametrize("mode", ["w", "zip"])
def test_no_room_to_extract(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "x"
    if mode == "zip":
        zip_of(archive, {"a": bytes(5000)})
    else:
        tar_of(archive, member("a", size=5000))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=4999))
    with pytest.raises(DataError, match=r"the disk must have room for at least \d+ more bytes, 4999 are free"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == ["x"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root")
def test_a_disk_that_becomes_full_while_extracting(tmp_path: Path) -> None:
    small = tmp_path / "disk"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k none {small} 2>/dev/null"):
        pytest.skip("may not mount")
    try:
        archive = tar_of(tmp_path / "x.tar.gz", member("a", size=0), mode="w:gz")
        with tarfile.open(archive, "w:gz") as tar:
            info = member("a", size=1 << 20)
            tar.addfile(info, io.BytesIO(bytes(1 << 20)))  # zeros: a small archive of a large file
        with pytest.raises(DataError, match=r"the disk must have room for at least \d+ more bytes"):
            extract(archive, small / "out")
        assert names(small) == []
    finally:
        os.system(f"umount {small}")


def with_pax(path: Path, headers: dict[str, str]) -> Path:
    info = member("a", size=5)
    info.pax_headers = headers
    return tar_of(path, info)


ODD_TARS = {
    "a name with a byte 0": ({"path": "x\0y"}, "is not safe to extract: 'x y' has a byte 0 in its name"),
    "a time without an end": ({"mtime": "inf"}, "is truncated, damaged or not a tar or zip archive: "),
    "a time that is none": ({"mtime": "nan"}, "is truncated, damaged or not a tar or zip archive: "),
    "a sparse map of words": ({"GNU.sparse.map": "ten,twenty"}, "is truncated, damaged or not a tar or zip archive: "),
    "a negative size": ({"size": "-512"}, "is truncated, damaged or not a tar or zip archive: "),
    "a size of 5,000 digits": ({"size": "9" * 5000}, "is truncated, damaged or not a tar or zip archive: "),
    "a long component": ({"path": "n" * 300}, "cannot be extracted: 'n+...': File name too long"),
}


@pytest.mark.parametrize("case", ODD_TARS)
def test_an_odd_tar_is_one_sentence(tmp_path: Path, case: str) -> None:
    headers, message = ODD_TARS[case]
    archive = with_pax(tmp_path / "x.tar", headers)
    with pytest.raises(DataError, match=f"x.tar: {message}") as refused:
        extract(archive, tmp_path / "out")
    assert len(str(refused.value)) < 400 and names(tmp_path) == ["x.tar"]


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_file_and_a_folder_of_one_name(tmp_path: Path, kind: str, first: str, second: str) -> None:
    archive = tmp_path / "x"
    if kind == "zip":
        zip_of(archive, {first: b"1", second: b"2"})
    else:
        tar_of(archive, member(first, size=1), member(second, size=1))
    with pytest.raises(DataError, match=r"x: cannot be extracted: 'a(/b)?': (Not a dir|Is a dir|File exists)"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == ["x"]


def test_a_zip_with_names_of_all_lengths(tmp_path: Path) -> None:
    for name, message in {
        "n" * 300: r"x: cannot be extracted: 'n+\.\.\.': File name too long",
        "n" * 5000: "x: is not safe to extract: 'n+...' has a name of 5000 bytes",
        "d/" * 1500 + "x": r"x: is not safe to extract: '(d/)+\.\.\.' is in 1500 nested folders",
    }.items():
        with pytest.raises(DataError, match=message):
            extract(zip_of(tmp_path / "x", {name: b"1"}), tmp_path / "out")
        assert names(tmp_path) == ["x"]


def test_a_header_that_states_gigabytes(tmp_path: Path) -> None:
    """Zeros shrink a thousandfold, and tarfile would read all of such a name into memory."""
    with gzip.open(tmp_path / "x", "wb", compresslevel=1) as packed:
        packed.write(member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=50 << 20).tobuf(tarfile.GNU_FORMAT))
        packed.write(bytes(50 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="a name or attribute of 52428800 bytes"):
        extract(tmp_path / "x", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_headers_that_announce_headers(tmp_path: Path) -> None:
    header = member("././@PaxHeader", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "x").write_bytes(header * 5000)
    with pytest.raises(DataError, match=r"damaged .*: maximum recursion depth exceeded"):
        extract(tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_mutated_archives(tmp_path: Path, kind: str, rng: np.random.Generator) -> None:
    """Each is extracted or refused with a sentence; nothing else remains."""
    archive = tmp_path / "x"
    if kind == "zip":
        zip_of(archive, {"a/b.txt": CONTENT[:300], "empty/": b"", "c": b"text" * 50})
    else:
        long = member("d/" * 2 + "x" * 200, size=10)
        long.pax_headers = {"mtime": "1.5", "comment": "c"}
        tar_of(archive, long, member("b", tarfile.SYMTYPE, link="d"), member("c", size=10))
    whole = archive.read_bytes()
    refused = 0
    for number in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(0, 256)
        if kind == "tar":
            _mend_sums(data)
        archive.write_bytes(data)
        try:
            extract(archive, tmp_path / f"out{number}")
        except DataError as error:
            refused += 1
            assert len(str(error)) < 500
        shutil.rmtree(tmp_path / f"out{number}", ignore_errors=True)
        assert names(tmp_path) == ["x"]
    assert refused > 2


def _mend_sums(data: bytearray) -> None:
    """Make the headers of a tar right again, or tarfile looks at nothing behind them."""
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
