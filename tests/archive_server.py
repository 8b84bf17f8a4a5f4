"""A server on this machine that misbehaves on demand."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path; the fields say how badly. `requests` lists (path, Range, status) of each."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = files
        self.headers = {"ETag": '"one"'}
        self.ignore_range = False
        self.most_bytes: int | None = None  # of the rest that is asked for
        self.content_range: str | None = None  # in the place of the right one
        self.cut_after: list[int] = []  # bytes of body per request, then the connection is cut
        self.state_length = True
        self.added_length = 0
        self.status: int | None = None
        self.raw = b""  # the whole answer to a request of /raw
        self.drip_seconds: float | None = None  # between one byte and the next
        self.stopped = threading.Event()
        self.requests: list[tuple[str, str | None, int]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        if self.path == "/raw":
            return self.send(server.raw)
        content, status, extra = server.files.get(self.path, b""), 200, dict(server.headers)
        known = self.headers.get("If-Range") in (None, server.headers.get("ETag"), server.headers.get("Last-Modified"))
        if self.path == "/moved":
            status, extra, content = 302, {"Location": "/file"}, b""
        elif self.path == "/loop":
            status, extra, content = 302, {"Location": "/loop"}, b""
        elif self.path not in server.files:
            status, content = 404, b"nothing here"
        elif server.status is not None:
            status, content = server.status, b"no"
        elif asked and known and not server.ignore_range:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            rest = content[first:][: server.most_bytes]
            extra["Content-Range"] = f"bytes {first}-{first + len(rest) - 1}/{len(content)}"
            status, content = (206, rest) if rest else (416, b"")
            if status == 416:
                extra["Content-Range"] = f"bytes */{len(server.files[self.path])}"
            elif server.content_range is not None:
                extra["Content-Range"] = server.content_range.format(first=first, last=first + len(rest) - 1)
        server.requests.append((self.path, asked, status))
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        if server.state_length:
            self.send_header("Content-Length", str(len(content) + server.added_length))
        self.end_headers()
        self.send(content[: server.cut_after.pop(0)] if server.cut_after else content)

    def send(self, content: bytes) -> None:
        with suppress(ConnectionError):  # the client has had enough
            if self.server.drip_seconds is None:
                self.wfile.write(content)
                return
            for number in range(len(content)):
                self.wfile.write(content[number : number + 1])
                self.server.stopped.wait(self.server.drip_seconds)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """A server that runs in the block."""
    with Server(files) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.stopped.set()
            running.shutdown()
            thread.join()
