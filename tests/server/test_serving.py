"""The process: starts, faults of clients, and a stop that loses nothing which was accepted."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from asr.server.options import ServeOptions
from asr.server.serving import listen
from tests.server.conftest import MERCHANT, Server, excerpts, serving, texts


def post(server: Server, sound: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/audio/transcriptions", files={"file": ("a.wav", sound)}, timeout=120)


HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def test_sigterm_under_load_loses_no_accepted_request(recognizer):
    sounds = excerpts(30)
    expected = texts(recognizer, sounds)
    with serving("--batch-size", "4") as server:
        go_on = threading.Event()

        def ask(sound: bytes) -> str:
            def body():
                yield PART + sound[:10_000]
                assert go_on.wait(60)
                yield sound[10_000:] + b"\r\n--x--\r\n"

            url = f"{server.url}/v1/audio/transcriptions"
            return httpx.post(url, content=body(), headers=HEADERS, timeout=120).json()["text"]

        with ThreadPoolExecutor(30) as pool:
            answers = pool.map(ask, sounds)
            while "asr_requests 30" not in httpx.get(f"{server.url}/metrics").text:
                time.sleep(0.05)
            server.process.terminate()
            go_on.set()
            assert list(answers) == expected
        assert server.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_stop_seconds_end_what_does_not_end():
    with serving("--stop-seconds", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
            )
            time.sleep(0.3)
            begin = time.monotonic()
            assert server.stop() == 1
            assert 0.9 < time.monotonic() - begin < 10
        assert "requests that were accepted are not answered" in "".join(server.log)


def test_a_second_signal_ends_at_once():
    with serving() as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        )
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 1


def test_broken_cut_and_slow_requests_do_no_harm(server, recognizer, seed):
    rng = random.Random(seed)
    form = httpx.Request(
        "POST", f"{server.url}/v1/audio/transcriptions", files={"file": ("a.wav", excerpts(1, seconds=1.0)[0])}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    request = f"POST /v1/audio/transcriptions HTTP/1.1\r\n{head}\r\n".encode() + form.read()

    def attack(number: int) -> None:
        data = bytearray(request)
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data) if number % 2 else 600)] = rng.randrange(256)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            try:
                connection.sendall(data[: rng.randrange(1, len(data))] if number % 3 else data)
                if number % 5 == 0:
                    connection.settimeout(0.5)
                    connection.recv(65536)
            except OSError:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attack, range(120)))
    deadline = time.monotonic() + 40  # uploads that lack their end wait for the patience of the server
    while (figures := httpx.get(f"{server.url}/metrics").text) and "asr_requests 0" not in figures:
        assert time.monotonic() < deadline, figures
        time.sleep(0.1)
    sound = excerpts(1)[0]
    assert post(server, sound).json()["text"] == texts(recognizer, [sound])[0]


def test_no_file_is_left_behind(tmp_path):
    with serving(TMPDIR=str(tmp_path)) as server:
        before = set(tmp_path.iterdir())  # a library may have one of its own
        assert post(server, MERCHANT.read_bytes()).status_code == 200
        assert post(server, b"junk" * 10**6).status_code == 400
        assert set(tmp_path.iterdir()) == before
        assert server.stop() == 0


def test_a_port_in_use_is_one_sentence(server):
    command = [sys.executable, "-m", "asr.cli.serve", "--port", str(server.port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr == f"asr-serve: error: 127.0.0.1:{server.port}: Address already in use; choose another --port\n"
    )


def test_a_host_without_an_address():
    command = [sys.executable, "-m", "asr.cli.serve", "--host", "no.such.invalid"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("asr-serve: error: --host must be an address, not 'no.such.invalid': ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "host, environment, is_warned",
    [
        ("0.0.0.0", {}, True),
        ("0.0.0.0", {"ASR_SERVE_TOKEN": "a-token-of-some-length"}, False),
        ("localhost", {}, False),
    ],
)
def test_a_server_for_everybody_is_warned_about(host, environment, is_warned):
    with serving("--host", host, **environment) as server:
        warnings = [line for line in server.log if "warning" in line]
        reached = f"everybody who reaches port {server.port} of 0.0.0.0 can use the server"
    expected = f"asr-serve: warning: {reached}; require a token with ASR_SERVE_TOKEN or --token\n"
    assert warnings == ([expected] if is_warned else [])


def test_an_address_of_another_machine():
    command = [sys.executable, "-m", "asr.cli.serve", "--host", "192.0.2.1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "asr-serve: error: 192.0.2.1:8000: Cannot assign requested address\n"


def test_what_a_client_does_not_read_is_dropped_by_the_system():
    with (
        listen(ServeOptions(port=0, patience=2.5)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
