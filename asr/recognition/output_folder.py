"""The folder of results: the recording of each result, and the runs that are writing there.

.recordings.jsonl     names of results, each with the key of its recording, of all runs so far
.recordings.lock      locked for a moment, while a run reads and changes these files
.recordings-*.lock    locked by a run for as long as it writes; the keys of its recordings
"""

from __future__ import annotations

import json
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath

from asr.errors import AsrWarning, ConfigError, DataError
from asr.files.locks import locked
from asr.files.remote import is_url
from asr.files.writing import write_whole
from asr.recognition.recordings import Recording, name_recordings

NAMES_FILE = ".recordings.jsonl"
_LOCK = ".recordings.lock"
_CLAIMS = ".recordings-*.lock"


@contextmanager
def claim(folder: Path, recordings: Sequence[Recording | DataError]) -> Iterator[list[Recording | DataError]]:
    """Claim the recordings of a folder for a `with` block, and give it the recordings with the names of their results.

    A name belongs to its recording as long as the recording exists: another recording of the same file name gets the
    suffix -2, -3, …, in an earlier, later or simultaneous run too.

    Args:
        folder: created if missing.
    Raises:
        ConfigError: another run is writing the result of one of the recordings there.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {item.key: item.path for item in recordings if isinstance(item, Recording)}
    own = folder / _CLAIMS.replace("*", secrets.token_hex(4))
    with ExitStack() as stack:
        with locked(folder / _LOCK, wait=True):
            for key in _keys_of_others(folder):
                if key in paths:
                    raise ConfigError(
                        f"another command is writing the result of {paths[key]} into {folder}; "
                        "wait for it, or choose another folder"
                    )
            named_recordings = names_in(folder, recordings)
            write_names(folder, named_recordings)
            stack.callback(own.unlink, missing_ok=True)  # after closing the lock: Windows cannot delete open files
            own.write_text("".join(f"{json.dumps(key)}\n" for key in paths), encoding="utf-8")
            stack.enter_context(locked(own))
        yield named_recordings


def names_in(folder: Path, recordings: Sequence[Recording | DataError]) -> list[Recording | DataError]:
    """The recordings with the names of their results in a folder, written or not."""
    keys = {item.key for item in recordings if isinstance(item, Recording)}
    names = {name: key for name, key in read_names(folder).items() if key in keys or still_there(key)}
    return name_recordings(recordings, names=names)


def read_names(folder: Path) -> dict[str, str]:
    """The names of results in a folder, as written by `write_names`, each with the key of its recording."""
    path = folder / NAMES_FILE
    try:
        names = dict(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        if all(isinstance(key, str) and _is_inside(name) for name, key in names.items()):
            return names
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError):
        pass
    message = "is damaged, so results are matched by name alone: the result of another recording may count as finished"
    warnings.warn(f"{path}: {message}", AsrWarning, 2)
    return {}


def _is_inside(name: str) -> bool:
    """Whether a file of this name is inside the folder; on Windows, C: and \\ can lead out of it."""
    path = PurePath(name)
    return not path.anchor and ".." not in path.parts


def write_names(folder: Path, recordings: Iterable[Recording | DataError]) -> None:
    """Add the names of results to the names that a folder has."""
    names = read_names(folder) | {item.name: item.key for item in recordings if isinstance(item, Recording)}
    write_whole(folder / NAMES_FILE, "".join(f"{json.dumps(pair)}\n" for pair in names.items()))


def still_there(key: str) -> bool:
    """Whether the recording of a key still exists, if that can be known; its folder may have moved."""
    return is_url(key) or os.path.exists(key) or os.path.exists(key.rpartition("#")[0])


def _keys_of_others(folder: Path) -> Iterator[str]:
    """The keys that other runs have claimed in the folder; claims of killed runs are deleted."""
    for path in folder.glob(_CLAIMS):
        content = ""
        with locked(path) as abandoned, suppress(FileNotFoundError):  # its run may end at this moment
            content = "" if abandoned else path.read_text(encoding="utf-8")
        if abandoned:
            path.unlink(missing_ok=True)
        yield from map(json.loads, content.splitlines())
