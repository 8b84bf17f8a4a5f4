"""Locks against other processes, and against the same one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from asr.files import locks
from asr.files.locks import locked

HOLDER = """
import sys, time
from asr.files.locks import locked
with locked(sys.argv[1]) as own:
    print(own, flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"True\n"
        with locked(path) as own:
            assert not own
        holder.kill()
        holder.wait()
        with locked(path) as own:
            assert own


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock", wait=True) as own:
            order.append(f"second {own}")

    with locked(tmp_path / "lock") as own:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.15)
        order.append(f"first {own}")
    thread.join()
    assert order == ["first True", "second True"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "fcntl", SimpleNamespace(flock=flock, LOCK_EX=2, LOCK_NB=4))
    with locked(tmp_path / "lock", wait=True) as own:
        assert own


def test_the_locks_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as can be tried elsewhere: the byte at the start of the file, and its error when that is locked."""
    held: set[int] = set()

    def locking(descriptor: int, mode: int, num_bytes: int) -> None:
        assert (mode, num_bytes) == (2, 1)
        if held:
            raise PermissionError(13, "Permission denied")
        held.add(descriptor)

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with locked(tmp_path / "lock") as own, locked(tmp_path / "lock") as other:
        assert (own, other) == (True, False)


@pytest.mark.parametrize("third", [False, True])
def test_a_lock_that_its_holder_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third: bool) -> None:
    """Between the moments when another opens it and locks it; a third has made and locked a new one by then, or not."""
    path, real, new = tmp_path / "lock", locks.try_lock, []

    def lock(file: int) -> bool:
        if not new:
            path.unlink()
            new.append(open(path, "ab") if third else None)  # noqa: SIM115
            if third:
                assert real(new[0].fileno())
        return real(file)

    monkeypatch.setattr(locks, "try_lock", lock)
    with locked(path) as own:
        assert own is not third
        with locked(path) as other:
            assert not other
    if third:
        new[0].close()
