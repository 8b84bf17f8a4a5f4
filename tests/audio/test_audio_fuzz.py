"""Damaged sound files of every format give samples or a named error: never another exception, a crash, a hang or 1 GB.

A crash or a hang inside a C library cannot be caught, so the files are read in a worker process: this file, run as
`python tests/audio/test_audio_fuzz.py SEED FIRST LAST`, which is also how to look at one file again.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

if sys.platform != "linux":
    pytest.skip("the limits of a process are those of Linux", allow_module_level=True)
import resource

from asr.audio.waveform import duration_seconds, read_audio
from asr.errors import AsrError, AsrWarning

FORMATS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("NIST", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("CAF", "PCM_16"),
    ("AU", "PCM_16"),
    ("SDS", "PCM_16"),
    ("CAF", "ALAC_16"),
]
EXTREMES = [0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
SECONDS_PER_FILE = 10
BYTES_ALLOWED = 2**30


# --- the damage


def sound_files() -> list[bytes]:
    """0.3 s in each format, in one channel and in two; some with tags, in several pieces, and one after another."""
    time = np.arange(4_800) / 16_000
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 1_000 * time**2)], axis=1) / 2
    files: dict[tuple[str, str, int], bytes] = {}
    for container, subtype in FORMATS:
        for channels in (1, 2) if container != "SDS" else (1,):
            file = io.BytesIO()
            soundfile.write(file, stereo[:, :channels], 16_000, format=container, subtype=subtype)
            data = bytearray(file.getvalue())
            for start, _ in ogg_pages(data):
                data[start + 14 : start + 18] = b"0001"  # the serial number, random otherwise
            seal_pages(data)
            files[container, subtype, channels] = bytes(data)
    mp3, other_mp3 = (files["MP3", "MPEG_LAYER_III", channels] for channels in (1, 2))
    plain_mp3 = mp3[mp3.index(mp3[:2], 2) :]  # without the frame of the Xing header
    id3 = b"ID3\4\0\0\0\0\0\x20" + bytes(32)
    ape = b"APETAGEX" + bytes((0xD0, 7, 0, 0, 32, 0, 0, 0)) + bytes(7) + b"\x80" + bytes(8)
    tagged_mp3 = id3 + mp3 + ape + b"TAG" + bytes(125)
    wav, flac, aiff, au = (files[container, "PCM_16", 1] for container in ("WAV", "FLAC", "AIFF", "AU"))
    ogg, two_chunks = files["OGG", "VORBIS", 1], wav + wav[36:]
    several = [tagged_mp3, plain_mp3, tagged_mp3 + plain_mp3 + other_mp3, two_chunks, wav + wav, flac + flac, ogg + ogg]
    return [*files.values(), *several, wav + aiff + au + flac, two_chunks + wav + ogg]


def overwrite_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for position in rng.integers(len(data), size=rng.integers(1, 20)):
        data[position] = rng.integers(256)


def overwrite_header_field(data: bytearray, rng: np.random.Generator) -> None:
    width, order = int(rng.choice([2, 4, 8])), str(rng.choice(["little", "big"]))
    position = int(rng.integers(min(len(data), 128)))
    value = int(rng.choice(EXTREMES)) % 2 ** (8 * width)
    data[position : position + width] = value.to_bytes(width, order)


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data)) :]


def extend(data: bytearray, rng: np.random.Generator) -> None:
    size = int(rng.integers(1, 4_096))
    data += bytes(size) if rng.random() < 0.5 else rng.bytes(size)


def cut_out(data: bytearray, rng: np.random.Generator) -> None:
    start, end = sorted(rng.integers(len(data) + 1, size=2))
    del data[start:end]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    start, end = sorted(rng.integers(len(data) + 1, size=2))
    data[end:end] = data[start:end]


def damaged(files: list[bytes], rng: np.random.Generator) -> bytes:
    data = bytearray(files[rng.integers(len(files))])
    if rng.random() < 0.15:  # splice: one file's head, another's tail
        other = files[rng.integers(len(files))]
        data[rng.integers(len(data)) :] = other[rng.integers(len(other)) :]
    changes = [overwrite_bytes, overwrite_header_field, overwrite_header_field, truncate, extend, cut_out, repeat]
    for choice in rng.integers(len(changes), size=rng.integers(1, 4)):
        if data:
            changes[choice](data, rng)
    if rng.random() < 0.5:
        seal_pages(data)
    return bytes(data)


def ogg_pages(data: bytearray) -> Iterator[tuple[int, int]]:
    """[start, end) of the pages that a file begins with; none if it is no Ogg."""
    start = 0
    while data[start : start + 4] == b"OggS" and len(data) >= start + 27:
        lacing = data[start + 27 : start + 27 + data[start + 26]]
        yield start, start + 27 + len(lacing) + sum(lacing)
        start += 27 + len(lacing) + sum(lacing)


def seal_pages(data: bytearray) -> None:
    """Set the checksums of Ogg pages, without which the damage would never reach the decoders."""
    for start, end in ogg_pages(data):
        data[start + 22 : start + 26] = bytes(4)
        checksum = 0
        for byte in data[start:end]:
            checksum = (checksum << 8) & 0xFFFF_FFFF ^ OGG_CHECKSUMS[checksum >> 24 ^ byte]
        data[start + 22 : start + 26] = checksum.to_bytes(4, "little")


def ogg_checksum(byte: int) -> int:
    """The remainder of one byte by the polynomial 0x04C11DB7 (RFC 3533, section 6)."""
    value = byte << 24
    for _ in range(8):
        value = (value << 1) ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)
    return value & 0xFFFF_FFFF


OGG_CHECKSUMS = [ogg_checksum(byte) for byte in range(256)]


# --- the worker


def outcome(path: Path) -> str:
    """ "samples", "error", or what must not happen."""
    try:
        try:
            waveform = read_audio(path)
        except AsrError as error:
            duration_or_error(path)
            return "error" if str(path) in str(error) else f"an error that does not name the file: {error}"
        good = waveform.dtype == np.float32 and waveform.ndim == 1 and len(waveform) > 0 and np.isfinite(waveform).all()
        if not good or not duration_or_error(path) > 0:
            return f"samples {waveform.dtype} {waveform.shape}, duration {duration_or_error(path)}"
        return "samples"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def duration_or_error(path: Path) -> float:
    try:
        return duration_seconds(path)
    except AsrError:
        return 1.0


def peak_memory() -> int:
    """Bytes of this program, where `ru_maxrss` begins with those of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def work(seed: int, first: int, last: int) -> None:
    """Reads files first..last-1; a line before each and a line after, so that the last one tells who killed us."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", AsrWarning)
    resource.setrlimit(resource.RLIMIT_AS, (4 * BYTES_ALLOWED, 4 * BYTES_ALLOWED))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = sound_files()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for index in range(first, last):
            print(json.dumps([index, "started"]), flush=True)
            path.write_bytes(damaged(files, np.random.default_rng([seed, index])))
            signal.alarm(SECONDS_PER_FILE)  # unhandled, so it ends the process wherever it hangs
            result = outcome(path)
            signal.alarm(0)
            too_much = peak_memory() > BYTES_ALLOWED
            print(json.dumps([index, f"{peak_memory()} bytes" if too_much else result]), flush=True)
            if too_much:
                sys.exit("the peak would be that of every later file too")


# --- the tests


def outcomes(seed: int, count: int) -> dict[int, str]:
    """Of each file; a worker that died is replaced by one that begins after the file that killed it, three times."""
    found: dict[int, str] = {}
    # The modules that we have; and no ffmpeg, which would hide what libsndfile refuses.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": ""}
    deaths = 0
    while len(found) < count and deaths < 3:
        command = [sys.executable, __file__, str(seed), str(len(found)), str(count)]
        worker = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        assert worker.returncode or not worker.stderr, worker.stderr  # what C libraries say is kept from users
        lines = [json.loads(line) for line in worker.stdout.splitlines()]
        assert lines, worker.stderr
        found |= {index: result for index, result in lines if result != "started"}
        if worker.returncode:
            deaths += 1
            found.setdefault(lines[-1][0], f"exit status {worker.returncode}, a signal if negative")
    return found


def test_damaged_files_give_samples_or_a_named_error(seed: int, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--fuzz-files")
    results = outcomes(seed, count)
    bad = {index: result for index, result in results.items() if result not in ("samples", "error")}
    assert not bad, f"seed {seed}: {bad}"
    kinds = Counter(results.values())
    assert min(kinds["samples"], kinds["error"]) > count / 10, f"damage must be neither harmless nor total: {kinds}"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_sealed_pages_are_those_of_the_encoder(subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(4_800), 16_000, format="OGG", subtype=subtype)
    data = bytearray(file.getvalue())
    assert len(list(ogg_pages(data))) >= 3
    seal_pages(data)
    assert data == file.getvalue()


def test_damage_can_be_repeated() -> None:
    assert damaged(sound_files(), np.random.default_rng([7, 7])) == damaged(
        sound_files(), np.random.default_rng([7, 7])
    )


if __name__ == "__main__":
    work(*map(int, sys.argv[1:]))
