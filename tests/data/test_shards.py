"""Shards hold what the manifest and its recordings hold, for asr and for Lhotse, on a disk and behind a URL."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tarfile
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.data.shards import read_shards, read_sounds, write_shards
from asr.data.waveforms import read_waveform
from asr.errors import ConfigError, DataError

RATE = 16_000


@pytest.fixture
def manifest(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Seven utterances: stretches of a file of two channels, files of their own, odd ids, no speaker, no text."""
    sound = np.round(rng.uniform(-0.5, 0.5, (3 * RATE, 2)) * 2**15) / 2**15
    soundfile.write(tmp_path / "long.wav", sound, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "8k.flac", sound[: RATE // 2, 0], 8_000, subtype="PCM_16")
    utterances = [
        Utterance(
            id=f"long.{number}-{'ä' * number}",
            audio=tmp_path / "long.wav",
            start_seconds=number / 2,
            duration_seconds=0.5,
            channel=number % 2,
            text=f"STRETCH {number}",
            speaker="s" if number else None,
        )
        for number in range(6)
    ]
    whole = Utterance(id="8k", audio=tmp_path / "8k.flac", duration_seconds=1.0, text="")
    write_manifest([*utterances, whole], tmp_path / "all.jsonl.gz")
    return tmp_path / "all.jsonl.gz"


@pytest.fixture
def folder(manifest: Path, tmp_path: Path) -> Path:
    write_shards(manifest, tmp_path / "shards", shard_size=3)
    return tmp_path / "shards"


def rewrite(cuts: Path, change) -> None:
    """Changes the first cut of a shard."""
    lines = gzip.decompress(cuts.read_bytes()).decode().splitlines()
    first = json.loads(lines[0])
    change(first)
    cuts.write_bytes(gzip.compress("\n".join([json.dumps(first), *lines[1:]]).encode()))


def test_shards_hold_what_the_manifest_holds(manifest: Path, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.00000{number}.{kind}"
        for number in range(3)
        for name, kind in (("cuts", "jsonl.gz"), ("recording", "tar"))
    )
    before, after = read_manifest(manifest), read_shards(str(folder))
    assert [(each.id, each.text, each.speaker, each.duration_seconds) for each in after] == [
        (each.id, each.text, each.speaker, each.duration_seconds) for each in before
    ]
    assert [each.archive for each in after] == [
        str(folder / f"recording.00000{at}.tar") for at in (0, 0, 0, 1, 1, 1, 2)
    ]
    sounds = read_sounds(after)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(read_waveform(one, RATE), read_waveform(other, RATE, sounds=sounds))


def test_lhotse_reads_them(manifest: Path, folder: Path) -> None:
    from lhotse import CutSet

    cuts = list(CutSet.from_shar(in_dir=folder))
    for cut, utterance in zip(cuts, read_manifest(manifest), strict=True):
        assert (cut.id, cut.supervisions[0].text) == (utterance.id, utterance.text)
        rate = cut.sampling_rate
        np.testing.assert_allclose(cut.load_audio()[0], read_waveform(utterance, rate), atol=1e-6)


def test_what_lhotse_wrote_is_read(manifest: Path, tmp_path: Path) -> None:
    from lhotse import CutSet
    from lhotse.shar import SharWriter

    (tmp_path / "theirs").mkdir()
    with SharWriter(tmp_path / "theirs", fields={"recording": "flac"}, shard_size=4) as writer:
        for cut in CutSet.from_jsonl_lazy(manifest):
            writer.write(cut)
    after = read_shards(str(tmp_path / "theirs"))
    sounds = read_sounds(after)
    for one, other in zip(read_manifest(manifest), after, strict=True):
        theirs = read_waveform(other, RATE, sounds=sounds)
        np.testing.assert_allclose(read_waveform(one, RATE), theirs, atol=2**-15)


def test_a_url_is_read_as_a_folder_is(folder: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/written/shards", recursive=True)
    local, remote = read_shards(str(folder)), read_shards("memory://written/shards")
    assert [each.id for each in remote] == [each.id for each in local]
    assert remote[0].archive == "memory://written/shards/recording.000000.tar"
    assert list(read_sounds(remote).values()) == list(read_sounds(local).values())


def test_only_what_is_wanted_is_read(folder: Path) -> None:
    after = read_shards(str(folder))
    assert read_sounds(after[4:5]).keys() == {after[4].place}
    assert read_sounds([]) == {} == read_sounds([replace(after[0], archive="")])


def test_shuffled_shards_hold_the_same_in_another_order(manifest: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("once", "again"):
        write_shards(manifest, tmp_path / name, shard_size=3, shuffled=True)
    before, once, again = (
        [each.id for each in read_shards(str(tmp_path / name))] for name in ("shards", "once", "again")
    )
    assert once == again != before and sorted(once) == sorted(before)


def test_the_same_manifest_gives_the_same_bytes(manifest: Path, folder: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "again", shard_size=3)
    for path in folder.glob("*.tar"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_names_that_a_path_would_fold_stay_apart(manifest: Path, tmp_path: Path) -> None:
    utterances = read_manifest(manifest)[:4]
    names = ("a/b", "a//b", "a/./b", "/a/b")
    write_manifest(
        [replace(each, id=name) for each, name in zip(utterances, names, strict=True)], tmp_path / "odd.jsonl"
    )
    write_shards(tmp_path / "odd.jsonl", tmp_path / "100% odd::", shard_size=9)
    after = read_shards(str(tmp_path / "100% odd::"))
    sounds = read_sounds(after)
    for one, other in zip(utterances, after, strict=True):
        assert np.array_equal(read_waveform(one, RATE), read_waveform(other, RATE, sounds=sounds))


def test_who_stops_does_not_wait_for_the_rest(folder: Path) -> None:
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(len(asked) >= 2)
        return asked[-1]

    assert len(read_sounds(read_shards(str(folder)), stopped=stopped)) < 3


# what goes wrong


def test_a_recording_that_cannot_be_read_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "8k.flac").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"8k\.flac: "):
        write_shards(manifest, tmp_path / "shards", shard_size=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8k.flac", "all.jsonl.gz", "long.wav"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folder": "."}, ConfigError, "the folder for the shards must be a new one, but .* exists"),
        ({"folder": "empty.jsonl/new"}, NotADirectoryError, "a part of this path is a file: .*empty.jsonl'$"),
        ({"shard_size": 0}, ConfigError, "shard_size must be at least 1, not 0"),
        ({"manifest": "empty.jsonl"}, DataError, "the manifest must hold utterances, but there are none"),
    ],
)
def test_what_cannot_be_written_is_refused(manifest: Path, tmp_path: Path, change, error, message) -> None:
    (tmp_path / "empty.jsonl").touch()
    given = {"manifest": manifest.name, "folder": "shards", "shard_size": 3} | change
    with pytest.raises(error, match=message):
        write_shards(tmp_path / given["manifest"], tmp_path / given["folder"], shard_size=given["shard_size"])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "nothing",
            DataError,
            "nothing: must be a manifest .* or a folder of shards .* but it has no shards; asr-data import makes ",
        ),
        ("memory://nothing", DataError, "memory://nothing: must be a manifest"),
        ("nosuch://bucket/x", DataError, "nosuch://bucket/x: cannot be read: Protocol not known"),
    ],
)
def test_a_source_that_has_none_is_named(source: str, error, message: str) -> None:
    with pytest.raises(error, match=message):
        read_shards(source)


def test_without_lhotse_the_extra_is_named(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lhotse", "lhotse.shar"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"writing shards needs lhotse, which is not installed: .*'asr\[train\]'$"):
        write_shards(manifest, tmp_path / "shards", shard_size=3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacking)
    with pytest.raises(ConfigError, match="s3://bucket/x cannot be reached: Install s3fs to access S3"):
        read_shards("s3://bucket/x")


def test_a_shard_without_sound_is_named(folder: Path) -> None:
    (folder / "recording.000001.tar").unlink()
    with pytest.raises(DataError, match=r"cuts.000001.jsonl.gz: the shard must have its sound, recording.000001.tar"):
        read_shards(str(folder))


def test_a_shard_without_cuts_is_named(folder: Path) -> None:
    (folder / "cuts.000001.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"recording.000001.tar: must have its cuts, cuts.000001.jsonl.gz"):
        read_shards(str(folder))


def test_ids_differ_over_all_shards(folder: Path) -> None:
    rewrite(folder / "cuts.000002.jsonl.gz", lambda cut: cut.update(id="long.0-"))
    with pytest.raises(
        DataError, match=r"cuts.000002.jsonl.gz:1: ids must differ, but 'long.0-' is also .*cuts.000000.jsonl.gz:1"
    ):
        read_shards(str(folder))


def test_a_cut_whose_sound_is_elsewhere_is_named(folder: Path) -> None:
    rewrite(folder / "cuts.000000.jsonl.gz", lambda cut: cut["recording"]["sources"][0].update(type="file"))
    with pytest.raises(
        DataError, match=r"cuts.000000.jsonl.gz:1: the recording of .* must be a shar, got .*'file' \(lhotse's Shar"
    ):
        read_shards(str(folder))


@pytest.mark.parametrize("damage", ["cut short", "not gzip"])
def test_damaged_cuts_are_named(folder: Path, damage: str) -> None:
    path = folder / "cuts.000001.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-30] if damage == "cut short" else b"{}")
    with pytest.raises(DataError, match=r"cuts.000001.jsonl.gz(:[123])?: cannot be read: "):
        read_shards(str(folder))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut short", ""),
        ("empty", ""),
        ("without one", "the archive must hold the sound of 'long.3-äää', but does not"),
    ],
)
def test_a_damaged_archive_is_named(folder: Path, damage: str, message: str) -> None:
    after = read_shards(str(folder))
    path = folder / "recording.000001.tar"
    content = path.read_bytes()
    if damage == "without one":
        kept = BytesIO()
        with tarfile.open(path) as old, tarfile.open(fileobj=kept, mode="w") as new:
            for member in old.getmembers()[2:]:
                new.addfile(member, old.extractfile(member))
        path.write_bytes(kept.getvalue())
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"")
    with pytest.raises(DataError, match=f"recording.000001.tar: {message}"):
        read_sounds(after)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.REGTYPE, "a file of 9000000000 bytes"),
    ],
)
def test_a_member_that_is_no_sound_file_is_named(folder: Path, kind: bytes, message: str) -> None:
    """In the place of a sound: anything that could lead elsewhere, has no end or no content."""
    utterance = read_shards(str(folder))[0]
    member = tarfile.TarInfo(f"{utterance.id}.flac")
    member.type, member.linkname = kind, "/etc/passwd"
    member.size = 9 * 10**9 if kind == tarfile.REGTYPE else 0
    path = folder / "recording.000000.tar"
    path.write_bytes(member.tobuf() + bytes(10240))
    with pytest.raises(DataError, match=rf"tar: the archive must hold the sound of 'long.0-' as a file.*is {message}$"):
        read_sounds([utterance])


def test_archives_with_changed_bytes_end_in_a_refusal(folder: Path) -> None:
    """What tar and libsndfile make of 300 archives of which some bytes are others."""
    utterances = read_shards(str(folder))
    path = folder / "recording.000000.tar"
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, 1536, size=random.integers(1, 20)):  # the headers of the first members
            content[place] = random.integers(256)
        path.write_bytes(content)
        with suppress(DataError):
            read_sounds(utterances[:3])


@pytest.mark.parametrize("name", ["cuts.000000.jsonl.gz", "recording.000000.tar"])
def test_a_shard_that_is_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    utterances = read_shards(str(folder))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match=rf"{name}: cannot be read: .*it must be a regular file, not a pipe"):
        read_sounds(read_shards(str(folder)) if name.startswith("cuts") else utterances)


def test_a_sound_in_an_archive_that_is_none_is_named(folder: Path) -> None:
    first = read_shards(str(folder))[0]
    with pytest.raises(DataError, match=r"recording.000000.tar/long.0-: "):
        read_waveform(first, RATE, sounds={first.place: b"no sound at all"})
