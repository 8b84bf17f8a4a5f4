"""Find candidates to import: in folders of sound and texts, tables, subtitles, and data sets on disk."""

from __future__ import annotations

import hashlib
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asr.audio.source import SOUND_SUFFIXES
from asr.data.manifest import MOST_ID, MOST_SECONDS
from asr.data.splits import SPLIT_NAMES, find_split
from asr.errors import ConfigError, DataError
from asr.files.texts import read_text
from asr.files.writing import write_whole
from asr.importing.hugging_face import is_dataset, read_rows, sound_suffix
from asr.importing.segments import SEGMENT_SUFFIXES, read_segments
from asr.importing.tables import TABLE_SUFFIXES, table_rows
from asr.options import check_options, option
from asr.text.normalization import Numbers

PROBLEMS = "problems.txt"  # in the output folder: the items left out, with reasons
_LONGEST_PATH = 1000
CUT = "cut-audio"  # in the output folder: written sounds, never used as a source
# Usual names of columns in tables; NeMo's are audio_filepath, text, duration and offset.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "audio_filepath", "audio", "audio_path", "audio_file", "file", "file_name", "filename", "wav",
             "wav_filename"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk"),
    "start": ("start", "offset", "begin", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration",),
    "id": ("id", "utterance_id", "utt_id"),
    "channel": ("channel",),
    "split": ("split",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How to read sources."""

    speakers: Literal["column", "folder", "tier"] = option(
        "column", "take the speaker from a table's column or a subtitle's voice, the folder, or the tier"
    )
    columns: tuple[str, ...] = option((), "names of a table's columns, as text=Satz,path=Datei")
    encoding: str = option("utf-8", "encoding of texts and tables without a byte-order mark")
    audio: str = option("", "folder of the relative paths in a table (default: the folder of the table)")
    tier: str = option("", "read this tier of a TextGrid (default: its first of intervals)")
    numbers: Numbers = option(
        "keep", "keep digits in texts, or spell numbers in English words, 1923 as nineteen twenty three"
    )

    def __post_init__(self) -> None:
        check_options(self)
        for entry in self.columns:
            name, mark, column = entry.partition("=")
            if not (mark and column and name in _COLUMNS):
                names = ", ".join(_COLUMNS)
                raise ConfigError(
                    f"columns must be NAME=COLUMN, where NAME is one of {names}; got {entry!r}", "columns"
                )
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ConfigError(f"encoding must be a codec of Python, got {self.encoding!r}", "encoding") from None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A stretch of a recording and its text, before the recording is read.

    Args:
        location: FILE or FILE:LINE of its source.
        audio: the recording.
        recording: its name, the same wherever the data are stored; splits and ids depend on it.
        text: its transcript.
        start_seconds: its start.
        end_seconds: its end; None means the end of the recording.
        whole: whether it must be the whole recording; a given end must then be the end of the recording.
        speaker, id, channel, split: None if not given.
    """

    location: str
    audio: Path
    recording: str
    text: str
    start_seconds: float = 0.0
    end_seconds: float | None = None
    whole: bool = True
    speaker: str | None = None
    id: str | None = None
    channel: int | None = None
    split: str | None = None


Item = Candidate | DataError


def find_candidates(source: Path, output: Path, options: SourceOptions) -> Iterator[Item]:
    """The candidates in a source, in order, and errors for its other items.

    Args:
        source: a folder of sound files, each with a text or segments of the same name; a table (.csv, .tsv, .jsonl);
            a Hugging Face data set on disk.
        output: folder for the sounds of a data set.
        options: how to read it.
    """
    if source.is_dir():
        yield from _dataset(source, output, options) if is_dataset(source) else _folder(source, output, options)
    elif not source.exists():
        raise DataError("there is no such file or folder to import", path=source)
    elif source.suffix.lower() in TABLE_SUFFIXES:
        yield from _table(source, options)
    else:
        kinds = ", ".join(sorted(TABLE_SUFFIXES))
        raise DataError(f"a source must be a folder, or a table by its suffix ({kinds})", path=source)


def _folder(root: Path, output: Path, options: SourceOptions) -> Iterator[Item]:
    """The sound files below a folder, with the texts of the same name; without files that imports wrote."""
    sounds: dict[Path, list[Path]] = defaultdict(list)  # by path without suffix, in one spelling
    texts: dict[Path, dict[str, Path]] = defaultdict(dict)
    num_files = 0
    for path in files_below(root, without=(output / CUT, output / PROBLEMS)):
        suffix, stem = path.suffix.lower(), Path(unicodedata.normalize("NFC", str(path.with_suffix(""))))
        num_files += 1
        if suffix not in SOUND_SUFFIXES and suffix != ".txt" and suffix not in SEGMENT_SUFFIXES:
            continue
        if not _is_unicode(path):
            yield DataError("a file's name must be UTF-8", path=ascii(str(path))[1:-1])
        elif suffix in SOUND_SUFFIXES:
            sounds[stem].append(path)
        else:
            texts[stem][suffix] = path
    if not sounds:
        raise DataError(f"a folder to import must hold sound files; none of its {num_files} files is one", path=root)
    for stem, paths in sounds.items():
        beside = texts.pop(stem, {})
        kind = next((kind for kind in (*SEGMENT_SUFFIXES, ".txt") if kind in beside), None)
        if kind is None:
            yield from (DataError("has no text beside it (.txt, .srt, .vtt or .TextGrid)", path=path) for path in paths)
        elif len(paths) > 1:
            several = " and ".join(path.name for path in paths)
            yield DataError(f"must belong to one sound file, but matches {several}", path=beside[kind])
        else:
            yield from _beside(paths[0], beside.pop(kind), root, options)
            for other in beside.values():
                yield DataError(f"is not used: the same sound file has a {kind}, which is preferred", path=other)
    for unused in texts.values():
        yield from (DataError("has no sound file beside it", path=path) for path in unused.values())


def files_below(root: Path, *, without: Collection[Path]) -> Iterator[Path]:
    """The files below a folder, each once, in order, also through links; not hidden ones or ones below `without`."""
    excluded, seen = {os.path.realpath(path) for path in without}, {os.path.realpath(root)}
    for parent, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in folders if name[0] != "."}
        folders.clear()
        for name in sorted(real, key=lambda name: os.path.islink(os.path.join(parent, name))):  # folders before links
            if real[name] not in seen and real[name] not in excluded:
                folders.append(name)
                seen.add(real[name])  # a link may point to a folder above
        folders.sort()
        here = os.path.realpath(parent)
        for name in sorted(names):
            if name[0] != "." and os.path.join(here, name) not in excluded:
                yield Path(parent, name)


def _is_unicode(name: str | Path) -> bool:
    """Whether a manifest can hold a name; not so for file names in another encoding than the system's."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _beside(audio: Path, path: Path, root: Path, options: SourceOptions) -> Iterator[Item]:
    """The text, or the segments, of one recording."""
    recording = _recording_name(audio.relative_to(root))
    parts = audio.relative_to(root).parts
    speaker = parts[0] if options.speakers == "folder" and len(parts) > 1 else None
    try:
        if path.suffix.lower() == ".txt":
            text = " ".join(read_text(path, options.encoding, flag="--encoding").split())
            if text:
                yield Candidate(location=str(path), audio=audio, recording=recording, text=text, speaker=speaker)
            else:
                yield DataError("has no text in it", path=path)
            return
        segments = read_segments(
            path, encoding=options.encoding, tier=options.tier, tiers_are_speakers=options.speakers == "tier"
        )
    except DataError as error:
        yield error
        return
    if not segments:
        yield DataError("has no segment with text", path=path)
    for segment in segments:
        if isinstance(segment, DataError):
            yield segment
            continue
        yield Candidate(
            location=f"{path}:{segment.line}",
            audio=audio,
            recording=recording,
            text=segment.text,
            start_seconds=segment.start_seconds,
            end_seconds=segment.end_seconds,
            whole=False,
            speaker=speaker or segment.speaker,
        )


def _table(path: Path, options: SourceOptions) -> Iterator[Item]:
    """The rows of a table."""
    folder = Path(options.audio) if options.audio else path.parent
    text = read_text(path, options.encoding, flag="--encoding")
    names: dict[str, str] | None = None
    has_header = path.suffix.lower() in (".csv", ".tsv")
    for line, row in table_rows(text, path):
        if isinstance(row, DataError):
            yield row
            continue
        if has_header and names is None:
            names = _column_names(row, options, path, 1)  # a wrong header makes the whole table unusable
        try:
            if not has_header:
                names = _column_names(row, options, path, line)
            assert names is not None
            values = {name: row.get(column) for name, column in names.items()}
            name = values.pop("path")
            if not isinstance(name, str) or not name.strip():
                raise DataError(f"must have a path, got {name!r:.60}", path=path, line=line)
            if not _is_unicode(name) or "\0" in name or len(name) > _LONGEST_PATH:
                message = f"path must be Unicode without NUL, of at most {_LONGEST_PATH} characters"
                raise DataError(f"{message}, got {name!a:.60}", path=path, line=line)
            audio, absolute = _existing(folder / name.strip()), Path(os.path.abspath(folder))
            is_inside = Path(os.path.abspath(audio)).is_relative_to(absolute)
            relative = Path(os.path.relpath(audio, absolute) if is_inside else name.strip())
            if not relative.name:
                raise DataError(f"path must be a file, got {name!r}", path=path, line=line)
            yield _candidate(values, f"{path}:{line}", audio, relative, options)
        except DataError as error:
            yield error


def _dataset(folder: Path, output: Path, options: SourceOptions) -> Iterator[Item]:
    """The rows of a Hugging Face data set; its sounds become files below output/cut-audio."""
    names: dict[str, str] | None = None
    for path, split, number, row in read_rows(folder):
        if isinstance(row, DataError):
            yield row
            continue
        names = names or _column_names(row, options, path, number)
        location = f"{path}:{number}"
        audio = row.get(names["path"])  # a later file of the data set may lack the column
        values = {"split": find_split(split) or None}
        values |= {name: row.get(column) for name, column in names.items() if name != "path"}
        try:
            content = audio.get("bytes") if isinstance(audio, dict) else None
            stored = audio.get("path") if isinstance(audio, dict) else audio
            if isinstance(stored, str) and ("\0" in stored or len(stored) > _LONGEST_PATH):
                message = f"path must be without NUL, of at most {_LONGEST_PATH} characters"
                raise DataError(message, path=path, line=number)
            if isinstance(content, bytes):
                kind = re.sub(r"\W", "_", split)[:50] or "row"
                relative = Path(folder.name, f"{kind}-{number:07d}{sound_suffix(stored, content)}")
                digest = hashlib.sha256(content).hexdigest()[:16]  # a changed sound gets a new file
                file = output / CUT / relative.with_name(f"{relative.stem}-{digest}{relative.suffix}")
                if not file.is_file():
                    write_whole(file, content)
            elif isinstance(stored, str):
                relative, file = Path(stored), _existing(folder / stored)
            else:
                raise DataError("the row has no sound", path=path, line=number)
            yield _candidate(values, location, file, relative, options)
        except DataError as error:
            yield error


def _candidate(values: dict[str, Any], location: str, audio: Path, relative: Path, options: SourceOptions) -> Candidate:
    """A row of a table as a candidate. Raises: DataError: a value is wrong."""
    path, _, line = location.rpartition(":")

    def refuse(message: str) -> DataError:
        return DataError(message, path=path, line=int(line))

    def number(name: str) -> float | None:
        value = values.get(name)
        if value is None or value == "":
            return None
        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not 0 <= seconds <= MOST_SECONDS or isinstance(value, bool):
            raise refuse(f"{name} must be a number of seconds, 0 to {MOST_SECONDS:g}, got {value!r:.60}")
        return seconds

    def words(name: str) -> str | None:
        value = values.get(name)
        text = None if value is None else " ".join(str(value).split()) or None
        if text is not None and (not _is_unicode(text) or "\0" in text):
            raise refuse(f"{name} must be Unicode without NUL, got {text!a:.60}")
        return text

    if not isinstance(values.get("text"), str | None):
        raise refuse(f"text must be a string, got {values['text']!r:.60}")
    text = words("text")
    if text is None:
        raise refuse("has no text")
    name = words("id")
    if name is not None and len(name) > MOST_ID:
        raise refuse(f"id must have at most {MOST_ID} characters, got {len(name)}: {name!r:.60}")
    start, end, duration, channel = number("start"), number("end"), number("duration"), values.get("channel")
    whole = start is None and end is None
    if end is None and duration is not None:
        end = (start or 0.0) + duration
    if end is not None and end <= (start or 0.0):
        raise refuse(f"an utterance must end after it begins, got {start or 0.0:g} to {end:g} s")
    if channel not in (None, "") and not re.fullmatch(r"\d{1,9}", str(channel)):
        raise refuse(f"channel must be a whole number from 0, got {channel!r:.60}")
    if (split := words("split")) is not None and split.lower() not in SPLIT_NAMES:
        raise refuse(f"split must be one of {', '.join(SPLIT_NAMES)}, got {split!r}")
    folders = [part for part in relative.parts[:-1] if part not in ("..", relative.anchor)]
    is_inside = len(folders) == len(relative.parts) - 1
    folder = folders[0 if is_inside else -1] if folders else None
    return Candidate(
        location=location,
        audio=audio,
        recording=_recording_name(relative),
        text=text,
        start_seconds=start or 0.0,
        end_seconds=end,
        whole=whole,
        speaker=folder if options.speakers == "folder" else words("speaker"),
        id=name,
        channel=None if channel in (None, "") else int(str(channel)),
        split=None if split is None else SPLIT_NAMES[split.lower()],
    )


def _column_names(row: Mapping[str, Any], options: SourceOptions, path: Path, line: int) -> dict[str, str]:
    """The column of each value in a table."""
    columns = {str(column).strip().lower(): column for column in row}
    names = {}
    for name, usual in _COLUMNS.items():
        column = next((columns[candidate] for candidate in usual if candidate in columns), None)
        if column is not None:
            names[name] = column
    for entry in options.columns:
        name, _, column = entry.partition("=")
        if column not in row:
            raise DataError(
                f"must have the column {column!r}, but has {', '.join(map(str, row))}", path=path, line=line
            )
        names[name] = column
    for name in ("path", "text"):
        if name not in names:
            message = (
                f"must have a column for the {name} ({', '.join(_COLUMNS[name])}), but has "
                f"{', '.join(map(repr, row))}; name it with --columns {name}=COLUMN"
            )
            raise DataError(message, path=path, line=line)
    return names


def _existing(path: Path) -> Path:
    """The path, or an existing one whose name differs only in the Unicode composition of accents."""
    if os.path.exists(path):
        return path
    composed = unicodedata.normalize("NFC", path.name)
    with suppress(OSError):  # no such folder, or no permission to list it
        for name in os.listdir(path.parent):
            if unicodedata.normalize("NFC", name) == composed:
                return path.parent / name
    return path


def _recording_name(relative: Path) -> str:
    """A recording's name: its path without suffix, in Unicode NFC, with _ for white space."""
    parts = [part for part in relative.with_suffix("").parts if part not in ("..", relative.anchor)]
    return "_".join(unicodedata.normalize("NFC", "/".join(parts)).split())


def _raise(error: OSError) -> None:
    raise DataError(f"cannot be listed: {error.strerror}", path=error.filename)
