"""asr-serve under load: texts, throughput beside asr-transcribe, faults, the stop, and the start.

    python tests/benchmarks/bench_serve.py FOLDER --model english --requests 200 --clients 20 --threads 2

load      --requests recordings of --seconds, cut from the sounds of FOLDER, from --clients clients at once; every text
          must be that of asr-transcribe for the same file. Seconds and processor seconds beside those of asr-transcribe
          for all files, without its start
faults    --faults broken, huge, slow and cut requests; memory before, after as many, and after twice as many
stop      SIGTERM while --clients clients ask: every request that the server had begun to read is answered
start     seconds from the start of the process to its first answer, files cached, in --rounds rounds

All on this machine, over loopback. Exit status 1: a text was lost, wrong or crossed, or a request was not answered.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import soundfile
from timing import machine, spread

PATH = "/v1/audio/transcriptions"
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
TAIL = b"\r\n--x--\r\n"
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of sound files")
    parser.add_argument("--model", default="english")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each recording")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine("onnxruntime", "starlette", "uvicorn"), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(args, folder)
        good = [load(args, folder), faults(args, folder), stop(args, folder)]
        start(args)
    return 0 if all(good) else 1


def write_recordings(args: argparse.Namespace, folder: Path) -> None:
    """Cut the recordings from the joined sounds of the folder, from its start again where they are too few."""
    paths = sorted(path for path in args.folder.rglob("*") if path.suffix in (".flac", ".wav"))
    sounds, needed = [], args.requests * args.seconds
    for path in paths:
        samples, rate = soundfile.read(path, dtype="int16")
        sounds.append(samples)
        needed -= len(samples) / rate
        if needed < 0:
            break
    joined, size = np.concatenate(sounds), int(args.seconds * rate)
    for number in range(args.requests):
        part = np.take(joined, np.arange(number * size, (number + 1) * size) % len(joined))
        soundfile.write(folder / f"{number:04}.wav", part, rate)


@contextmanager
def serving(args: argparse.Namespace, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server, and its port."""
    command = [sys.executable, "-m", "asr.cli.serve", "--model", args.model, "--port", "0"]
    command += ["--threads", str(args.threads), *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"ready on http://127.0.0.1:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield process, int(match[1])
                break
    finally:
        process.kill()
        process.wait()


def ask(port: int, sound: bytes) -> str:
    """The text of a recording, from the server."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = Request(f"http://127.0.0.1:{port}{PATH}", HEAD + sound + TAIL, headers)
    with urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())["text"]


def load(args: argparse.Namespace, folder: Path) -> bool:
    """Whether every text was right; prints the throughputs."""
    paths = sorted(folder.glob("*.wav"))
    sounds = [path.read_bytes() for path in paths]
    command = [sys.executable, "-m", "asr.cli.transcribe", "--model", args.model, "--format", "json", "--quiet"]
    command += ["--threads", str(args.threads)]
    begin, used = time.perf_counter(), children_seconds()
    subprocess.run([*command, paths[0]], check=True, capture_output=True)
    start_seconds, start_used = time.perf_counter() - begin, children_seconds() - used
    begin, used = time.perf_counter(), children_seconds()
    output = subprocess.run([*command, *paths], check=True, capture_output=True, text=True).stdout
    peer_seconds = time.perf_counter() - begin - start_seconds
    peer_used = children_seconds() - used - start_used
    expected = {Path(row["audio"]).name: row["text"] for row in map(json.loads, output.splitlines())}

    with serving(args, "--queue", str(args.requests)) as (process, port), ThreadPoolExecutor(args.clients) as clients:
        ask(port, sounds[0])
        begin, used = time.perf_counter(), process_seconds(process.pid)
        texts = list(clients.map(lambda sound: ask(port, sound), sounds))
        seconds, used = time.perf_counter() - begin, process_seconds(process.pid) - used
    wrong = [path.name for path, text in zip(paths, texts, strict=True) if text != expected[path.name]]
    sound_seconds = args.requests * args.seconds
    print(f"load: {args.requests} requests of {args.seconds:g} s, {args.clients} clients: {len(wrong)} wrong: {wrong}")
    print(f"  asr-serve       {sound_seconds / seconds:6.1f} x real time; {used:.1f} processor seconds")
    print(f"  asr-transcribe  {sound_seconds / peer_seconds:6.1f} x real time; {peer_used:.1f} processor seconds")
    share, by_time = peer_seconds / seconds, peer_used / used
    print(f"  throughput {share:.2f} of asr-transcribe's; by processor time {by_time:.2f}", flush=True)
    return not wrong


def faults(args: argparse.Namespace, folder: Path) -> bool:
    """Whether the server answers as before after all faults; prints its memory."""
    rng, sound = random.Random(args.seed), (folder / "0000.wav").read_bytes()
    flags = ("--patience", "2", "--max-upload-bytes", "1000000", "--queue", "64")
    with serving(args, *flags) as (process, port), ThreadPoolExecutor(16) as clients:
        expected = set(clients.map(lambda _: ask(port, sound), range(128))).pop()  # in batches of all sizes
        memory = [resident_megabytes(process.pid)]
        for _ in range(2):
            list(clients.map(lambda number: fault(port, sound, number, rng.random()), range(args.faults)))
            time.sleep(3)  # until uploads without an end are given up
            is_good = ask(port, sound) == expected and process.poll() is None
            memory.append(resident_megabytes(process.pid))
        descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
    shown = ", ".join(f"{size:.0f}" for size in memory)
    print(f"faults: {args.faults}, and as many again; resident {shown} MB; {descriptors} open files", flush=True)
    return is_good


def fault(port: int, sound: bytes, number: int, chance: float) -> None:
    """One bad request: a changed one, one that is cut, a huge one, a slow one, or sound that is none."""
    body = HEAD + sound + TAIL
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    kind, whole = number % 5, head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    if kind == 0:
        data = bytearray(whole)
        for step in range(20):
            data[int(chance * 7919 * (step + 1)) % (len(data) if step % 2 else 400)] = step * 11 % 256
    elif kind == 1:
        data = bytearray(whole[: int(chance * len(body))])
    elif kind == 2:
        data = bytearray(head.encode() + b"Content-Length: 99999999999\r\n\r\n" + HEAD + bytes(100_000))
    elif kind == 3:
        data = bytearray(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"f4240\r\n" + bytes(10**6) + b"\r\n")
        data += b"f4240\r\n" + bytes(10**6) + b"\r\n0\r\n\r\n"
    else:
        junk = HEAD + sound[:44] + b"\xff\x7f" * int(1 + chance * 1000) + bytes([number % 256]) * 1000 + TAIL
        data = bytearray(head.encode() + f"Content-Length: {len(junk)}\r\n\r\n".encode() + junk)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(data)
            if kind != 1:
                connection.recv(1000)
    except OSError:
        pass


def stop(args: argparse.Namespace, folder: Path) -> bool:
    """Whether all requests that had begun were answered after SIGTERM."""
    sounds = [path.read_bytes() for path in sorted(folder.glob("*.wav"))[: args.clients]]
    answered, refused = [], []
    ended = threading.Event()
    with serving(args) as (process, port), ThreadPoolExecutor(args.clients) as clients:

        def client(sound: bytes) -> None:
            while not ended.is_set():
                connection = socket.socket()
                begun = False
                try:
                    connection.settimeout(600)
                    connection.connect(("127.0.0.1", port))
                    length = len(HEAD + sound + TAIL)
                    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                    head += f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
                    connection.sendall(head.encode())
                    begun = b" 100 " in connection.recv(1000)  # the server has accepted this request
                    connection.sendall(HEAD + sound + TAIL)
                    data = b""
                    while block := connection.recv(65536):
                        data += block
                        if data.endswith(b"}"):
                            break
                    answered.append((begun, b" 200 " in data[:20]))
                except OSError:
                    (answered if begun else refused).append((begun, False))
                    return
                finally:
                    connection.close()

        futures = [clients.submit(client, sound) for sound in sounds]
        time.sleep(max(3.0, args.seconds / 5))
        process.terminate()
        status = process.wait(600)
        ended.set()
        for future in futures:
            future.result()
    lost = [entry for entry in answered if entry[0] and not entry[1]]
    print(
        f"stop: {len(answered)} requests accepted, {len(lost)} lost, {len(refused)} refused at the end; status {status}"
    )
    return not lost and status == 0


def start(args: argparse.Namespace) -> None:
    """Print the time to the first answer."""
    seconds = []
    for _ in range(args.rounds + 1):
        begin = time.perf_counter()
        with serving(args) as (_, port), urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60):
            seconds.append(time.perf_counter() - begin)
    used = children_seconds()
    with serving(args):
        pass
    print(f"start: ready after {spread(seconds[1:], unit='s')}; {children_seconds() - used:.2f} processor seconds")


def children_seconds() -> float:
    """Processor seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def process_seconds(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_megabytes(pid: int) -> float:
    """Memory of a process."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) / 1000


if __name__ == "__main__":
    sys.exit(main())
