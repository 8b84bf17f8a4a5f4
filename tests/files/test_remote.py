"""Files behind URLs are listed and read as those on a disk are, and what it takes to reach them is said."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem

from asr.audio.waveform import read_audio
from asr.errors import ConfigError, DataError
from asr.files.remote import is_url, names_below, opened, place_of


@pytest.mark.parametrize("name", ["s3://bucket/a", "https://host/a.wav", "memory://x", "file:///tmp"])
def test_urls_are_told_by_their_form(name: str) -> None:
    assert is_url(name)


@pytest.mark.parametrize(
    "name", ["talk.wav", "/a/b", "C:\\talk.wav", "c:/talk.wav", "a/s3://b", "http:", "://", "-", ""]
)
def test_paths_are_no_urls(name: str) -> None:
    assert not is_url(name)


def test_a_name_in_a_store_may_have_any_character() -> None:
    assert place_of("s3://bucket/a/b#1?.wav").name == "b#1?.wav"


@pytest.mark.parametrize("name", ["day 1", "100%", "a::b", "c#d"])
def test_odd_names_are_found(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.txt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for folder in (name, str(tmp_path / name), (tmp_path / name).as_uri()):
        assert names_below(folder) == ["x.txt"]
        with opened(f"{folder}/x.txt") as file:
            assert file.read() == b"x"


class Refusing(MemoryFileSystem):
    """A store whose errors are of no known kind."""

    protocol = "refusing"

    def _open(self, path: str, *_: object, **__: object) -> None:
        raise RuntimeError("Denied: 403")

    def find(self, path: str, **_: object) -> list[str]:
        raise RuntimeError


def test_errors_of_any_store_name_the_file() -> None:
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    with pytest.raises(DataError, match=r"refusing://bucket/a.wav: cannot be read: Denied: 403"):
        read_audio("refusing://bucket/a.wav")
    with pytest.raises(DataError, match=r"refusing://bucket: cannot be read: RuntimeError"):
        names_below("refusing://bucket")


def test_an_error_while_reading_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("the connection was lost")

    with fsspec.open("memory://sounds/b.wav", "wb") as file:
        file.write(bytes(100))
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", fail)
    with pytest.raises(DataError, match=r"^memory://sounds/b.wav: cannot be read: the connection was lost$"):
        read_audio("memory://sounds/b.wav")


def test_a_full_disk_is_not_blamed_on_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with fsspec.open("memory://sounds/c.wav", "wb") as file:
        file.write(bytes(100))

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(DataError, match=r"c\.wav: its copy in .* cannot be written: No space left on device"):
        read_audio("memory://sounds/c.wav")


def test_the_place_in_a_url_leaves_out_the_question() -> None:
    assert place_of("https://host/a/talk.wav?key=a/b.c#x").name == "talk.wav"


def test_a_sound_behind_a_url_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    soundfile.write(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, 4000), 16_000)
    url = (tmp_path / "a.flac").as_uri()
    assert np.array_equal(read_audio(url), read_audio(tmp_path / "a.flac"))
    with fsspec.open("memory://sounds/a.flac", "wb") as file:
        file.write((tmp_path / "a.flac").read_bytes())
    assert np.array_equal(read_audio("memory://sounds/a.flac"), read_audio(tmp_path / "a.flac"))


def test_files_are_listed_with_those_below(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z.wav", "b/a.txt"):
        (tmp_path / name).touch()
    for folder in (str(tmp_path), tmp_path.as_uri(), f"{tmp_path.as_uri()}/"):
        assert names_below(folder) == ["b/a.txt", "z.wav"]
    assert names_below(str(tmp_path), depth=1) == ["z.wav"]
    assert names_below("memory://nothing/there") == [] == names_below(str(tmp_path / "none"))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"memory://none/a.wav: cannot be read: "):
        read_audio("memory://none/a.wav")
    with (
        pytest.raises(DataError, match=r"file:///none/a.wav: cannot be read: .*No such file"),
        opened("file:///none/a.wav"),
    ):
        pass


def test_an_empty_file_is_named() -> None:
    with fsspec.open("memory://empty.wav", "wb"):
        pass
    with pytest.raises(DataError, match=r"memory://empty.wav: must hold sound; it is empty"):
        read_audio("memory://empty.wav")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(DataError, match="nosuch://a/b: cannot be read: Protocol not known: nosuch"):
        read_audio("nosuch://a/b")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.open", lacking)
    with pytest.raises(ConfigError, match=r"s3://bucket/a\.wav cannot be reached: Install s3fs to access S3"):
        read_audio("s3://bucket/a.wav")


def test_of_a_web_address_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ImportError("HTTPFileSystem requires more")

    monkeypatch.setattr("fsspec.open", lacking)
    with pytest.raises(ConfigError, match=r"a\.wav cannot be reached: web addresses need aiohttp, .* 'asr\[urls\]'$"):
        read_audio("https://host/a.wav")
