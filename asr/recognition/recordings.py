"""The recordings of a list of paths (files, folders, URLs, manifests), and a name for the result of each."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from asr.audio.source import SOUND_SUFFIXES
from asr.data.manifest import Utterance, is_manifest, read_usable
from asr.errors import DataError
from asr.files.remote import is_url, names_below, place_of
from asr.files.texts import read_text

TEXT_SUFFIXES = (".txt", ".lab")  # of a text beside its sound; the first one found is used
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # these in a file name could control the terminal


@dataclass(frozen=True)
class Spoken:
    """A sound, as a source of `Recognizer.results`, and the text that is spoken in it."""

    sound: str | Utterance
    text: str


@dataclass(frozen=True)
class Recording:
    """One sound to transcribe or align: its path ("-" is standard input), and a name that is unique in the list.

    The name is the path within the walked folder, or the file name alone, without the suffix. It is the utterance of a
    ctm line and, with the format as its suffix, the file of a result.

    For an utterance of the file `manifest`, the path is its id, and the name is its id without slashes. `base_name` is
    the name before it is made unique. `text` is what is spoken in it, None if unknown.
    """

    path: str
    name: str
    utterance: Utterance | None = None
    manifest: str = ""
    base_name: str = field(default="", compare=False)
    text: str | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """The identity of the recording, independent of the working folder."""
        if self.utterance:
            return f"{os.path.abspath(self.manifest)}#{self.path}"
        if is_url(self.path):
            return self.path.partition("?")[0]  # a signature may change each time
        return self.path if self.path == "-" else os.path.abspath(self.path)

    @property
    def source(self) -> str | Utterance | Spoken:
        """The recording as a source of `Recognizer.results`, or with its text as one of `Aligner.results`."""
        sound = self.utterance or self.path
        return sound if self.text is None else Spoken(sound, self.text)


def find_recordings(paths: Iterable[str | os.PathLike[str]]) -> list[Recording | DataError]:
    """The recordings of the paths, in order; folders are walked, and the files of each sorted by path.

    In folders only files with an audio suffix are used; hidden files and folders, and links to folders, are skipped. A
    manifest is replaced by its utterances.

    Args:
        paths: files, folders, their URLs, manifests (.jsonl, .jsonl.gz), and "-" for standard input; a file need not
            exist, and a URL is a file if it ends in an audio suffix.
    Returns:
        Recordings, and errors in the place of folders and manifests that are empty or cannot be read.
    """
    return name_recordings([item for path in paths for item in _expand(os.fspath(path))], names={})


def find_pairs(path: str | os.PathLike[str]) -> list[Recording | DataError]:
    """The recordings of a folder or manifest with their texts, and an error for each sound or text that is alone.

    In a folder, the text of speech.wav is speech.txt or speech.lab beside it; subfolders are walked as in
    `find_recordings`. The utterances of a manifest have their own texts.
    """
    items = [_with_text(item) if isinstance(item, Recording) else item for item in find_recordings([path])]
    if is_manifest(path):
        return items
    stems = {_stem(item.path) for item in items if item.path}
    alone = [DataError("has no sound file beside it", path=text) for text in _texts(path) if _stem(text) not in stems]
    return [*items, *alone]


def _with_text(item: Recording) -> Recording | DataError:
    """The recording with its text, or the reason why it has none."""
    place = item.path
    if item.utterance:
        text = item.utterance.text
    else:
        beside = (os.path.splitext(item.path)[0] + suffix for suffix in TEXT_SUFFIXES)
        place = next((text for text in beside if os.path.exists(text)), "")
        if not place:
            return DataError("has no text beside it (.txt or .lab)", path=item.path)
        try:
            text = read_text(place)
        except DataError as error:
            return error
    return replace(item, text=text) if text.strip() else DataError("contains no text", path=place)


def _texts(folder: str | os.PathLike[str]) -> list[str]:
    """The files below a folder that have the suffix of a text, in order, without hidden ones."""
    texts = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = (name for name in files if not name.startswith(".") and name.endswith(TEXT_SUFFIXES))
        texts += [os.path.join(parent, name) for name in inside]
    return sorted(texts)


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def name_recordings(
    recordings: Iterable[Recording | DataError], *, names: Mapping[str, str]
) -> list[Recording | DataError]:
    """The same recordings, each with a unique name: its earlier one, or else its base name.

    A name in use, in upper or lower case (some file systems make no difference), gets the suffix -2, -3, …

    Args:
        recordings: recordings, and errors, which do not change.
        names: names of an earlier call, each with the key of its recording; no other recording gets them.
    """
    names_of: dict[str, list[str]] = defaultdict(list)  # two for a path that was given twice
    for name, key in names.items():
        names_of[key].append(name)
    used = {_folded(name) for name in names}

    def with_name(item: Recording) -> Recording:
        earlier = names_of.get(item.key)
        return replace(item, name=earlier.pop(0) if earlier else _unique(item.base_name, used))

    return [with_name(item) if isinstance(item, Recording) else item for item in recordings]


def _expand(path: str) -> Iterator[Recording | DataError]:
    """The recordings of one path, with their base names."""

    def recording(path: str, name: str, utterance: Utterance | None = None, manifest: str = "") -> Recording:
        name = _CONTROL.sub("_", name)
        return Recording(path, name, utterance, manifest, base_name=name)

    if path == "-":
        yield recording(path, "stdin")
    elif is_url(path) and is_manifest(path):
        yield DataError("a manifest must be a file on a disk, not a URL", path=path)
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
    """Whether the path is a folder, or a URL without an audio suffix."""
    return place_of(path).suffix.lower() not in SOUND_SUFFIXES if is_url(path) else os.path.isdir(path)


def _utterances(path: str) -> list[Utterance | DataError]:
    """The utterances of a manifest, and errors for its lines that cannot be used."""
    try:
        return read_usable(path)
    except DataError as error:
        return [error]


def _listed(url: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder of a URL, sorted, or an error."""
    try:
        names = [PurePath(name) for name in names_below(url)]
    except DataError as error:
        yield error
        return
    sounds = [name for name in names if name.suffix.lower() in SOUND_SUFFIXES]
    inside = [name for name in sounds if not any(part.startswith(".") for part in name.parts)]
    if not names:
        yield DataError("there are no files at this URL", path=url)
    elif not inside:
        yield DataError(f"no sound files in this folder or below ({len(names)} other files were skipped)", path=url)
    yield from inside


def _walk(folder: str) -> Iterator[PurePath | DataError]:
    """Paths within the folder, sorted, and errors."""
    errors: list[DataError] = []

    def note_error(error: OSError) -> None:
        errors.append(DataError(f"cannot be listed: {error.strerror}", path=error.filename))

    inside: list[PurePath] = []
    num_others = 0
    for parent, folders, files in os.walk(folder, onerror=note_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        sounds = [
            name
            for name in files
            if not name.startswith(".") and PurePath(name).suffix.lower() in SOUND_SUFFIXES
            if os.path.isfile(path := os.path.join(parent, name)) or not os.path.exists(path)  # a pipe never ends
        ]
        num_others += len(files) - len(sounds)
        inside += (PurePath(os.path.relpath(os.path.join(parent, name), folder)) for name in sounds)
    yield from errors
    if not inside and not errors:
        yield DataError(f"no sound files in this folder or below ({num_others} other files were skipped)", path=folder)
    yield from sorted(inside)


def _unique(name: str, used: set[str]) -> str:
    """The name, with a number if it is in use; adds it to `used`."""
    candidate, number = name, 1
    while (key := _folded(candidate)) in used:
        number += 1
        candidate = f"{name}-{number}"
    used.add(key)
    return candidate


def _folded(name: str) -> str:
    """The same string for names that are equal on some file systems."""
    return unicodedata.normalize("NFC", name).casefold()
