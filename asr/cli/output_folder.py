"""The folder of results: whose each one is, and which commands are writing there.

.recordings.jsonl     names of results, each with the key of its recording, of all commands so far
.recordings.lock      held for a moment, while a command looks at these files and changes them
.recordings-*.lock    held by a command for as long as it writes; the keys of its recordings
"""

from __future__ import annotations

import json
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath

from asr.cli.recordings import Recording, name_recordings
from asr.errors import AsrWarning, ConfigError, DataError
from asr.files.locks import locked
from asr.files.remote import is_url
from asr.files.writing import write_whole

NAMES_FILE = ".recordings.jsonl"
_LOCK = ".recordings.lock"
_CLAIMS = ".recordings-*.lock"


@contextmanager
def claimed(folder: Path, found: Sequence[Recording | DataError]) -> Iterator[list[Recording | DataError]]:
    """The recordings with names for their results in a folder, which in the block no other command gives to others.

    A name belongs to its recording for as long as that is there: another one of the same file name gets -2, -3 ...,
    whether its command runs before, after or at the same time.

    Args:
        folder: is made if missing.
    Raises:
        ConfigError: another command is writing the result of one of the recordings there.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {item.key: item.path for item in found if isinstance(item, Recording)}
    own = folder / _CLAIMS.replace("*", secrets.token_hex(4))
    with ExitStack() as stack:
        with locked(folder / _LOCK, wait=True):
            for key in _keys_of_others(folder):
                if key in keys:
                    raise ConfigError(
                        f"another command is writing the result of {keys[key]} into {folder}; "
                        "wait for it, or choose another folder"
                    )
            named = names_in(folder, found)
            write_names(folder, named)
            stack.callback(own.unlink, missing_ok=True)  # last, as Windows deletes nothing that is open
            own.write_text("".join(f"{json.dumps(key)}\n" for key in keys), encoding="utf-8")
            stack.enter_context(locked(own))
        yield named


def names_in(folder: Path, found: Sequence[Recording | DataError]) -> list[Recording | DataError]:
    """The recordings with the names that their results have in a folder, or would have."""
    keys = {item.key for item in found if isinstance(item, Recording)}
    before = read_names(folder)
    return name_recordings(found, named={name: key for name, key in before.items() if key in keys or still_there(key)})


def read_names(folder: Path) -> dict[str, str]:
    """The names of results in a folder, as `write_names` has left them, each with the key of its recording."""
    path = folder / NAMES_FILE
    try:
        found = dict(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        if all(isinstance(key, str) and _is_inside(name) for name, key in found.items()):
            return found
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError):
        pass
    message = "is damaged, so results are told by their names alone: one of another recording may count as done"
    warnings.warn(f"{path}: {message}", AsrWarning, 2)
    return {}


def _is_inside(name: str) -> bool:
    """Whether a file of that name lies in the folder: on Windows, C: and \\ lead elsewhere too."""
    path = PurePath(name)
    return not path.anchor and ".." not in path.parts


def write_names(folder: Path, recordings: Iterable[Recording | DataError]) -> None:
    """Keeps whose results are in a folder, those of before and new ones; a later command takes none for another's."""
    known = read_names(folder) | {each.name: each.key for each in recordings if isinstance(each, Recording)}
    write_whole(folder / NAMES_FILE, "".join(f"{json.dumps(pair)}\n" for pair in known.items()))


def still_there(key: str) -> bool:
    """Whether a key is of a recording that there still is, as far as can be known: its folder may have moved."""
    return is_url(key) or os.path.exists(key) or os.path.exists(key.rpartition("#")[0])


def _keys_of_others(folder: Path) -> Iterator[str]:
    """The recordings of other commands that write into the folder; what a killed one has left is deleted."""
    for path in folder.glob(_CLAIMS):
        content = ""
        with locked(path) as left_behind, suppress(FileNotFoundError):  # its command may end just now
            content = "" if left_behind else path.read_text(encoding="utf-8")
        if left_behind:
            path.unlink(missing_ok=True)
        yield from map(json.loads, content.splitlines())
