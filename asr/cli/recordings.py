"""Which recordings a list of paths means, and what the result of each is called."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from asr.data.manifest import Utterance, is_manifest, read_usable
from asr.errors import DataError
from asr.files.remote import is_url, names_below, place_of

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # which a file's name could bring to a terminal


@dataclass(frozen=True)
class Recording:
    """One sound to transcribe: its path ("-" is standard input), and a name that no other one of the list has.

    The name is the path within the walked folder, or the file name alone, without the suffix: it is the utterance of a
    ctm line and, with the format as its suffix, the file that a result is written to.

    An utterance of a manifest has its id for a path, and for a name too, without slashes; `manifest` is the file.
    `wanted` is the name that it would have alone.
    """

    path: str
    name: str
    utterance: Utterance | None = None
    manifest: str = ""
    wanted: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """What tells it from all other recordings, wherever a command is called from."""
        if self.utterance:
            return f"{os.path.abspath(self.manifest)}#{self.path}"
        if is_url(self.path):
            return self.path.partition("?")[0]  # a signature may be another one each time
        return self.path if self.path == "-" else os.path.abspath(self.path)

    @property
    def source(self) -> str | Utterance:
        """What a recogniser takes."""
        return self.utterance or self.path


def find_recordings(paths: Sequence[str], *, named: Mapping[str, str] | None = None) -> list[Recording | DataError]:
    """The recordings that the paths mean, in their order; folders are walked, each one's files sorted by path.

    In folders only files with an audio suffix count; hidden files and folders, and links to folders, are passed over.
    A manifest means its utterances.

    Args:
        paths: files, folders, their URLs, manifests (.jsonl, .jsonl.gz), and "-" for standard input; a file need not
            exist, and a URL is that of a file if it ends in an audio suffix.
        named: as for `name_recordings`.
    Returns:
        Recordings, and in the place of a folder or manifest that holds none or cannot be read, an error that says so.
    """
    return name_recordings([item for path in paths for item in _meant(path)], named=named or {})


def name_recordings(found: Sequence[Recording | DataError], *, named: Mapping[str, str]) -> list[Recording | DataError]:
    """The same recordings, each with a name of its own: the one of before, or else the one that it wants.

    A name that is taken (whether in upper or lower case, as some file systems do not tell them apart) gets -2, -3 ...

    Args:
        found: recordings, and errors, which stay as they are.
        named: names of an earlier call, each with the key of its recording, which no other one gets.
    """
    names: dict[str, list[str]] = defaultdict(list)  # a path that was given twice has two
    for name, key in named.items():
        names[key].append(name)
    taken = {_folded(name) for name in named}

    def own(item: Recording) -> Recording:
        earlier = names.get(item.key)
        return replace(item, name=earlier.pop(0) if earlier else _untaken(item.wanted, taken))

    return [own(item) if isinstance(item, Recording) else item for item in found]


def _meant(path: str) -> Iterator[Recording | DataError]:
    """The recordings that one path means, each with the name that it wants."""

    def recording(path: str, name: str, utterance: Utterance | None = None, manifest: str = "") -> Recording:
        name = _CONTROL.sub("_", name)
        return Recording(path, name, utterance, manifest, wanted=name)

    if path == "-":
        yield recording(path, "stdin")
    elif is_url(path) and is_manifest(path):
        yield DataError("a manifest must be a file on a disk, not behind a URL", path=path)
    elif is_folder(path):
        for item in _listed(path) if is_url(path) else _walk(path):
            if isinstance(item, DataError):
                yield item
            else:
                yield recording(os.path.join(path, item), item.with_suffix("").as_posix())
    elif is_manifest(path):
        for entry in _utterances(path):
            if isinstance(entry, DataError):
                yield entry
            else:
                yield recording(entry.id, entry.id.replace("/", "_"), entry, path)
    else:
        yield recording(path, (place_of(path) if is_url(path) else Path(path)).stem)


def is_folder(path: str) -> bool:
    """Whether it is a folder, or a URL that has no audio suffix."""
    from asr.audio.sound_files import SOUND_SUFFIXES  # which loads libraries that --help must not wait for

    return place_of(path).suffix.lower() not in SOUND_SUFFIXES if is_url(path) else os.path.isdir(path)


def _utterances(path: str) -> list[Utterance | DataError]:
    """The utterances of a manifest, or what is wrong with it."""
    try:
        return read_usable(path)
    except DataError as error:
        return [error]


def _listed(url: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder of that URL, sorted, or what is wrong."""
    from asr.audio.sound_files import SOUND_SUFFIXES

    try:
        names = [PurePath(name) for name in names_below(url)]
    except DataError as error:
        yield error
        return
    sounds = [name for name in names if name.suffix.lower() in SOUND_SUFFIXES]
    inside = [name for name in sounds if not any(part.startswith(".") for part in name.parts)]
    if not names:
        yield DataError("there is nothing at this address or below", path=url)
    elif not inside:
        yield DataError(f"no sound files in this folder or below ({len(names)} others were passed over)", path=url)
    yield from inside


def _walk(folder: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder, sorted, or what is wrong."""
    from asr.audio.sound_files import SOUND_SUFFIXES  # which loads libraries that --help must not wait for

    errors: list[DataError] = []

    def remember(error: OSError) -> None:
        errors.append(DataError(f"cannot be listed: {error.strerror}", path=error.filename))

    inside: list[PurePath] = []
    num_others = 0
    for parent, folders, files in os.walk(folder, onerror=remember):
        folders[:] = [name for name in folders if not name.startswith(".")]
        sounds = [
            name
            for name in files
            if not name.startswith(".") and PurePath(name).suffix.lower() in SOUND_SUFFIXES
            if os.path.isfile(place := os.path.join(parent, name)) or not os.path.exists(place)  # a pipe never ends
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
    while (key := _folded(candidate)) in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(key)
    return candidate


def _folded(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()
