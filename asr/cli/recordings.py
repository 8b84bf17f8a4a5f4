"""Which recordings a list of paths means, and what the result of each is called."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from asr.data.manifest import Utterance, is_manifest, read_manifest
from asr.errors import DataError
from asr.remote import is_url, names_below, place_of


@dataclass(frozen=True)
class Recording:
    """One sound to transcribe: its path ("-" is standard input), and a name that no other one of the list has.

    The name is the path within the walked folder, or the file name alone, without the suffix: it is the utterance of a
    ctm line and, with the format as its suffix, the file that a result is written to.

    An utterance of a manifest has its id for a path, and for a name too, without slashes.
    """

    path: str
    name: str
    utterance: Utterance | None = None

    @property
    def source(self) -> str | Utterance:
        """What a recogniser takes."""
        return self.utterance or self.path


def find_recordings(paths: Sequence[str]) -> list[Recording | DataError]:
    """The recordings that the paths mean, in their order; folders are walked, each one's files sorted by path.

    In folders only files with an audio suffix count; hidden files and folders, and links to folders, are passed over.
    A manifest means its utterances.
    A name that is taken (whether in upper or lower case, as some file systems do not tell them apart) gets -2, -3 ...

    Args:
        paths: files, folders, their URLs, manifests (.jsonl, .jsonl.gz), and "-" for standard input; a file need not
            exist, and a URL is that of a file if it ends in an audio suffix.
    Returns:
        Recordings, and in the place of a folder or manifest that holds none or cannot be read, an error that says so.
    """
    taken: set[str] = set()
    found: list[Recording | DataError] = []
    for path in paths:
        if path == "-":
            found.append(Recording(path, _untaken("stdin", taken)))
        elif is_url(path) and is_manifest(path):
            found.append(DataError("a manifest must be a file on a disk, not behind a URL", path=path))
        elif is_folder(path):
            for item in _listed(path) if is_url(path) else _walk(path):
                if isinstance(item, DataError):
                    found.append(item)
                else:
                    found.append(Recording(os.path.join(path, item), _untaken(item.with_suffix("").as_posix(), taken)))
        elif is_manifest(path):
            for entry in _utterances(path):
                if isinstance(entry, DataError):
                    found.append(entry)
                else:
                    found.append(Recording(entry.id, _untaken(entry.id.replace("/", "_"), taken), entry))
        else:
            place = place_of(path) if is_url(path) else Path(path)
            found.append(Recording(path, _untaken(place.stem, taken)))
    return found


def is_folder(path: str) -> bool:
    """Whether it is a folder, or a URL that has no audio suffix."""
    from asr.audio import SOUND_SUFFIXES  # which loads libraries that --help must not wait for

    return place_of(path).suffix.lower() not in SOUND_SUFFIXES if is_url(path) else os.path.isdir(path)


def _utterances(path: str) -> list[Utterance | DataError]:
    """The utterances of a manifest, or what is wrong with it."""
    try:
        return list(read_manifest(path)) or [DataError("there are no utterances in this manifest", path=path)]
    except DataError as error:
        return [error]


def _listed(url: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder of that URL, sorted, or what is wrong."""
    from asr.audio import SOUND_SUFFIXES

    try:
        names = [PurePath(name) for name in names_below(url)]
    except DataError as error:
        yield error
        return
    sounds = [name for name in names if name.suffix.lower() in SOUND_SUFFIXES]
    inside = [name for name in sounds if not any(part.startswith(".") for part in name.parts)]
    if not inside:
        yield DataError(f"no sound files in this folder or below ({len(names)} others were passed over)", path=url)
    yield from inside


def _walk(folder: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder, sorted, or what is wrong."""
    from asr.audio import SOUND_SUFFIXES  # which loads libraries that --help must not wait for

    errors: list[DataError] = []

    def remember(error: OSError) -> None:
        errors.append(DataError(f"cannot be listed: {error.strerror}", path=error.filename))

    inside: list[PurePath] = []
    num_others = 0
    for parent, folders, files in os.walk(folder, onerror=remember):
        folders[:] = [name for name in folders if not name.startswith(".")]
        sounds = [
            name for name in files if not name.startswith(".") and PurePath(name).suffix.lower() in SOUND_SUFFIXES
        ]
        num_others += len(files) - len(sounds)
        inside += (PurePath(os.path.relpath(os.path.join(parent, name), folder)) for name in sounds)
    yield from errors
    if not inside and not errors:
        yield DataError(f"no sound files in this folder or below ({num_others} others were passed over)", path=folder)
    yield from sorted(inside)


def _untaken(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken; it is taken then."""
    candidate, number = name, 1
    while (key := unicodedata.normalize("NFC", candidate).casefold()) in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(key)
    return candidate
