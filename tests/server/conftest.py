"""Servers to ask: asr-serve as its own process on a free port of this machine, with the small model."""

from __future__ import annotations

import io
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

import asr
from asr.recognition.recognizer import Recognizer

MERCHANT = Path(__file__).parent.parent / "audio" / "merchant.flac"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_START_SECONDS = 120.0  # compiles the search where it was never used


@dataclass
class Server:
    """A running asr-serve.

    Args:
        url: http://127.0.0.1:PORT
        log: lines of its standard error, with their ends.
    """

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def live_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def stop(self) -> int:
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(*flags: str, **environment: str) -> Iterator[Server]:
    """A server with these flags, which is ended with the block."""
    command = [sys.executable, "-m", "asr.cli.serve", "--model", "an4", "--port", "0", "--threads", "1", *flags]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASR_SERVE_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**inherited, **environment})
    server = Server("", process)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.log.append(line)
            if match := re.search(r"ready on (http://\S+)", line):
                server.url = match[1]
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(_START_SECONDS) and server.url, "".join(server.log)
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
        assert running.process.poll() is None
        assert not any("Traceback" in line for line in running.log), "".join(running.log)


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    return asr.load("an4", device="cpu")


def excerpts(count: int, *, seconds: float = 3.0) -> list[bytes]:
    """WAV files of different parts of one recording."""
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    starts = np.linspace(0, len(samples) - int(seconds * rate), count).astype(int)
    return [wav(samples[start : start + int(seconds * rate)], rate) for start in starts]


def wav(samples: np.ndarray, rate: int) -> bytes:
    """The samples as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def texts(recognizer: Recognizer, sounds: Sequence[bytes]) -> list[str]:
    """What `asr-transcribe` says of them."""
    return [recognizer.transcribe(io.BytesIO(sound)).text for sound in sounds]


def resident_bytes(process_id: int) -> int:
    """The memory of a process."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize()


def seconds_of_a_flood(upgrade: bytes, messages: bytes) -> float:
    """How long a server bears a client that sends messages a thousand times and reads no answer; it then goes on."""
    with serving("--patience", "2") as server:
        before, begin = resident_bytes(server.process.pid), time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
            connection.sendall(upgrade)
            assert connection.recv(12) == b"HTTP/1.1 101"
            with pytest.raises(ConnectionError):
                for _ in range(1_000):
                    connection.sendall(messages)
        seconds = time.monotonic() - begin
        assert resident_bytes(server.process.pid) - before < 30 * 2**20
        assert "asr_live_speakers 0" in httpx.get(f"{server.url}/metrics").text
    return seconds
