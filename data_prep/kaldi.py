"""Kaldi data directories, from the Kaldi or ESPnet recipe of any corpus.

Format: https://kaldi-asr.org/doc/data_prep.html. A source is a data directory, or a folder with several (data/train,
data/dev, ...); each gives a manifest of its name:
    wav.scp      RECORDING FILE               or RECORDING COMMAND |
    segments     UTTERANCE RECORDING START END, in seconds, -1 for the recording's end; without this file, each
                 recording is an utterance
    text         UTTERANCE TEXT
    utt2spk      UTTERANCE SPEAKER            optional; if the speaker is the utterance, the speaker is unknown

No command is run. If a command only decodes a file, as `flac -c -d -s FILE |` and `sph2pipe -f wav -p FILE |`, the file
is read; for other commands, write the audio to files first. A relative FILE is searched in the working directory, the
data directory and the folders above it. Lhotse's reader is not used: it runs the commands, and leaves out files that it
cannot open.
"""

from __future__ import annotations

import math
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

from asr.corpora.corpus import Corpus, Entry, read_lines
from asr.errors import AsrWarning, DataError

_DECODERS = ("flac", "sph2pipe")


def _read(root: Path) -> Iterator[Entry]:
    folders = [root] if (root / "wav.scp").is_file() else sorted(path.parent for path in root.glob("*/wav.scp"))
    if not folders:
        raise DataError("must be a Kaldi data directory, or hold some, but there is no wav.scp", path=root)
    for folder in folders:
        yield from _read_directory(folder)


def _read_directory(folder: Path) -> Iterator[Entry]:
    recordings = {name: _file(rest, folder, line=line) for name, (rest, line) in _table(folder / "wav.scp").items()}
    texts = _table(folder / "text")
    speakers = _table(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    segments = folder / "segments"
    if segments.is_file():
        stretches = {name: _segment(rest, segments, line=line) for name, (rest, line) in _table(segments).items()}
    else:
        stretches = {name: (name, 0.0, None) for name in recordings}
    if silent := [utterance for utterance in texts if utterance not in stretches]:
        message = f"{len(silent)} utterances without sound are left out, the first is {silent[0]!r}"
        warnings.warn(f"{folder / 'text'}: {message}", AsrWarning, 4)
    for utterance, (recording, start, end) in stretches.items():
        if recording not in recordings:
            raise DataError(f"must name recordings of wav.scp, but {recording!r} is none", path=segments)
        if utterance not in texts:
            raise DataError(f"must have a line for {utterance!r} (Kaldi: utils/fix_data_dir.sh)", path=folder / "text")
        speaker = speakers[utterance][0] if utterance in speakers else None
        yield Entry(
            split=folder.name,
            id=utterance,
            audio=recordings[recording],
            text=texts[utterance][0],
            speaker=None if speaker == utterance else speaker,
            start_seconds=start,
            end_seconds=end,
        )


def _table(path: Path) -> dict[str, tuple[str, int]]:
    """The lines by their first word: the rest of the line, and its number."""
    table: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        name, *rest = line.split(maxsplit=1)
        if name in table:
            raise DataError(f"names must differ, but {name!r} is also on line {table[name][1]}", path=path, line=number)
        table[name] = ("".join(rest).strip(), number)
    return table


def _segment(rest: str, path: Path, *, line: int) -> tuple[str, float, float | None]:
    """The recording, start and end of a segment."""
    try:
        recording, start, end = rest.split()
        seconds = float(start), None if float(end) == -1 else float(end)
        if not 0 <= seconds[0] <= (math.inf if seconds[1] is None else seconds[1]):
            raise ValueError
        return recording, *seconds
    except ValueError:
        raise DataError(f"must be UTTERANCE RECORDING START END, got ... {rest!r}", path=path, line=line) from None


def _file(value: str, folder: Path, *, line: int) -> Path:
    """The file of a line of wav.scp."""
    name = value
    if value.endswith("|"):
        words = _words(value.removesuffix("|"))
        plain = words and Path(words[0]).name in _DECODERS and "|" not in words
        channel = words[words.index("-c") + 1 :][:1] if "-c" in words else ["1"]
        other_channel = plain and words[0].endswith("sph2pipe") and channel != ["1"]
        if not plain or other_channel:
            message = f"must be a file, got a command, which is not run (write its output to a file): {value!r}"
            raise DataError(message, path=folder / "wav.scp", line=line)
        name = words[-1]
    folders = (Path.cwd(), folder, *folder.parents)
    return next((path / name for path in folders if os.path.isfile(path / name)), folder / name)


def _words(command: str) -> list[str]:
    """The words of a command, split as in a shell, or at spaces if a shell would refuse it."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


CORPUS = Corpus(name="a Kaldi data directory", read=_read, home="a Kaldi recipe")
prepare = CORPUS.prepare
