"""Texts in every encoding that a byte-order mark says, and files that have no end."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.files import texts as text_files
from asr.files.reading import open_regular
from asr.files.texts import decode_text, lines_with_ends, read_text, text_lines, unpacked

MARKED = ["utf-8-sig", "utf-16", "utf-32"]


def encoded(text: str, encoding: str, *, swapped: bool = False) -> bytes:
    """The text with a byte-order mark, in the order of bytes that is not this machine's if swapped."""
    if swapped:
        other = "be" if sys.byteorder == "little" else "le"
        return f"\ufeff{text}".encode(f"{encoding}-{other}")
    return text.encode(encoding)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("encoding", MARKED)
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str, swapped: bool) -> None:
    if encoding == "utf-8-sig" and swapped:
        return
    path = tmp_path / "a.txt"
    path.write_bytes(encoded("Grüße\r\n好\n", encoding, swapped=swapped))
    assert read_text(path) == "Grüße\r\n好\n"
    assert read_text(path, "latin-1") == "Grüße\r\n好\n"
    with open(path, "rb") as file:
        assert list(text_lines(file, path)) == ["Grüße", "好"]
    with open(path, "rb") as file:
        assert list(lines_with_ends(file)) == ["Grüße\r\n", "好\n"]
    with gzip.open(io.BytesIO(gzip.compress(path.read_bytes()))) as file:
        assert list(text_lines(file, path)) == ["Grüße", "好"]


def test_text_of_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\nGrüße".encode("latin-1"))
    assert read_text(path, "latin-1") == "one\nGrüße"
    with pytest.raises(DataError, match=r"a.txt:2: must be text in utf-8: invalid"):
        read_text(path)
    with pytest.raises(
        DataError, match=r"a.txt:2: must be text in utf-8, or set its encoding with --encoding: invalid"
    ):
        read_text(path, flag="--encoding")
    with pytest.raises(DataError, match=r"none.txt: cannot be read: No such file"):
        read_text(tmp_path / "none.txt")


def test_utf_16_without_a_mark_is_refused_by_name() -> None:
    content = "one\ntwo\n".encode("utf-16-le")
    with pytest.raises(DataError, match=r"-:1: must be text, but has NUL.*UTF-16 without a byte-order mark: save"):
        decode_text(content, "-")
    assert decode_text(content, "-", "utf-16-le") == "one\ntwo\n"
    with pytest.raises(DataError, match="use --encoding utf-16-le, or save"):
        decode_text(content, "-", flag="--encoding")
    with pytest.raises(DataError, match=r"a:1: must be text, but has NUL"):
        list(text_lines(io.BytesIO(content), "a"))
    with pytest.raises(DataError, match=r"a:1: the text must be UTF-16-LE, but truncated data at byte"):
        list(text_lines(io.BytesIO("\ufeffone".encode("utf-16-le")[:-1]), "a"))
    with pytest.raises(DataError, match=r"a:2: must be text in utf-16-le: truncated data"):
        decode_text("\ufeffone\n.".encode("utf-16-le")[:-1], "a")


def test_a_text_has_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(text_files, "MOST_BYTES", 3 << 20)
    with pytest.raises(DataError, match=r"big: a text must have at most 3 MB, but this file has more"):
        decode_text(b"a" * ((3 << 20) + 1), "big")
    monkeypatch.setattr(text_files, "MOST_LINE", 10)
    assert list(text_lines(io.BytesIO(b"a" * 9 + b"\nb"), "a")) == ["a" * 9, "b"]
    with pytest.raises(DataError, match="a:2: a line must have at most 10 characters"):
        list(text_lines(io.BytesIO(b"a\n" + b"b" * 99), "a"))


def test_what_has_no_end_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(DataError, match=f"{path}: cannot be read: it must be a regular file, not a {kind}"):
            read_text(path)


def test_a_pipe_that_the_shell_has_made_is_read() -> None:
    command = [sys.executable, "-c", "import sys; from asr.files.texts import *; print(read_text(sys.argv[1]))"]
    script = f"{command[0]} -c '{command[2]}' <(echo hello); echo you | {command[0]} -c '{command[2]}' /dev/stdin"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["hello", "you"]


def test_a_regular_file_is_read_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with open_regular(tmp_path / "a") as file:
        assert (file.read(2), file.read()) == (b"ab", b"c")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(b"\n" * 5_000_000))
    with open(path, "rb") as file, unpacked(file, path) as content:
        assert len(content.read()) == 5_000_000  # which is soon read, whatever it is packed to
    path.write_bytes(compress(b"\n" * 15_000_000))
    with open(path, "rb") as file, unpacked(file, path) as content:
        with pytest.raises(
            DataError, match=f"{path.name}: a compressed text must unpack to at most 200 times its size"
        ):
            list(iter(lambda: content.read(1 << 20), b""))
        assert content.raw._num_unpacked < 14_000_000  # type: ignore[attr-defined]


def test_what_is_packed_well_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of which only a number differs."""
    monkeypatch.setattr(text_files, "FREE_BYTES", 0)
    lines = [f'{{"id": "corpus-{number}", "text": "the same text in every line"}}' for number in range(20_000)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with open(path, "rb") as file, unpacked(file, path) as content:
        assert list(text_lines(content, path)) == lines
    with open(path, "rb") as file:
        assert unpacked(file, "a.jsonl") is file
