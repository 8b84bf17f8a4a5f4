"""Files for later processes are read and written only where no other user can write."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from asr.files.caches import open_cache, user_cache_folder, writing_cache


@pytest.fixture
def path(tmp_path) -> Path:
    """A cache in a folder of its own, below two others."""
    path = tmp_path / "a" / "b" / "x.cache"
    with writing_cache(path) as file:
        file.write(b"content")
    return path


def read(path: Path) -> bytes:
    with open_cache(path) as file:
        return file.read()


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes another user the owner, for what looks at it."""
    if os.geteuid() == 0:
        os.chown(path, 54321, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


def assert_refused(path: Path, place: Path) -> None:
    for use in (read, lambda path: writing_cache(path).__enter__()):
        with pytest.raises(OSError, match="another user can write here, so it is not used as a cache") as caught:
            use(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EPERM, str(place))


def test_what_is_written_is_read(path):
    assert read(path) == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with writing_cache(path, mode=0o644) as file:
        file.write(b"new")
    assert (read(path), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o644)
    assert os.listdir(path.parent) == ["x.cache"]


def test_what_is_made_is_trusted_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with writing_cache(tmp_path / "new" / "er" / "x", mode=0o644) as file:
            file.write(b"content")
    finally:
        os.umask(before)
    assert read(tmp_path / "new" / "er" / "x") == b"content"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(path, mode):
    path.parent.chmod(mode)
    assert_refused(path, path.parent)


def test_a_folder_above_must_not_be_for_others_to_write_unless_it_is_sticky(path):
    path.parents[1].chmod(0o777)
    assert_refused(path, path.parents[1])
    path.parents[1].chmod(0o1777)
    assert read(path) == b"content"


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_of_another_user_is_refused(path, level, monkeypatch):
    give_away(path.parents[level], monkeypatch)
    with pytest.raises(OSError, match="another user can write here"):
        read(path)


def test_a_file_of_another_user_is_refused(path, monkeypatch):
    give_away(path, monkeypatch)
    with pytest.raises(OSError, match="another user can write here"):
        read(path)


@pytest.mark.parametrize("mode", [0o666, 0o660])
def test_a_file_that_others_can_write_to_is_refused(path, mode):
    path.chmod(mode)
    with pytest.raises(OSError, match="another user can write here"):
        read(path)


def test_a_link_in_the_place_of_the_file_is_not_followed(path, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"mine")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        read(path)
    with writing_cache(path) as file:
        file.write(b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert read(path) == b"new" and not path.is_symlink()


def test_a_link_to_a_folder_counts_as_what_it_leads_to(path, tmp_path):
    (tmp_path / "link").symlink_to(path.parent)
    assert read(tmp_path / "link" / path.name) == b"content"
    path.parent.chmod(0o777)
    assert_refused(tmp_path / "link" / path.name, path.parent)


def test_what_is_no_file_is_refused_without_waiting(path):
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="another user can write here"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(path.with_name("none"))


def test_the_users_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert user_cache_folder() == Path("/x/asr")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_cache_folder() is None
