"""asr.audio.excerpts against slices of bytes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from asr.audio.excerpts import Excerpt, FileBytes


@pytest.fixture
def content(rng: np.random.Generator) -> bytes:
    return rng.bytes(200_000)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "a").write_bytes(content)
    return tmp_path / "a"


@pytest.mark.parametrize("head", [b"", b"before"])
@pytest.mark.parametrize("ranges", [[], [(0, 200_000)], [(5, 6), (6, 6), (100_000, 150_000), (3, 9)]])
def test_an_excerpt_is_its_pieces(path: Path, content: bytes, rng: np.random.Generator, head, ranges) -> None:
    expected = head + b"".join(content[start:end] for start, end in ranges) + b"behind"
    with path.open("rb") as file:
        excerpt = Excerpt(file, ranges, head=head, tail=b"behind")
        assert excerpt.read() == expected and excerpt.read() == b""
        assert excerpt.seek(0, os.SEEK_END) == excerpt.tell() == len(expected)
        for start, count in rng.integers(len(expected) + 5, size=(100, 2)):
            assert excerpt.seek(start) == start
            assert excerpt.read(count) == expected[start : start + count]
        excerpt.seek(3)
        assert excerpt.seek(2, os.SEEK_CUR) == 5 and excerpt.seek(-9, os.SEEK_SET) == 0
        assert file.tell() == 0


def test_an_excerpt_of_what_is_not_there_ends_early(path: Path, content: bytes) -> None:
    with path.open("rb") as file:
        excerpt = Excerpt(file, [(199_000, 300_000)], tail=b"behind")
        assert excerpt.read(5_000) == content[199_000:] and excerpt.read(1) == b""


def test_bytes_are_those_of_the_file_up_to_the_end(path: Path, content: bytes, rng: np.random.Generator) -> None:
    with path.open("rb") as file:
        data = FileBytes(file, 150_000)
        for start, count in rng.integers(200_000, size=(200, 2)):
            assert data.at(start, count % 1_000) == content[:150_000][start : start + count % 1_000]
        assert data.at(-1, 5) == b""


@pytest.mark.parametrize("place", [5, 6, 65_536, 134_464, 199_999, 200_000])
def test_zeros_begin_where_they_begin(tmp_path: Path, place: int) -> None:
    (tmp_path / "a").write_bytes(b"\1" * place + bytes(200_000 - place))
    with (tmp_path / "a").open("rb") as file:
        assert FileBytes(file, 200_000).before_zeros(5) == place
        assert FileBytes(file, 200_000).before_zeros(199_000) == max(place, 199_000)
        assert FileBytes(file, place).before_zeros(5) == place


@pytest.mark.parametrize("place", [0, 1, 65_536, 131_071, 200_000])
def test_zeros_end_where_they_end(tmp_path: Path, place: int) -> None:
    (tmp_path / "a").write_bytes(bytes(place) + b"\1" * (200_000 - place))
    with (tmp_path / "a").open("rb") as file:
        data = FileBytes(file, 200_000)
        assert data.after_zeros(0) == data.after_zeros(place) == place


def test_a_search_finds_what_lies_across_blocks(tmp_path: Path) -> None:
    pattern = re.compile(b"fLaC")
    for place in (0, 1, 65_533, 65_535, 65_536, 131_070, 199_996):
        (tmp_path / "a").write_bytes(bytes(place) + b"fLaC" + bytes(200_000 - place - 4))
        with (tmp_path / "a").open("rb") as file:
            assert FileBytes(file, 200_000).search(pattern, 0) == place
            assert FileBytes(file, 200_000).search(pattern, place + 1) == 200_000
            assert FileBytes(file, place + 3).search(pattern, 0) == place + 3


def test_short_runs_of_zeros_are_no_reason_to_read_a_file_often(tmp_path: Path, monkeypatch) -> None:
    content = b"\0\0x\1" * 5_000 + bytes(200_000) + b"x"
    (tmp_path / "a").write_bytes(content)
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: read.append(arguments[1]) or pread(*arguments))
    with (tmp_path / "a").open("rb") as file:
        data = FileBytes(file, len(content))
        assert [data.after_zeros(place) for place in range(0, 20_000, 4)] == [*range(2, 20_000, 4)]
        assert data.after_zeros(20_000) == 220_000 and data.after_zeros(220_000) == 220_000
    assert sum(read) < 2 * len(content)


def test_places_are_found_from_the_end(tmp_path: Path, rng) -> None:
    content = rng.integers(0, 4, 200_000, np.uint8).tobytes()
    (tmp_path / "a").write_bytes(content)
    pattern = re.compile(rb"\x01\x02(?=\x03\x00)")
    with (tmp_path / "a").open("rb") as file:
        found = list(FileBytes(file, len(content)).backwards(pattern, (99, 190_001), 6))
    expected = [match.start() for match in pattern.finditer(content, 99, 190_001)]
    assert found == [(place, content[place : min(place + 6, 190_001)]) for place in reversed(expected)]
