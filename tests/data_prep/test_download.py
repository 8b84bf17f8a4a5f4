"""Downloads from a server on this machine that misbehaves on demand, and archives that are damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asr.errors import DataError, InputError
from data_prep import download as module
from data_prep.download import download, extract
from tests.archive_server import Handler, Server, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/file": CONTENT}) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("checksum", [None, SHA256, SHA256.upper(), f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_download(server: Server, path: Path, checksum: str | None) -> None:
    for _ in range(2):  # the second time nothing is fetched
        assert download(f"{server.url}/file", path, checksum=checksum) == path
        assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    assert server.requests == [("/file", None, 200)]


def test_what_is_there_but_wrong_is_refused(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"other")
    with pytest.raises(DataError, match=rf"file.bin: must have {SHA256}, has sha256:\w+ \(delete it"):
        download(f"{server.url}/file", path, checksum=SHA256)
    assert path.read_bytes() == b"other"


def test_a_cut_connection_is_taken_up_again(server: Server, path: Path) -> None:
    server.cut_after = [100_000, 50_000, 1]
    download(f"{server.url}/file", path, checksum=SHA256)
    assert server.requests == [
        ("/file", None, 200),
        ("/file", "bytes=100000-", 206),
        ("/file", "bytes=150000-", 206),
        ("/file", "bytes=150001-", 206),
    ]


def test_it_gives_up_when_nothing_more_arrives_and_goes_on_later(server: Server, path: Path) -> None:
    server.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(
        DataError, match=r"/file: the connection ended early \(100000 of 300000 bytes\); what has arrived is kept, run"
    ):
        download(f"{server.url}/file", path)
    assert not path.exists()
    assert (path.parent / "file.bin.part").read_bytes() == CONTENT[:100_000]
    server.cut_after.clear()
    download(f"{server.url}/file", path, checksum=SHA256)
    assert server.requests[-1] == ("/file", "bytes=100000-", 206)
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_another_version_starts_anew(server: Server, path: Path, headers: dict[str, str]) -> None:
    server.headers, server.cut_after = headers, [100_000, 0, 0]
    with pytest.raises(DataError, match="ended early"):
        download(f"{server.url}/file", path)
    server.files["/file"], server.headers = CONTENT[::-1], dict.fromkeys(headers, "another")
    server.cut_after.clear()
    download(f"{server.url}/file", path)
    assert path.read_bytes() == CONTENT[::-1]
    assert server.requests[-1] == ("/file", "bytes=100000-", 200)


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_version_nothing_is_glued_together(server: Server, path: Path, headers: dict[str, str]) -> None:
    server.headers, server.cut_after = headers, [100_000]
    download(f"{server.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.requests] == [None, None]


def test_a_server_that_ignores_ranges(server: Server, path: Path) -> None:
    server.ignore_range, server.cut_after = True, [100_000, 200_000]
    download(f"{server.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert [status for *_, status in server.requests] == [200, 200, 200]
    path.unlink()
    server.cut_after = [100_000] * 5  # always cut at the same place: no endless loop
    with pytest.raises(DataError, match="ended early"):
        download(f"{server.url}/file", path)
    assert len(server.requests) == 3 + 2


def leave_part(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True)
    (path.parent / "file.bin.part.version").write_text('"one"')
    part = path.parent / "file.bin.part"
    part.write_bytes(content)
    return part


def test_a_part_that_was_complete(server: Server, path: Path) -> None:
    leave_part(path, CONTENT)
    download(f"{server.url}/file", path, checksum=SHA256)
    assert server.requests == [("/file", "bytes=300000-", 416)]
    assert names(path.parent) == ["file.bin"]


def test_a_part_that_is_too_long(server: Server, path: Path) -> None:
    leave_part(path, CONTENT + b"more")
    download(f"{server.url}/file", path, checksum=SHA256)
    assert server.requests == [("/file", "bytes=300004-", 416), ("/file", None, 200)]


def test_a_file_that_has_become_shorter(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get = Handler.do_GET

    def get_once(handler: Handler) -> None:
        get(handler)
        server.files["/file"] = CONTENT[:1000]

    monkeypatch.setattr(Handler, "do_GET", get_once)
    server.cut_after = [100_000]
    reason = r"\(100000 bytes were here, more than the server has\)"
    with pytest.raises(DataError, match=rf"/file: the connection ended early {reason}; run again$"):
        download(f"{server.url}/file", path)
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT[:1000]


def test_another_range_than_asked_for(server: Server, path: Path) -> None:
    part = leave_part(path, CONTENT[:1000])
    server.wrong_range = True
    with pytest.raises(DataError, match="must send the bytes from 1000 on, sent 'bytes 0-1/2'"):
        download(f"{server.url}/file", path)
    assert not part.exists()


def test_a_wrong_checksum_deletes_what_has_arrived(server: Server, path: Path) -> None:
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(DataError, match=f"/file: must have {wrong}, has {SHA256}; what has arrived was deleted"):
        download(f"{server.url}/file", path, checksum=wrong)
    assert names(path.parent) == []


def test_a_length_that_is_too_large_or_not_stated(server: Server, path: Path) -> None:
    server.added_length, server.ignore_range = 5, True
    with pytest.raises(DataError, match=r"ended early \(300000 of 300005 bytes\)"):
        download(f"{server.url}/file", path)
    server.ignore_range = False  # asked for the rest, it says that there is none
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT
    path.unlink()
    server.added_length, server.state_length = 0, False
    download(f"{server.url}/file", path, checksum=SHA256)


@pytest.mark.parametrize(("status", "words"), [(403, "Forbidden"), (416, ".*"), (500, "Internal Server Error")])
def test_a_server_that_refuses(server: Server, path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(DataError, match=f"/file: the server must send the file, answered {status} {words}$"):
        download(f"{server.url}/file", path)
    assert len(server.requests) == 1


def test_not_found(server: Server, path: Path) -> None:
    with pytest.raises(DataError, match=r"/none: the server must send the file, answered 404 Not Found$"):
        download(f"{server.url}/none", path)
    assert names(path.parent) == []


def test_redirects(server: Server, path: Path) -> None:
    part = leave_part(path, CONTENT[:1000])
    download(f"{server.url}/moved", path, checksum=SHA256)
    assert server.requests == [("/moved", "bytes=1000-", 302), ("/file", "bytes=1000-", 206)]
    assert not part.exists()
    with pytest.raises(DataError, match=r"/loop: the server must send the file, answered 302 .*infinite loop"):
        download(f"{server.url}/loop", path.with_name("other"))


def test_no_redirect_leaves_https() -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(DataError, match=r"https://example.org/a: must not be redirected from https to http://example"):
        module._StayOnHttps().redirect_request(request, None, 302, "Found", {}, "http://example.org/b")
    assert module._StayOnHttps().redirect_request(request, None, 302, "Found", {}, "https://example.org/b")


def test_nobody_there(server: Server, path: Path) -> None:
    server.shutdown()  # first, or the loop still holds the socket
    server.server_close()
    with pytest.raises(DataError, match=f"{server.url}/file: cannot be reached: .*refused"):
        download(f"{server.url}/file", path)


def test_a_server_that_falls_silent(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(Handler, "do_GET", lambda self: time.sleep(0.5))
    with pytest.raises(DataError, match=r"the connection ended early \(TimeoutError.*\); run again$"):
        download(f"{server.url}/file", path)


def test_a_file_url(tmp_path: Path, path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    download((tmp_path / "source").as_uri(), path, checksum=SHA256)
    assert path.read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"none: cannot be reached: .*No such file"):
        download((tmp_path / "none").as_uri(), path.with_name("other"))


@pytest.mark.parametrize("url", ["ftp://x/y", "x/y", "/etc/passwd", ""])
def test_another_scheme(url: str, path: Path) -> None:
    with pytest.raises(InputError, match=f"must begin with http://, https:// or file://, got '{url}'"):
        download(url, path)


@pytest.mark.parametrize("checksum", ["", "abc", "sha256:", "sha256:12", f"sha1:{'0' * 40}", f"md5:{'g' * 32}"])
def test_another_checksum(checksum: str, path: Path) -> None:
    with pytest.raises(InputError, match=f"the checksum must be sha256: and 64 .*, got '{checksum}'"):
        download("http://127.0.0.1/", path, checksum=checksum)


def test_a_disk_that_is_too_small(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = leave_part(path, CONTENT[:1000])
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=298_999))
    with pytest.raises(DataError, match="new: the disk must have room for at least 299000 more bytes, 298999 are free"):
        download(f"{server.url}/file", path)
    assert part.read_bytes() == CONTENT[:1000]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_disk_that_becomes_full(server: Server, path: Path) -> None:
    """The kernel's own answer to a write on a full disk, from the device that always gives it."""
    path.parent.mkdir()
    (path.parent / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"new: the disk must have room for at least 300000 more bytes, \d+ are free"):
        download(f"{server.url}/file", path)
    assert not path.exists()


def test_progress_only_when_wanted(server: Server, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(f"{server.url}/file", path)
    assert capsys.readouterr() == ("", "")
    download(f"{server.url}/file", path.with_name("other"), progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "300k/300k" in err


# --- archives ---


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
        assert (tmp_path / made).stat().st_uid == os.getuid()
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
        with pytest.raises(DataError, match="x: is truncated, damaged or no tar or zip archive: "):
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
    with pytest.raises(DataError, match="no end mark, but bad checksum"):
        extract(archive, tmp_path / "out")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<html>404</html>" * 100)
    with pytest.raises(DataError, match="x: is truncated, damaged or no tar or zip archive: "):
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
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=4999))
    with pytest.raises(DataError, match=r"the disk must have room for at least \d+ more bytes, 4999 are free"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == ["x"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root")
def test_a_disk_that_becomes_full_while_extracting(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k none {disk} 2>/dev/null"):
        pytest.skip("may not mount")
    try:
        archive = tar_of(tmp_path / "x.tar.gz", member("a", size=0), mode="w:gz")
        with tarfile.open(archive, "w:gz") as tar:
            info = member("a", size=1 << 20)
            tar.addfile(info, io.BytesIO(bytes(1 << 20)))  # zeros: a small archive of a large file
        with pytest.raises(DataError, match=r"the disk must have room for at least \d+ more bytes"):
            extract(archive, disk / "out")
        assert names(disk) == []
    finally:
        os.system(f"umount {disk}")
