from __future__ import annotations

import os
import shutil
from pathlib import Path

from asr.data.manifest import Utterance, write_manifest
from asr.errors import DataError
from asr.recognition.recordings import Recording, find_recordings


def test_a_folder_gives_its_sounds_sorted_with_their_place_in_it(sounds):
    assert find_recordings([str(sounds)]) == [
        Recording(str(sounds / "a.flac"), "a"),
        Recording(str(sounds / "b.wav"), "b"),
        Recording(str(sounds / "day 1" / "a.wav"), "day 1/a"),
        Recording(str(sounds / "day 1" / "c.wav"), "day 1/c"),
    ]


def test_paths_keep_their_order_and_their_spelling():
    paths = ["z.wav", "-", "./missing/a.v2.mp3", "noise"]
    names = ["z", "stdin", "a.v2", "noise"]
    assert find_recordings(paths) == [Recording(path, name) for path, name in zip(paths, names, strict=True)]


def test_names_that_are_taken_get_numbers():
    paths = ["x/a.wav", "y/a.wav", "a-2.wav", "y/a.wav", "A.flac", "-", "-"]
    found = find_recordings(paths)
    assert [item.name for item in found] == ["a", "a-2", "a-2-2", "a-3", "A-4", "stdin", "stdin-2"]
    assert len({item.name.casefold() for item in found}) == len(paths)


def test_one_name_in_two_unicode_forms_is_taken():
    assert [item.name for item in find_recordings(["é.wav", "e\u0301.wav"])] == ["é", "e\u0301-2"]


def test_two_folders_with_the_same_inside(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.WAV").touch()
    found = find_recordings([str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path)])
    assert [item.name for item in found] == ["a", "a-2", "one/a", "two/a"]


def test_a_folder_without_sounds_is_an_error_that_counts_what_it_has(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a.txt", "below/b.doc", ".c.wav"):
        (tmp_path / name).touch()
    found = find_recordings(["x.wav", str(tmp_path), "y.wav"])
    assert [getattr(item, "name", None) for item in found] == ["x", None, "y"]
    assert isinstance(found[1], DataError)
    assert str(found[1]) == f"{tmp_path}: no sound files in this folder or below (3 other files were skipped)"


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", f"{folder}/closed"))
        return iter([(folder, [], ["a.wav"])])

    monkeypatch.setattr(os, "walk", walk)
    error, sound = find_recordings([str(tmp_path)])
    assert str(error) == f"{tmp_path}/closed: cannot be listed: Permission denied"
    assert sound == Recording(str(tmp_path / "a.wav"), "a")


def test_a_link_back_to_a_folder_ends(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_recordings([str(tmp_path)]) == [Recording(str(Path(tmp_path) / "a.wav"), "a")]


def test_a_pipe_in_a_folder_is_passed_over(tmp_path):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "endless.wav")
    (tmp_path / "a.wav").touch()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")  # which is to be said
    assert [item.name for item in find_recordings([str(tmp_path)])] == ["a", "gone"]


def test_a_manifest_means_its_utterances_by_their_ids(sounds, tmp_path):
    utterances = [
        Utterance(id=id_, audio=sounds / "b.wav", start_seconds=start, duration_seconds=0.2, text="")
        for id_, start in (("x/1", 0.0), ("2", 0.1))
    ]
    write_manifest(utterances, tmp_path / "m.jsonl.gz")
    found = find_recordings([str(tmp_path / "m.jsonl.gz"), "2.wav"])
    assert [(item.path, item.name) for item in found] == [("x/1", "x_1"), ("2", "2"), ("2.wav", "2-2")]
    assert [item.source for item in found] == [*utterances, "2.wav"]


def test_a_manifest_that_cannot_be_used_is_an_error_in_its_place(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    missing, empty, other = find_recordings([str(tmp_path / "no.jsonl"), str(tmp_path / "empty.jsonl"), "a.wav"])
    assert str(missing) == f"{tmp_path / 'no.jsonl'}: no such manifest"
    assert str(empty) == f"{tmp_path / 'empty.jsonl'}: there are no utterances in this manifest"
    assert other == Recording("a.wav", "a")


def test_urls_of_files_and_folders(sounds):
    url = sounds.as_uri()
    assert find_recordings([f"{url}/", "https://host/a.mp3?key=1/2"]) == [
        *(
            Recording(f"{url}/{name}", name.partition(".")[0])
            for name in ("a.flac", "b.wav", "day 1/a.wav", "day 1/c.wav")
        ),
        Recording("https://host/a.mp3?key=1/2", "a-2"),
    ]


def test_a_url_without_sounds_is_an_error(sounds):
    for url, reason in (
        (f"{sounds.as_uri()}/none", "there are no files at this URL"),
        ("s3://bucket/all.jsonl.gz", "a manifest must be a file on a disk, not a URL"),
        ("nosuch://x/y", "cannot be read: Protocol not known: nosuch"),
    ):
        (error,) = find_recordings([url])
        assert isinstance(error, DataError) and str(error) == f"{url}: {reason}"


def test_results_are_named_without_control_characters(sounds, tmp_path):
    folder = tmp_path / "evil"
    path = folder / "day\x1b[31m\n1" / "evil\x07.wav"
    path.parent.mkdir(parents=True)
    shutil.copy(sounds / "b.wav", path)
    utterance = Utterance(id="../x\n\x1b[31m\u2028", audio=path, duration_seconds=0.1, text="")
    write_manifest([utterance], tmp_path / "m.jsonl")
    names = [item.name for item in find_recordings([str(folder), str(path), str(tmp_path / "m.jsonl")])]
    assert names == ["day_[31m_1/evil_", "evil_", ".._x__[31m_"]
