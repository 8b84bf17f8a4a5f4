"""Connect to web servers safely: a slow, malicious or broken server cannot stall the program or fill its memory.

Python's own client accepts one byte per minute, reads the whole page of a redirect, and raises exceptions of many
classes for invalid answers.
"""

from __future__ import annotations

import http.client
import io
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from asr.errors import AsrError, DataError


class Cut(Exception):
    """The connection ended before the file; another attempt may get more of it."""


class TooSlow(Exception):
    """The server sends fewer bytes than a `Pace` requires."""


@dataclass(kw_only=True)
class Pace:
    """The bytes of the file that a server must send in each window of time."""

    least_bytes: int = 60_000
    seconds: float = 60.0  # of a window; also the longest silence
    _start: float | None = field(default=None, init=False)
    _bytes: int = field(default=0, init=False)

    def count(self, num_bytes: int) -> None:
        """Add bytes; call it often. Raises: TooSlow."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        self._bytes += num_bytes
        if now - self._start < self.seconds:
            return
        if self._bytes < self.least_bytes:
            raise TooSlow(
                f"the server must send at least {self.least_bytes} bytes in {self.seconds:g} seconds, "
                f"sent {self._bytes}"
            )
        self._start, self._bytes = now, 0


def open_url(url: str, headers: dict[str, str], pace: Pace) -> Any:
    """The response of a server, with status 200 or 206, or 416 if `headers` ask for a range; None for a file URL.

    Raises:
        Cut: the server closed the connection or stopped sending, or its answer is not HTTP.
        TooSlow: it sends its headers too slowly.
        DataError: it refuses, cannot be reached, or redirects to an invalid address.
    """
    opener = urllib.request.build_opener(_Redirects, _PacedHTTP(pace), _PacedHTTPS(pace))
    try:
        _check_file(url)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=pace.seconds)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers:
            return error
        error.close()
        raise _refused(url, error.code, error.reason) from error
    except urllib.error.URLError as error:
        raise DataError(f"cannot be reached: {shown(error.reason)}", path=url) from error
    except AsrError:
        raise
    except (http.client.InvalidURL, ValueError) as error:  # in the URL or in a redirect
        raise DataError(f"must lead to an address in the form of a URL: {shown(error)}", path=url) from error
    except (http.client.HTTPException, OSError) as error:  # after the connection was accepted
        raise Cut(f"the connection ended early ({shown(repr(error))})") from error
    if response.status not in (None, http.client.OK, http.client.PARTIAL_CONTENT):
        response.close()
        raise _refused(url, response.status, response.reason)
    return response


def _refused(url: str, status: int, reason: object) -> DataError:
    return DataError(f"the server must send the file, answered {status} {shown(reason)}", path=url)


def read_block(response: Any, size: int) -> bytes:
    """At most `size` bytes, as soon as any arrive; none at the end. Raises: Cut, TooSlow."""
    try:
        return response.read1(size)
    except (http.client.HTTPException, OSError, ValueError) as error:  # ValueError: invalid chunk sizes
        raise Cut(f"the connection ended early ({shown(repr(error))})") from error


def shown(message: object, *, most: int = 80) -> str:
    """A message of another machine on one line of bounded length, without control characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(message))
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."


def _check_file(url: str) -> None:
    """Refuse a file:// URL of a folder, pipe or device."""
    parts = urlsplit(url)
    path = urllib.request.url2pathname(parts.path)
    if parts.scheme == "file" and os.path.exists(path) and not os.path.isfile(path):
        raise DataError("must be the URL of a file; it is a folder, a pipe or a device", path=url)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else urllib reads the whole page of the redirect
        if urlsplit(newurl).scheme not in (("https",) if req.type == "https" else ("http", "https")):
            raise DataError(f"must not be redirected from {req.type} to {shown(newurl)}", path=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Paced:
    """A handler of urllib whose connections must keep a pace, from the first byte of the headers on."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def do_open(self, http_class: type, req: Any, **options: Any) -> Any:
        response_class = staticmethod(partial(_PacedResponse, self._pace))
        connection = type("Paced", (http_class,), {"response_class": response_class})
        return super().do_open(connection, req, **options)  # type: ignore[misc]


class _PacedHTTP(_Paced, urllib.request.HTTPHandler):  # type: ignore[misc]  # do_open takes any options
    pass


class _PacedHTTPS(_Paced, urllib.request.HTTPSHandler):  # type: ignore[misc]
    pass


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, pace: Pace, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_PacedReader(self.fp.detach(), pace))  # type: ignore[attr-defined]


class _PacedReader(io.RawIOBase):
    """Reads a socket and checks the pace at each read."""

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw, self._pace = raw, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._pace.count(0)
        size = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        self._pace.count(0)  # the bytes of the file are counted where they are written
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()
