"""Shared by all corpora: fetch archives, collect utterances, write manifests.

archives ─download, extract─▶ folder ─read─▶ entries ─▶ utterances with audio ─▶ manifest per split

The module of a corpus gives its archives, a function that reads its lists, and the number of utterances in each split:

    CORPUS = Corpus(name="yesno", read=_read, archives=(Archive(url=..., checksum=...),), sizes={"train": 31, ...})
    prepare = CORPUS.prepare

or, if the corpus depends on options:

    prepare = with_options(_corpus, Options())
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import soundfile
from tqdm import tqdm

from asr.audio.sound_files import sound_header
from asr.audio.source import SOUND_SUFFIXES
from asr.corpora.archives import extract
from asr.corpora.download import download
from asr.data.manifest import Utterance, check_can_write, write_manifest
from asr.errors import AsrWarning, ConfigError, DataError, InputError
from asr.files.texts import read_text
from asr.files.writing import write_whole
from asr.importing.sources import files_below

if TYPE_CHECKING:
    import lhotse

_MARKER_VERSION = 1  # raise it to make all manifests again
_WITHOUT_TEXT = "recordings with no corresponding supervisions"  # for example of VCTK's other microphone
_TOLERANCE_SECONDS = 0.025  # times in lists are rounded
_ARCHIVE_SUFFIX = re.compile(r"\.(tar(\.\w+)?|tgz|zip)$")


Chosen = TypeVar("Chosen", contravariant=True)  # the Options of a module


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The URL of a tar or zip archive, and its checksum as for `download`; None without one."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An utterance in the lists of a corpus; its audio may be missing.

    Args:
        split: the name of its manifest.
        id: unique within its split.
        audio: the sound file.
        text: the transcript as published.
        speaker: None if not known.
        start_seconds, end_seconds: its stretch of the file; None is the file's end.
    """

    split: str
    id: str
    audio: Path
    text: str
    speaker: str | None = None
    start_seconds: float = 0.0
    end_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A public corpus.

    Args:
        name: for messages.
        read: the entries in the folder of the corpus, always in the same order; raises DataError.
        archives: to download; none for a corpus that cannot be downloaded.
        home: where to get a corpus without archives.
        sizes: utterances in each split of the complete corpus, if known.
        choices: options of `read`; other choices make the manifests again.
    """

    name: str
    read: Callable[[Path], Iterable[Entry]]
    archives: tuple[Archive, ...] = ()
    home: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)

    def prepare(
        self,
        *,
        source: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str],
        progress: bool | None = None,
    ) -> dict[str, Path]:
        """Write manifests; their paths by split, `output`/SPLIT.jsonl.gz.

        Audio files are used in place. A marker is written last; with the marker, the same call returns at once, unless
        the lists or the number of sound files in the source have changed. After an interruption, the same call
        resumes: unpacked archives are not fetched again.

        Args:
            source: the corpus as published: its folder or archive. None downloads it to output/corpus.
            output: folder to write to.
            progress: bars on stderr; None means only on a terminal.
        Raises:
            ConfigError: there is no source, and the corpus cannot be downloaded; or Lhotse is not installed.
            DataError: lists are missing or damaged, a file is not audio, there are no utterances, or from `download`
                and `extract`.
        Warns:
            AsrWarning: utterances end after their recordings, and are shortened; or the corpus is incomplete. Then the
                manifests hold the available utterances; error rates on them are not comparable. The marker is not
                written.
        """
        output = Path(os.path.abspath(output))
        origin = [archive.url for archive in self.archives] if source is None else os.path.abspath(source)

        def state() -> dict[str, Any]:
            contents = None if source is None else _contents(Path(os.path.abspath(source)), output)
            choices = dict(self.choices)
            return {"version": _MARKER_VERSION, "origin": origin, "contents": contents, "choices": choices}

        marker = output / ".complete.json"
        if manifests := _finished(marker, state()):
            return manifests
        check_can_write()
        root = self._folder(source, output / "corpus", progress=progress)
        marker.unlink(missing_ok=True)
        splits, problems = _collect(self.read(root), self.name, progress=progress)
        splits = {split: splits[split] for split in (*self.sizes, *splits) if split in splits}  # sorted as `sizes`
        if not any(splits.values()):
            raise DataError(f"must hold audio of {self.name}, but there is none", path=root)
        problems += [
            f"{split} has {len(members)} utterances, the publisher's {self.sizes[split]}"
            for split, members in splits.items()
            if len(members) != self.sizes.get(split, len(members))
        ]
        for split, members in splits.items():
            write_manifest(members, output / f"{split}.jsonl.gz")
        if problems:
            reasons = "; ".join(problems)
            warnings.warn(f"{root}: not all of {self.name}, figures are not comparable: {reasons}", AsrWarning, 2)
        else:
            write_whole(marker, json.dumps(state() | {"splits": list(splits)}) + "\n")  # `read` may unpack archives
        return {split: output / f"{split}.jsonl.gz" for split in splits}

    def _folder(self, source: str | os.PathLike[str] | None, folder: Path, *, progress: bool | None) -> Path:
        """The folder of the corpus, downloaded and unpacked if needed."""
        if source is not None:
            path = Path(os.path.abspath(source))
            if path.is_dir():
                return path
            contents = folder / _name_of_version(path)
            return contents if contents.is_dir() else extract(path, contents)
        if not self.archives:
            raise ConfigError(f"{self.name} cannot be downloaded by a program: get it from {self.home}, give --source")
        for archive in self.archives:
            path = folder / PurePosixPath(urlsplit(archive.url).path).name
            contents = folder / _ARCHIVE_SUFFIX.sub("", path.name)
            if not contents.is_dir():
                download(archive.url, path, checksum=archive.checksum, progress=progress)
                try:
                    extract(path, contents)
                except DataError:
                    path.unlink()  # damaged: download it again next time
                    raise
            path.unlink(missing_ok=True)
        return folder


def with_options(
    make: Callable[[Chosen, str | os.PathLike[str] | None], Corpus], default: Chosen
) -> PrepareWithOptions[Chosen]:
    """The `prepare` of a module whose corpus depends on options.

    Args:
        make: the corpus for options and a source.
        default: options if the caller gives none.
    """

    def prepare(
        *,
        source: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str],
        progress: bool | None = None,
        options: Chosen | None = None,
    ) -> dict[str, Path]:
        """As `Corpus.prepare`, with options. Raises: ConfigError: the options are wrong."""
        return make(options or default, source).prepare(source=source, output=output, progress=progress)

    return prepare


class PrepareWithOptions(Protocol[Chosen]):
    """`Corpus.prepare` with the options of a corpus."""

    def __call__(
        self,
        *,
        source: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str],
        progress: bool | None = None,
        options: Chosen | None = None,
    ) -> dict[str, Path]: ...


def find(root: Path, pattern: str) -> Path:
    """The first path that matches a glob pattern, in `root` or up to three folders below it.

    Raises:
        DataError: there is none.
    """
    for prefix in ("", "*/", "*/*/", "*/*/*/"):
        if paths := sorted(root.glob(prefix + pattern)):
            return paths[0]
    raise DataError(f"must hold {pattern}, as the publisher's archive does", path=root)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends; see `asr.files.texts`.

    Raises:
        DataError: it cannot be read.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []  # str.splitlines splits at other characters too


def read_by_lhotse(corpus: Path, recipe: Callable[[], Any]) -> Any:
    """The result of a Lhotse recipe, without its progress bars and with its logged notes as a warning.

    Args:
        corpus: the folder of the corpus, for messages.
        recipe: calls `lhotse.recipes.prepare_...` without an output folder.
    Raises:
        DataError: the recipe fails.
    Warns:
        AsrWarning: the recipe logged notes, for example on items left out; the message has the first one.
    """
    logged: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            manifests = recipe()
    except (AssertionError, ValueError, LookupError, OSError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"must be as published, but Lhotse's recipe fails: {reason}", path=corpus) from error
    finally:
        logging.getLogger().removeHandler(handler)
    notes = [note for note in logged if _WITHOUT_TEXT not in note]
    if notes:
        warnings.warn(f"{corpus}: {len(notes)} notes by Lhotse's recipe, the first: {notes[0]}", AsrWarning, 3)
    return manifests


def lhotse_entries(
    split: str, recordings: lhotse.RecordingSet, supervisions: Iterable[lhotse.SupervisionSegment]
) -> Iterator[Entry]:
    """The supervisions of whole recordings as entries, sorted by id."""
    audio = {recording.id: Path(recording.sources[0].source) for recording in recordings}
    for supervision in sorted(supervisions, key=lambda supervision: supervision.id):
        yield Entry(
            split=split,
            id=supervision.id,
            audio=audio[supervision.recording_id],
            text=supervision.text or "",
            speaker=supervision.speaker,
        )


def _finished(marker: Path, state: Mapping[str, Any]) -> dict[str, Path] | None:
    """The manifests of an earlier call with the same state, if all exist."""
    try:
        stored = json.loads(marker.read_text(encoding="utf-8"))
        manifests = {split: marker.parent / f"{split}.jsonl.gz" for split in stored.pop("splits")}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    if state["contents"] is None:  # a deleted source counts as unchanged
        stored["contents"] = None
    return manifests if stored == state and all(path.is_file() for path in manifests.values()) else None


def _contents(source: Path, output: Path) -> str | None:
    """A digest of the lists and of the number of sound files in a source; None if the source does not exist.

    The output, which may be in the source, is not included.
    """
    if not source.exists():
        return None
    if not source.is_dir():
        return _name_of_version(source)
    lists, sounds = [], 0
    for path in files_below(source, without=[output]):
        if path.suffix.lower() in SOUND_SUFFIXES:
            sounds += 1
        elif path.is_file():
            status = path.stat()
            lists.append(f"{path.relative_to(source)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256(os.fsencode("\n".join([str(sounds), *lists]))).hexdigest()


def _name_of_version(archive: Path) -> str:
    """A name for the contents of an archive, which changes with the file."""
    try:
        stat = archive.stat()
    except OSError as error:
        raise DataError("no such folder or archive", path=archive) from error
    return hashlib.sha256(f"{archive} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]


def _collect(
    entries: Iterable[Entry], name: str, *, progress: bool | None
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """The utterances of each split that have audio, and the faults of the others in words."""
    splits: dict[str, list[Utterance]] = {}
    missing: list[str] = []
    unreadable: list[str] = []
    beyond: list[str] = []
    shortened: list[str] = []
    impossible: list[str] = []
    durations: dict[Path, float] = {}
    hidden = None if progress is None else not progress  # tqdm: None hides the bar unless stderr is a terminal
    for entry in tqdm(entries, desc=name, unit="utterance", disable=hidden):
        members = splits.setdefault(entry.split, [])
        if entry.audio not in durations:
            if not os.path.isfile(entry.audio):
                missing.append(entry.id)
                continue
            try:
                durations[entry.audio] = sound_header(entry.audio).seconds
            except soundfile.LibsndfileError:
                unreadable.append(entry.id)
                continue
        duration = durations[entry.audio]
        end = duration if entry.end_seconds is None else entry.end_seconds
        if entry.start_seconds >= min(end, duration):
            beyond.append(entry.id)
            continue
        if end > duration + _TOLERANCE_SECONDS:
            shortened.append(entry.id)
        try:
            utterance = Utterance(
                id=entry.id,
                audio=entry.audio,
                start_seconds=entry.start_seconds,
                duration_seconds=min(end, duration) - entry.start_seconds,
                text=entry.text,
                speaker=entry.speaker,
            )
        except InputError as error:
            impossible.append(f"{error}")
        else:
            members.append(utterance)
    if shortened:
        message = f"{name}: utterances end after their recordings, and are shortened: {_some(shortened)}"
        warnings.warn(message, AsrWarning, 3)
    problems = [f"utterances without an audio file: {_some(missing)}"] if missing else []
    problems += [f"utterances whose audio libsndfile cannot read: {_some(unreadable)}"] if unreadable else []
    problems += [f"utterances that are empty or begin after their recordings end: {_some(beyond)}"] if beyond else []
    problems += [f"impossible utterances: {_some(impossible)}"] if impossible else []
    return splits, problems


def _some(ids: list[str]) -> str:
    """The number of ids, and the first few."""
    return f"{len(ids)} ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})"
