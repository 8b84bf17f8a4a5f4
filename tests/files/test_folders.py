"""Folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.files import folders
from asr.files.folders import replacing_folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one old file."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old").write_text("old")
    return tmp_path / "x"


@pytest.fixture(params=["at once", "one after the other"])
def way(request, monkeypatch) -> str:
    """Both ways to put a folder in the place of another."""
    if request.param != "at once":
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    return request.param


def replace(folder: Path) -> None:
    with replacing_folder(folder) as new:
        (new / "new").write_text("new")


def test_a_folder_is_made_or_replaced(folder, way):
    replace(folder)
    replace(folder.parent / "y" / "z")
    assert os.listdir(folder) == os.listdir(folder.parent / "y" / "z") == ["new"]
    assert sorted(os.listdir(folder.parent)) == ["x", "y"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_one_that_fails_leaves_the_old_one(folder, way):
    with pytest.raises(RuntimeError), replacing_folder(folder) as new:
        (new / "half").write_text("half")
        raise RuntimeError
    assert (os.listdir(folder), os.listdir(folder.parent)) == (["old"], ["x"])


def test_a_rename_that_fails_puts_the_old_one_back(folder, monkeypatch):
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    rename = Path.rename

    def fail_on_the_new_one(self: Path, target: Path) -> Path:
        if target == folder and self.name != "x":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        replace(folder)
    assert (os.listdir(folder), os.listdir(folder.parent)) == (["old"], ["x"])


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no exchange of names")
def test_two_folders_change_names_in_one_step(folder, tmp_path):
    (tmp_path / "y").mkdir()
    assert folders._exchange(folder, tmp_path / "y")
    assert (os.listdir(folder), os.listdir(tmp_path / "y")) == ([], ["old"])
    assert not folders._exchange(folder, tmp_path / "nowhere")


@pytest.mark.parametrize("copied", [False, True])
def test_a_full_disk_is_an_error_of_the_folder(folder, tmp_path, monkeypatch, copied):
    def fail(source: str, destination: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source, None, destination)

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights").touch()
    with pytest.raises(OSError, match="No space left") as caught, replacing_folder(folder) as new:
        if copied:
            shutil.copytree(tmp_path / "source", new / "inner", copy_function=fail)
        fail(str(tmp_path / "source"), str(new))
    assert (caught.value.filename, caught.value.strerror) == (str(folder), "No space left on device")
    assert os.listdir(folder) == ["old"] and type(caught.value) is OSError


def test_a_file_that_cannot_be_copied_is_named(folder, tmp_path):
    def fail(source: str, destination: str, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", source)

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights").touch()
    with pytest.raises(PermissionError) as caught, replacing_folder(folder) as new:
        shutil.copytree(tmp_path / "source", new / "inner", copy_function=fail)
    assert caught.value.filename == str(tmp_path / "source" / "weights")


def test_a_folder_that_cannot_be_made_has_its_own_name(tmp_path, monkeypatch):
    def fail(prefix: str, suffix: str, dir: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", f"{dir}/{prefix}a{suffix}")

    monkeypatch.setattr(folders.tempfile, "mkdtemp", fail)
    with pytest.raises(PermissionError) as caught, replacing_folder(tmp_path / "model"):
        pass
    assert caught.value.filename == str(tmp_path / "model")


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(NotADirectoryError, match=r"a part of this path is a file: .*a\.txt'$"):
        replacing_folder(tmp_path / "a.txt" / "folder").__enter__()


@pytest.mark.parametrize("name", ["x", "x[1]"])
def test_what_a_killed_process_left_goes_with_the_next_one(folder, monkeypatch, name):
    folder = folder.rename(folder.with_name(name))
    code = (
        "import os, sys; from pathlib import Path; from asr.files.folders import replacing_folder\n"
        "with replacing_folder(Path(sys.argv[1])) as new: (new / 'half').touch(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == -9
    (left,) = folder.parent.glob(".x*")
    assert os.listdir(folder) == ["old"]
    replace(folder)
    assert left.exists()  # it might be another process that has just begun
    monkeypatch.setattr(folders, "_FRESH", -1)
    with replacing_folder(folder) as new:
        assert not left.exists()
        replace(folder)  # which leaves alone what is being filled
        (new / "last").touch()
    assert (os.listdir(folder), os.listdir(folder.parent)) == (["last"], [name])
