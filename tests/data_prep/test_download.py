"""Downloads from a server on this machine that misbehaves on demand, and archives that are damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asr.corpora import connection, disk
from asr.corpora.connection import Pace, TooSlow
from asr.corpora.download import download
from asr.errors import DataError, InputError
from asr.files.locks import locked
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
        DataError,
        match=r"/file: the connection ended early \(100000 of 300000 bytes\); the downloaded part is kept, run",
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


@pytest.mark.parametrize("content_range", ["bytes {first}-{last}/300000", "bytes {first}-{last}/*"])
def test_a_part_of_the_rest_is_not_the_rest(server: Server, path: Path, content_range: str) -> None:
    leave_part(path, CONTENT[:1000])
    server.most_bytes, server.content_range = 99_000, content_range
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT
    starts = [1000, 100_000, 199_000, 298_000, *([300_000] if content_range.endswith("*") else [])]
    assert [asked for _, asked, _ in server.requests] == [f"bytes={start}-" for start in starts]


def test_a_length_beyond_the_range_is_not_believed(server: Server, path: Path) -> None:
    leave_part(path, CONTENT[:1000])
    server.raw = b"HTTP/1.0 206 Partial Content\r\nContent-Range: bytes 1000-1999/300000\r\n\r\n" + CONTENT[1000:]
    with pytest.raises(DataError, match="must send the bytes from 2000 on, sent 'bytes 1000-1999/300000'; run"):
        download(f"{server.url}/raw", path)


WRONG_RANGES = ["bytes 0-1/2", "bytes 1001-299999/300000", "bytes 1000-999/300000", "bytes 1000-300000/300000", ""]
WRONG_RANGES += ["bytes 1000-299999", "items 1000-299999/300000", "bytes 1000-299999/0", f"bytes 1000-{'9' * 5000}/*"]


@pytest.mark.parametrize("content_range", WRONG_RANGES)
def test_another_range_than_asked_for_begins_again(server: Server, path: Path, content_range: str) -> None:
    leave_part(path, CONTENT[:1000])
    server.content_range = content_range
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT
    assert [status for *_, status in server.requests] == [206, 200]
    path.unlink()
    server.cut_after = [1000]
    said = re.escape(content_range[:80])
    with pytest.raises(DataError, match=f"must send the bytes of 300000 from 1000 on, sent '{said}.*'; run again$"):
        download(f"{server.url}/file", path)
    assert not (path.parent / "file.bin.part").exists()


def test_several_ranges_in_one_answer(server: Server, path: Path) -> None:
    """A part by itself, which would have to be taken to pieces, has no Content-Range on top."""
    leave_part(path, CONTENT[:1000])
    server.content_range, server.headers["Content-Type"] = "", "multipart/byteranges; boundary=x"
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT


def test_a_part_that_nobody_asked_for(server: Server, path: Path) -> None:
    head = b'HTTP/1.0 206 Partial Content\r\nETag: "one"\r\nContent-Length: 2\r\nContent-Range: bytes %s\r\n\r\nab'
    server.raw = head % b"7-8/9"
    with pytest.raises(DataError, match=r"must send the bytes from 0 on, sent 'bytes 7-8/9'; run again$"):
        download(f"{server.url}/raw", path)
    server.raw = head % b"0-1/2"
    assert download(f"{server.url}/raw", path).read_bytes() == b"ab"


@pytest.mark.parametrize("between_calls", [False, True])
def test_a_length_that_has_changed_under_the_same_name(server: Server, path: Path, between_calls: bool) -> None:
    server.cut_after = [100_000, 0, 0] if between_calls else [100_000]
    server.files["/file"] = CONTENT[:250_000]
    if between_calls:
        with pytest.raises(DataError, match="ended early"):
            download(f"{server.url}/file", path)
        server.cut_after.clear()
        server.files["/file"] = CONTENT[::-1]
        assert download(f"{server.url}/file", path).read_bytes() == CONTENT[::-1]
        return
    server.content_range = "bytes {first}-{last}/250001"
    with pytest.raises(DataError, match=r"must send the bytes of 250000 from 100000 on, sent .*; run again$"):
        download(f"{server.url}/file", path)


def test_two_downloads_of_one_file_at_once(server: Server, path: Path) -> None:
    """Which would both add to the same part."""
    path.parent.mkdir()
    with locked(path.with_name("file.bin.part.lock")) as own:
        assert own
        with pytest.raises(DataError, match=r"file.bin: another process is downloading it; wait for it$"):
            download(f"{server.url}/file", path)
    assert download(f"{server.url}/file", path).read_bytes() == CONTENT  # and a lock that is left holds nobody
    assert names(path.parent) == ["file.bin"]


def test_a_wrong_checksum_deletes_what_has_arrived(server: Server, path: Path) -> None:
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(DataError, match=f"/file: must have {wrong}, has {SHA256}; the downloaded file was deleted"):
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


ODD_ANSWERS = {
    "length of 5,000 digits": (
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nx" % (b"9" * 5000),
        "state the length in b",
    ),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx", "state the length in bytes, stated '-5'"),
    "length in words": (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\nx", "state the length in bytes, stated 'ten'"),
    "more than any disk has": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9%s\r\n\r\nx" % (b"0" * 17),
        "disk must have room for",
    ),
    "nothing": (b"", "ended early"),
    "no status line": (b"hello\r\n\r\n", r"ended early \(BadStatusLine\('hello"),
    "a line without an end": (b"HTTP/1.1 200 " + b"k" * 100_000, r"ended early \(LineTooLong"),
    "a status of letters": (b"HTTP/1.1 abc OK\r\n\r\n", r"ended early \(BadStatusLine"),
    "a status of no kind": (b"HTTP/1.1 999 \x1b[31mred\r\n\r\n", r"answered 999 \[31mred"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "must send the file, answered 204 No Content"),
    "a thousand headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", "ended early .*100 headers"),
    "a long reason": (b"HTTP/1.1 500 " + b"why " * 2000 + b"\r\n\r\n", r"answered 500 (why )+w?h?y?\.\.\.$"),
    "chunks of no size": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        r"ended early \(Incomplete",
    ),
    "chunks below nothing": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc", "ended early"),
    "chunks without an end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "ended early"),
    "redirect without an end": (
        b"HTTP/1.1 302 Found\r\nLocation: /raw\r\nContent-Length: %s\r\n\r\n" % (b"9" * 18) + b"x" * 100_000,
        "answered 302 .*infinite loop",
    ),
    "redirect to nowhere": (b"HTTP/1.1 302 Found\r\n\r\n", "answered 302 Found"),
}
for place, words in {
    b"http://[": "must lead to an address in the form of a URL: Invalid IPv6 URL",
    b"http://127.0.0.1:port/": "must lead to an address in the form of a URL: nonnumeric port: 'port'",
    b"http://127.0.0.1:99999/": "must lead to an address in the form of a URL: |cannot be reached|ended early",
    b"http://%s/" % (b"a" * 300): "must lead to an address in the form of a URL: .*idna|cannot be reached",
    b"http://a..b/": "must lead to an address in the form of a URL: .*idna|cannot be reached",
    b"http:///": "cannot be reached: no host given|answered 404",
    b"ftp://127.0.0.1/x": "must not be redirected from http to ftp://127.0.0.1/x",
    b"file:///etc/passwd": "answered 302 .*not allowed",
    b"gopher://x": "answered 302 .*not allowed",
}.items():
    ODD_ANSWERS[f"redirect to {place[:30]!r}"] = (b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n" % place, words)


@pytest.mark.parametrize("case", ODD_ANSWERS)
def test_an_odd_answer_is_one_sentence(server: Server, path: Path, case: str) -> None:
    server.raw, words = ODD_ANSWERS[case]
    with pytest.raises(DataError, match=words) as refused:
        download(f"{server.url}/raw", path)
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:x/", "http://127.0.0.1/a b", "http://127.0.0.1/\u00e4"])
def test_what_is_no_url(path: Path, url: str) -> None:
    with pytest.raises(DataError, match="must lead to an address in the form of a URL: "):
        download(url, path)


@pytest.mark.parametrize("path_of", ["/file", "/raw"])  # /raw: in its headers
def test_a_server_that_drips(server: Server, path: Path, path_of: str) -> None:
    server.drip_seconds, server.raw = 0.01, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 99
    pace = Pace(least_bytes=100, seconds=0.3)
    start = time.monotonic()
    kept = "the downloaded part is kept, run again to resume" if path_of == "/file" else "run again"
    with pytest.raises(
        DataError, match=rf"{path_of}: the server must send at least 100 bytes in 0.3 seconds, sent \d\d?; {kept}$"
    ):
        download(f"{server.url}{path_of}", path, pace=pace)
    assert time.monotonic() - start < 5  # the headers alone would take 6
    server.drip_seconds = None
    if path_of == "/file":
        assert download(f"{server.url}/file", path, pace=Pace(least_bytes=100, seconds=0.3)).read_bytes() == CONTENT
        assert server.requests[-1][2] == 206


def test_a_server_that_drips_by_hanging_up(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte with each connection goes further each time."""
    get = Handler.do_GET
    monkeypatch.setattr(Handler, "do_GET", lambda self: (time.sleep(0.02), get(self)))
    server.cut_after = [1] * 1000
    with pytest.raises(DataError, match=r"must send at least 100 bytes in 0.3 seconds, sent \d+; the downloaded part"):
        download(f"{server.url}/file", path, pace=Pace(least_bytes=100, seconds=0.3))


def test_a_steady_server_may_be_slow_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(connection.time, "monotonic", lambda: next(seconds))
    pace = Pace(least_bytes=10, seconds=5)
    for second in range(40):
        pace.count(10 if second % 5 == 0 else 0)
    with pytest.raises(TooSlow, match=r"must send at least 10 bytes in 5 seconds, sent 0"):
        for _ in range(10):
            pace.count(0)


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
        connection._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.org/b")
    assert connection._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.org/b")


def test_nobody_there(server: Server, path: Path) -> None:
    server.shutdown()  # first, or the loop still holds the socket
    server.server_close()
    with pytest.raises(DataError, match=f"{server.url}/file: cannot be reached: .*refused"):
        download(f"{server.url}/file", path)


def test_a_server_that_falls_silent(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda self: time.sleep(0.5))
    with pytest.raises(DataError, match=r"the connection ended early \(TimeoutError.*\); run again$"):
        download(f"{server.url}/file", path, pace=Pace(least_bytes=0, seconds=0.1))


def test_a_file_url(tmp_path: Path, path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    download((tmp_path / "source").as_uri(), path, checksum=SHA256)
    assert path.read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"none: cannot be reached: .*No such file"):
        download((tmp_path / "none").as_uri(), path.with_name("other"))
    with pytest.raises(DataError, match="must be the URL of a file; it is a folder, a pipe or a device"):
        download(tmp_path.as_uri(), path.with_name("other"))


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
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=298_999))
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
