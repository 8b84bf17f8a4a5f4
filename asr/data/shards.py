"""Shards: utterances and their sound in archives that are read sequentially from a disk or an object store.

A folder in Lhotse's Shar format: cuts.000000.jsonl.gz holds the cuts of the first shard, recording.000000.tar their
sound, and so on. Unlike a million small files, a thousand archives are fast to copy and to open.
Format: https://lhotse.readthedocs.io/en/latest/shar.html
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.audio.waveform import stream_channels
from asr.data.manifest import Utterance, make_cut, read_manifest, read_shard
from asr.data.waveforms import Sounds, read_waveform
from asr.errors import ConfigError, DataError
from asr.extras import needing_extras
from asr.files.remote import names_below, opened
from asr.files.texts import lines_with_ends, unpacked
from asr.files.writing import make_folder

if TYPE_CHECKING:
    from lhotse import MonoCut

CUTS, SOUND = "cuts.%06d.jsonl.gz", "recording.%06d.tar"
MOST_BYTES = 1 << 30  # of a sound file in an archive
_KINDS = {
    tarfile.DIRTYPE: "a folder",
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def write_shards(
    manifest: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    shard_size: int,
    shuffled: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write the utterances of a manifest into shards, with 16-bit FLAC; the folder appears complete or not at all.

    Args:
        manifest: `.jsonl` or `.jsonl.gz`.
        folder: folder for the shards; it must not exist yet.
        shard_size: utterances per shard; the last shard may have fewer.
        shuffled: shuffle the utterances, in an order that depends on their number only.
        progress: called with the number of utterances done, and of all.
    Returns:
        The archives of sound.
    Raises:
        ConfigError: the folder exists, `shard_size` is below 1, or Lhotse is not installed.
        DataError: the manifest cannot be read or holds no utterances, or a recording cannot be read.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise ConfigError(f"the folder for the shards must be a new one, but {folder} exists")
    if shard_size < 1:
        raise ConfigError(f"shard_size must be at least 1, not {shard_size}")
    make_folder(folder.parent)
    with needing_extras("writing shards"):
        from lhotse.shar import AudioTarWriter, JsonlShardWriter
    utterances = read_manifest(manifest, check_audio=True)
    if not utterances:
        raise DataError("the manifest must hold utterances, but there are none", path=manifest)
    if shuffled:
        utterances = [utterances[index] for index in np.random.default_rng(0).permutation(len(utterances))]

    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    unfinished.mkdir()
    prefix = str(unfinished).replace("%", "%%")  # the writers format the number with %
    try:
        with (
            JsonlShardWriter(f"{prefix}/{CUTS}", shard_size=shard_size) as cuts,
            AudioTarWriter(f"{prefix}/{SOUND}", shard_size=shard_size, format="flac") as sounds,
        ):
            for done, utterance in enumerate(utterances, start=1):
                with closing(stream_channels(utterance.audio)) as blocks:
                    sample_rate, _ = next(blocks)
                waveform = read_waveform(utterance, sample_rate)
                cut = _cut(utterance, len(waveform), sample_rate)
                sounds.write(cut.id, waveform[None], sample_rate, manifest=cut.recording)
                cuts.write(cut)
                progress(done, len(utterances))
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sorted(folder.glob("recording.*.tar"))


def _cut(utterance: Utterance, num_samples: int, sample_rate: int) -> MonoCut:
    """The utterance as a cut of its own recording in the archive."""
    from lhotse import AudioSource, Recording

    seconds = num_samples / sample_rate
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="shar", channels=[0], source="")],
        sampling_rate=sample_rate,
        num_samples=num_samples,
        duration=seconds,
    )
    return make_cut(replace(utterance, start_seconds=0.0, duration_seconds=seconds, channel=0), recording)


def read_shards(source: str) -> list[Utterance]:
    """The utterances of a folder of shards, in order; each names the archive of its sound.

    Args:
        source: a folder, or a URL that fsspec can list (s3://, gs://, https://).
    Raises:
        ConfigError: the package for this kind of URL is not installed.
        DataError: there are no shards, a shard lacks its archive or cuts, cuts cannot be read, or an id is used twice.
    """
    names = names_below(source, depth=1)
    numbers = sorted(name.split(".")[1] for name in names if name.startswith("cuts.") and name.endswith(".jsonl.gz"))
    sounds = {name.split(".")[1]: name for name in names if name.startswith("recording.") and name.endswith(".tar")}
    if numbers and (lone := sorted(set(sounds) - set(numbers))):
        name = sounds[lone[0]]
        raise DataError(f"must have its cuts, cuts.{lone[0]}.jsonl.gz, but it is missing", path=f"{source}/{name}")
    if not numbers:
        raise DataError(
            "must be a manifest (.jsonl or .jsonl.gz), or a folder of shards (cuts.000000.jsonl.gz, "
            "recording.000000.tar), but it has no shards; asr-data import makes manifests of recordings with "
            "texts, and of tables",
            path=source,
        )
    utterances: list[Utterance] = []
    seen: dict[str, str] = {}
    for number in numbers:
        cuts, archive = f"cuts.{number}.jsonl.gz", f"recording.{number}.tar"
        if archive not in names:
            raise DataError(f"the shard must have its sound, {archive}, but it is missing", path=f"{source}/{cuts}")
        name = f"{source.rstrip('/')}/{cuts}"
        with opened(name) as file, unpacked(file, name) as content, lines_with_ends(content) as lines:
            utterances += read_shard(lines, name, archive=f"{source.rstrip('/')}/{archive}", seen=seen)
    return utterances


def read_sounds(utterances: Iterable[Utterance], *, stopped: Callable[[], bool] = lambda: False) -> Sounds:
    """The sound of utterances in archives.

    Each archive is read once, sequentially, as far as needed.

    Args:
        utterances: utterances in files are skipped.
        stopped: called between files; if true, stop reading.
    Raises:
        ConfigError: the package for this kind of URL is not installed.
        DataError: an archive cannot be read, or lacks the sound of an utterance.
    """
    wanted: dict[str, set[str]] = {}
    for utterance in utterances:
        if utterance.archive:
            wanted.setdefault(utterance.archive, set()).add(utterance.id)
    return {
        (archive, name): sound for archive, names in wanted.items() for name, sound in _members(archive, names, stopped)
    }


def _members(archive: str, missing: set[str], stopped: Callable[[], bool]) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each missing sound file."""
    with opened(archive) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        while missing and not stopped() and (member := tar.next()):
            name, _, kind = member.name.rpartition(".")
            if name in missing and kind not in ("json", "nometa", "nodata"):
                if not member.isreg() or member.size > MOST_BYTES:
                    actual = f"a file of {member.size} bytes" if member.isreg() else _KINDS.get(member.type, "no file")
                    rule = f"the archive must hold the sound of {name!r:.60} as a file of at most {MOST_BYTES >> 20} MB"
                    raise DataError(f"{rule}, but {member.name!r:.60} is {actual}", path=archive)
                content = tar.extractfile(member)
                assert content is not None
                missing.remove(name)
                yield name, content.read()
    if missing and not stopped():
        raise DataError(f"the archive must hold the sound of {min(missing)!r}, but does not", path=archive)
