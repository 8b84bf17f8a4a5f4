"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.files.reading import identity, open_regular, read_json, read_regular
from asr.files.writing import check_writable, replacing, write_whole


def test_a_file_is_written_whole_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    write_whole(path, "好棒\nφ\n")
    assert path.read_bytes() == "好棒\nφ\n".encode()
    write_whole(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x.txt"]


def test_what_utf8_cannot_hold_is_escaped(tmp_path):
    write_whole(tmp_path / "x", "a\udcffb")
    assert (tmp_path / "x").read_text() == "a\\udcffb"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch, step, error):
    path = tmp_path / "x.txt"
    write_whole(path, "old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_whole(path, "new and longer")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_place_is_checked_before_the_work(tmp_path):
    path = tmp_path / "new" / "a.txt"
    check_writable(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_writable(tmp_path)
    for write in (check_writable, lambda place: write_whole(place, "x")):
        for below in (path / "b.txt", path / "c" / "b.txt"):
            with pytest.raises(NotADirectoryError, match="a part of this path is a file"):
                write(below)
    check_writable("/dev/null")


def test_on_windows_a_place_is_checked_without_removing_an_open_file(tmp_path, monkeypatch):
    unlink, opened = Path.unlink, []

    def refuse_open(path: Path) -> None:
        assert all(file.closed for file in opened)
        unlink(path)

    def remember(path: Path, mode: str) -> object:
        opened.append(open(path, mode))  # noqa: SIM115 - check_writable closes it
        return opened[-1]

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "unlink", refuse_open)
    monkeypatch.setattr("asr.files.writing.open", remember, raising=False)
    check_writable(tmp_path / "a.txt")
    assert opened and os.listdir(tmp_path) == []


def test_an_error_in_the_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "x") as file:
        file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda source, target: (events.append("replace"), replace(source, target)))
    write_whole(tmp_path / "file", b"content")
    assert events == ["fsync", "replace"]


def leave_half(path: Path) -> Path:
    """What a process leaves that is killed while it writes: nothing of Python's is cleaned up."""
    code = (
        "import os, sys; from asr.files.writing import replacing\n"
        "with replacing(sys.argv[1]) as file: file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    (left,) = path.parent.glob(".*.tmp")
    return left


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "x.txt"
    assert leave_half(path).read_bytes() == b"half"
    write_whole(path, "new")
    assert os.listdir(tmp_path) == ["x.txt"]
    assert path.read_text() == "new"


def test_writers_at_the_same_time_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "x.txt"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            assert len(list(tmp_path.glob(".x.txt*.tmp"))) == 2
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_where_there_are_no_locks_files_are_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_whole(tmp_path / "x", "content")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("make", ["link", "hard link", "pipe", "folder"])
def test_what_another_put_in_the_place_of_the_half_file_is_left_alone(tmp_path, make):
    path, other, half = tmp_path / "x", tmp_path / "other", tmp_path / ".x.tmp"
    other.write_text("mine")
    if make == "link":
        half.symlink_to(other)
    elif make == "hard link":
        half.hardlink_to(other)
    else:
        (os.mkfifo if make == "pipe" else os.mkdir)(half)
    write_whole(path, "new")
    assert (path.read_text(), other.read_text()) == ("new", "mine")
    assert not path.is_symlink() and half.exists()


def test_links_are_followed_or_replaced(tmp_path):
    (tmp_path / "link").symlink_to("x.txt")
    write_whole(tmp_path / "link", "through")
    assert (tmp_path / "x.txt").read_text() == "through"
    with replacing(tmp_path / "link", follow=False) as file:
        file.write(b"in its place")
    assert (tmp_path / "x.txt").read_text() == "through"
    assert (tmp_path / "link").read_text() == "in its place" and not (tmp_path / "link").is_symlink()


def test_a_long_name_has_room_for_no_more(tmp_path):
    path = tmp_path / ("x" * 255)
    write_whole(path, "content")
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_that_changes_is_another(tmp_path):
    path = tmp_path / "x"
    path.write_text("one")
    before, status = identity(path), path.stat()
    assert identity(path) == before
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert identity(path) != before
    (tmp_path / "link").symlink_to(path)
    assert identity(tmp_path / "link") == identity(path)
    with pytest.raises(FileNotFoundError):
        identity(tmp_path / "none")


def test_regular_files_are_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    with open_regular(path) as file:
        assert file.read() == b"content"
    assert read_regular(path, at_most=7) == b"content"
    with pytest.raises(OSError, match="it must have at most 6 bytes, but has more"):
        read_regular(path, at_most=6)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    for name in ("a\0b", "\ud800"):
        with pytest.raises(OSError, match=r"embedded null byte|surrogates not allowed"):
            open_regular(name)


def test_what_has_no_end_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, kind in ((tmp_path / "pipe", "pipe"), (tmp_path / "link", "device"), (tmp_path, "folder")):
        with pytest.raises(OSError, match=f"it must be a regular file, not a {kind}"):
            open_regular(path)


def test_a_pipe_that_is_open_already_is_read_and_waited_for():
    code = "import sys; from asr.files.reading import open_regular as o; sys.stdout.buffer.write(o(sys.argv[1]).read())"
    for name in ("/dev/stdin", "/dev/fd/0"):
        command = f"(sleep 0.2; echo late) | {sys.executable} -c '{code}' {name}"
        assert subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout == "late\n"


def test_json_is_read_and_what_is_none_has_a_reason(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"é": 1}', encoding="utf-8")
    assert read_json(path) == {"é": 1}
    for content, reason in (
        ("[" * 10**5, "it is nested too deep"),
        ("{", "Expecting"),
        ("9" * 5000, "its whole numbers must have at most [0-9]+ digits, but one has more$"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=reason):
            read_json(path)
