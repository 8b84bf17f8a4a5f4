"""Limits and access: who may ask, how much, how long; each refusal in OpenAI's form."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.server.conftest import MERCHANT, Server, excerpts, serving

TOKEN = "a-token-of-some-length"
FORM = "multipart/form-data; boundary=x"


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    flags = ("--queue", "2", "--patience", "1", "--upload-seconds", "4", "--max-upload-bytes", "150000")
    with serving(*flags, "--max-seconds", "4", "--live", "1", ASR_SERVE_TOKEN=TOKEN) as server:
        yield server
        assert server.process.poll() is None
        assert not any("Traceback" in line for line in server.log), "".join(server.log)


def post(server: Server, sound: bytes, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("a.wav", sound)},
        headers={"Authorization": f"Bearer {TOKEN}", **headers},
        timeout=30,
    )


def raw(server: Server, head: str, body: bytes = b"") -> socket.socket:
    """A connection with the beginning of a request."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode() + body)
    return connection


def upload_head(length: int) -> str:
    return (
        f"POST /v1/audio/transcriptions HTTP/1.1\nHost: a\nAuthorization: Bearer {TOKEN}\n"
        f"Content-Type: {FORM}\nContent-Length: {length}\n\n"
    )


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def answer_of(connection: socket.socket) -> tuple[int, dict]:
    data = b""
    with connection:
        while block := connection.recv(65536):
            data += block
            if b"\r\n\r\n" in data and data.endswith(b"}"):
                break
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_good_request_passes(strict):
    assert post(strict, excerpts(1)[0]).status_code == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_a_wrong_token(strict, given):
    answer = httpx.get(f"{strict.url}/v1/models", headers={"Authorization": given.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_what_needs_a_token(strict):
    assert httpx.get(f"{strict.url}/").status_code == httpx.get(f"{strict.url}/healthz").status_code == 200
    for path in ("/metrics", "/v1/models", "/nothing"):
        assert httpx.get(strict.url + path).status_code == 401
    client = openai.OpenAI(base_url=f"{strict.url}/v1", api_key=TOKEN, max_retries=0)
    assert next(iter(client.models.list())).id == "an4"


def test_pages_of_other_sites_are_refused(strict):
    sound = excerpts(1)[0]
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{strict.port + 1}"):
        answer = post(strict, sound, Origin=origin)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert post(strict, sound, Origin=strict.url).status_code == 200


def test_a_large_upload_is_refused_before_it_comes(strict):
    status, answer = answer_of(raw(strict, upload_head(10**9).replace("\n\n", "\nExpect: 100-continue\n\n")))
    assert status == 413
    assert answer["error"]["message"] == "file must have at most 150000 bytes"


def test_a_large_upload_of_unknown_length(strict):
    def blocks() -> Iterator[bytes]:
        yield PART
        for _ in range(40):
            yield b"\0" * 10_000

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": FORM}
    answer = httpx.post(f"{strict.url}/v1/audio/transcriptions", content=blocks(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")


def test_a_client_that_sends_too_much_still_gets_the_answer(strict):
    assert post(strict, b"\0" * 3_000_000).status_code == 413


def test_a_long_recording(strict):
    answer = post(strict, MERCHANT.read_bytes()[:140_000])
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "file must be at most 4 s long; it is longer"


def test_an_upload_that_pauses(strict):
    status, answer = answer_of(raw(strict, upload_head(1000), PART))
    assert (status, answer["error"]["message"]) == (408, "an upload must have no pause of 1 s")


def test_an_upload_that_never_ends(strict):
    connection = raw(strict, upload_head(100_000), PART)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.2):
            try:
                connection.sendall(b"\0")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        status, answer = answer_of(connection)
    finally:
        stop.set()
        dripping.join()
    assert (status, answer["error"]["message"]) == (408, "an upload must be complete within 4 s")


@pytest.mark.parametrize("head", ["", "GET /healthz HTTP/1.1\nHost:"])
def test_a_head_that_does_not_come(strict, head):
    begin = time.monotonic()
    with raw(strict, head) as connection:
        assert connection.recv(100) == b""
    assert 0.5 < time.monotonic() - begin < 10


def test_more_requests_than_the_queue_holds(strict):
    waiting = [raw(strict, upload_head(1000), PART) for _ in range(2)]
    time.sleep(0.3)
    answer = post(strict, excerpts(1)[0])
    assert answer.status_code == 429
    assert answer.json()["error"] == {
        "message": "at most 2 requests are accepted at a time; try again later",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert 1 <= int(answer.headers["Retry-After"]) <= 600
    for connection in waiting:
        connection.close()
    time.sleep(0.3)
    assert post(strict, excerpts(1)[0]).status_code == 200  # their places are free again


@pytest.mark.parametrize(
    "content, headers, status, message",
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "the request must be a form"),
        (b"", {"Content-Type": "multipart/form-data"}, 400, "Missing boundary"),
        (b"junk", {"Content-Type": FORM}, 400, ""),
        (PART * 2 + b"\r\n--x--\r\n", {"Content-Type": FORM}, 400, ""),
        (PART + b"\r\n" + PART + b"\r\n--x--\r\n", {"Content-Type": FORM}, 400, "Too many files"),
        (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"a" * 70_000 + b"\r\n--x--\r\n",
         {"Content-Type": FORM}, 400, "exceeded maximum size"),
    ],
)  # fmt: skip
def test_broken_forms(strict, content, headers, status, message):
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    answer = httpx.post(f"{strict.url}/v1/audio/transcriptions", content=content, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_other_paths_and_methods(strict):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{strict.url}/v1/audio/transcriptions", headers=headers).json()["error"]["message"] == (
        "GET /v1/audio/transcriptions: Method Not Allowed, use POST"
    )
    assert httpx.get(f"{strict.url}/v1/models/", headers={**headers, "Host": "evil.example"}).status_code == 404
    answer = httpx.get(f"{strict.url}/../../etc/passwd", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


def test_a_client_that_does_not_read(strict):
    begin = time.monotonic()
    with raw(strict, "") as connection:
        connection.settimeout(0.2)
        with pytest.raises(OSError):  # first there is no more room, then the server ends the connection
            while time.monotonic() < begin + 20:
                try:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
                except TimeoutError:
                    continue
    assert time.monotonic() < begin + 15


def test_a_client_that_leaves_is_counted(strict):
    def cut() -> bool:
        figures = httpx.get(f"{strict.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        return 'asr_requests_total{path="/v1/audio/transcriptions",status="499"}' in figures

    raw(strict, upload_head(1000), PART).close()
    deadline = time.monotonic() + 10
    while not cut():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def few() -> Iterator[Server]:
    with serving("--max-connections", "4", "--patience", "3", "--hosts", "Speech.example") as server:
        yield server
        assert not any("Traceback" in line for line in server.log), "".join(server.log)


@pytest.mark.parametrize("name", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "[", "a b", "[::1"])
def test_names_that_others_point_at_this_machine_are_refused(few, name):
    host = name.format(port=few.port)
    answer = post(few, excerpts(1)[0], Host=host, Origin=f"http://{host}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")
    assert httpx.get(f"{few.url}/v1/models", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:80", "LOCALHOST.", "127.0.0.1", "[::1]:80", "10.1.2.3", "speech.example"])
def test_names_of_this_machine(few, host):
    assert httpx.get(f"{few.url}/v1/models", headers={"Host": host}).status_code == 200


def test_a_program_may_leave_its_host_out_but_no_page(few):
    head = "POST /v1/audio/transcriptions HTTP/1.0\nContent-Length: 0\n"
    assert answer_of(raw(few, head + "\n"))[0] == 415
    assert answer_of(raw(few, head + "Origin: null\n\n"))[0] == 403


def test_a_token_protects_under_any_name(strict):
    assert post(strict, excerpts(1)[0], Host="evil.example", Origin="http://evil.example").status_code == 200


def test_connections_beyond_the_limit_are_closed_at_once(few):
    begin = time.monotonic()
    connections = [raw(few, "") for _ in range(12)]
    for connection in connections[4:]:
        assert connection.recv(100).startswith(b"HTTP/1.1 503 ")
    assert time.monotonic() - begin < 2
    for connection in connections:
        connection.close()
    time.sleep(0.2)
    assert httpx.get(f"{few.url}/healthz").status_code == 200


def field(name: str, text: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), text)


def test_only_the_file_may_be_large(few):
    content = field("keywords", b"a" * 60_000) * 3 + b"--x--\r\n"
    answer = httpx.post(f"{few.url}/v1/audio/transcriptions", content=content, headers={"Content-Type": FORM})
    assert answer.status_code == 400
    assert "its fields must have at most 131072 bytes in all" in answer.json()["error"]["message"]


@pytest.mark.parametrize("charset", ["punycode", "undefined", "utf-16", "latin-1", '""'])
def test_forms_in_other_charsets(few, charset):
    content = field("prompt", b"a") + PART + excerpts(1)[0] + b"\r\n--x--\r\n"
    for name, status in ((charset, 415), ("UTF-8", 200)):
        headers = {"Content-Type": f"{FORM}; charset={name}"}
        answer = httpx.post(f"{few.url}/v1/audio/transcriptions", content=content, headers=headers, timeout=30)
        assert answer.status_code == status
