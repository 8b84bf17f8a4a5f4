"""Whose the results in a folder are, with commands one after another, at the same time, and killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import AsrWarning, ConfigError
from asr.recognition.output_folder import claim, names_in, read_names, write_names
from asr.recognition.recordings import Recording, find_recordings, name_recordings


@pytest.fixture
def talks(tmp_path: Path) -> Callable[[str], list]:
    """Makes a recording FOLDER/talk.wav; what is found there."""

    def make(folder: str) -> list:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "talk.wav").touch()
        return find_recordings([str(tmp_path / folder)])

    return make


def names(found: list) -> list[str]:
    return [item.name for item in found if isinstance(item, Recording)]


def test_commands_of_other_recordings_share_a_folder(tmp_path, talks):
    out = tmp_path / "out"
    with claim(out, talks("a")) as first, claim(out, talks("b")) as second:  # at the same time
        assert (names(first), names(second)) == (["talk"], ["talk-2"])
    with claim(out, talks("c")) as third, claim(out, talks("b")) as again:  # later
        assert (names(third), names(again)) == (["talk-3"], ["talk-2"])
    whose = {name: Path(key).parent.name for name, key in read_names(out).items()}
    assert whose == {"talk": "a", "talk-2": "b", "talk-3": "c"}
    assert sorted(path.name for path in out.iterdir()) == [".recordings.jsonl", ".recordings.lock"]


def test_two_commands_do_not_transcribe_one_recording_into_one_folder(tmp_path, talks):
    with claim(tmp_path / "out", talks("a")):
        with (
            pytest.raises(
                ConfigError,
                match=r"^another command is writing the result of .*a/talk.wav into .*out; wait for it, or choose",
            ),
            claim(tmp_path / "out", [*talks("b"), *talks("a")]),
        ):
            pass
        with claim(tmp_path / "other", talks("a")):
            pass
    with claim(tmp_path / "out", talks("a")) as after:
        assert names(after) == ["talk"]


def test_a_recording_that_is_gone_leaves_its_name(tmp_path, talks):
    with claim(tmp_path / "out", talks("a")):
        pass
    (tmp_path / "a" / "talk.wav").unlink()
    assert names(names_in(tmp_path / "out", talks("b"))) == ["talk"]


HOLDER = """
import sys, time
from pathlib import Path
from asr.recognition.output_folder import claim
from asr.recognition.recordings import find_recordings, name_recordings
with claim(Path(sys.argv[1]), find_recordings(sys.argv[2:])):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_a_killed_command_claims_nothing(tmp_path, talks):
    found = talks("a")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out"), found[0].path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"claimed\n"
        with pytest.raises(ConfigError, match="another command is writing"), claim(tmp_path / "out", found):
            pass
        holder.kill()
        holder.wait()
    (claims,) = (tmp_path / "out").glob(".recordings-*.lock")
    assert json.loads(claims.read_text()) == found[0].path
    with claim(tmp_path / "out", found) as named:
        assert names(named) == ["talk"] and not claims.exists()


def test_a_claim_may_go_while_it_is_looked_at(tmp_path, talks, monkeypatch):
    read_text = Path.read_text

    def read_too_late(path: Path, **options: str) -> str:
        if path.suffix == ".lock":
            path.unlink()
        return read_text(path, **options)

    with claim(tmp_path / "out", talks("a")):
        monkeypatch.setattr(Path, "read_text", read_too_late)
        with claim(tmp_path / "out", talks("b")) as named:
            assert names(named) == ["talk-2"]


def test_names_of_an_earlier_call_stay(tmp_path):
    for name in ("a.flac", "a.wav", "b/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    first = find_recordings([str(tmp_path / "b")])
    write_names(tmp_path, first)
    assert read_names(tmp_path) == {"a": str(tmp_path / "b" / "a.wav")}
    everything = [str(tmp_path / "b"), str(tmp_path / "a.flac"), str(tmp_path / "a.wav")]
    for paths in (everything, everything[::-1]):
        found = name_recordings(find_recordings(paths), names=read_names(tmp_path))
        assert {item.path: item.name for item in found}[str(tmp_path / "b" / "a.wav")] == "a"
        assert len({item.name for item in found}) == 3
    for damaged in ("[", "3", "[1, 2]", '["a", 3]', '["../a", "b"]', '["/a", "b"]'):
        (tmp_path / ".recordings.jsonl").write_text(damaged)
        with pytest.warns(AsrWarning, match=".recordings.jsonl: is damaged, so results are matched by name alone"):
            assert read_names(tmp_path) == {}


def test_a_path_that_is_given_twice_has_two_names_each_time(tmp_path):
    paths = [str(tmp_path / "a.wav")] * 2
    first = find_recordings(paths)
    write_names(tmp_path, first)
    again = name_recordings(find_recordings([*paths, str(tmp_path / "a.flac")]), names=read_names(tmp_path))
    assert [item.name for item in first] == ["a", "a-2"] and [item.name for item in again] == ["a", "a-2", "a-3"]
