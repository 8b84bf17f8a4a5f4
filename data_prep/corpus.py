"""What all corpora share: their archives fetched, their utterances collected, their manifests written.

A module of one corpus says where its archives are, reads its lists, and knows how many utterances there must be:

    CORPUS = Corpus(name="yesno", read=_read, archives=(Archive(url=..., checksum=...),), sizes={"train": 31, ...})
    prepare = CORPUS.prepare

or, where it depends on options, makes it of them:

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

from asr.audio.sound_files import SOUND_SUFFIXES, sound_header
from asr.corpora.archives import extract
from asr.corpora.download import download
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrWarning, ConfigError, DataError, InputError
from asr.files.texts import read_text
from asr.files.writing import write_whole
from asr.importing.sources import files_below

if TYPE_CHECKING:
    import lhotse

_MARKER_VERSION = 1  # to be raised when the same corpora are to give other manifests
_WITHOUT_TEXT = "recordings with no corresponding supervisions"  # such as those of VCTK's other microphone
_TOLERANCE_SECONDS = 0.025  # lists have rounded times
_ARCHIVE_SUFFIX = re.compile(r"\.(tar(\.\w+)?|tgz|zip)$")


Chosen = TypeVar("Chosen", contravariant=True)  # the Options of a module


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A tar or zip archive at its publisher's, and its checksum as `download` takes it, None where there is none."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An utterance as a corpus's lists have it; it may be that its audio is not there.

    Args:
        split: the set that it belongs to, which names the manifest.
        id: unique within its split.
        audio: the sound file.
        text: what is said, as published.
        speaker: None when not known.
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
        name: what people call it.
        read: the entries in a folder that holds the corpus, in an order that does not change; raises DataError.
        archives: what to download; none for a corpus that can't be had without a person.
        home: where a person gets a corpus without archives.
        sizes: utterances in each split of the complete corpus, where it is known.
        choices: what was asked of `read`; with another choice the manifests are made anew.
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
        """Manifests by split: `output`/SPLIT.jsonl.gz.

        Audio files are used where they lie. A marker is written last; once it is there, the same call returns at
        once, unless the source's lists have changed, or there are more or fewer sound files. Interrupted, the same
        call goes on: archives that are unpacked are not fetched again.

        Args:
            source: the corpus as it was published: a folder that holds it, or its archive. None downloads it to
                output/corpus.
            output: folder to write to.
            progress: bars on stderr; None means only on a terminal.
        Raises:
            ConfigError: there is no source, and the corpus can't be downloaded.
            DataError: lists are missing or damaged, a file is not audio, nothing is found, or what `download` and
                `extract` raise.
        Warns:
            AsrWarning: utterances end after their recordings, and are shortened; or the corpus is not complete. The
                manifests then hold what is there; figures measured on them can't be compared with others. The marker
                is not written.
        """
        output = Path(os.path.abspath(output))
        origin = [archive.url for archive in self.archives] if source is None else os.path.abspath(source)

        def state() -> dict[str, Any]:
            contents = None if source is None else _contents(Path(os.path.abspath(source)), output)
            choices = dict(self.choices)
            return {"version": _MARKER_VERSION, "origin": origin, "contents": contents, "choices": choices}

        marker = output / ".complete.json"
        if made := _finished(marker, state()):
            return made
        root = self._folder(source, output / "corpus", progress=progress)
        marker.unlink(missing_ok=True)
        splits, problems = _collect(self.read(root), self.name, progress=progress)
        splits = {split: splits[split] for split in (*self.sizes, *splits) if split in splits}  # in the usual order
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
            write_whole(marker, json.dumps(state() | {"splits": list(splits)}) + "\n")  # reading may have unpacked more
        return {split: output / f"{split}.jsonl.gz" for split in splits}

    def _folder(self, source: str | os.PathLike[str] | None, folder: Path, *, progress: bool | None) -> Path:
        """The folder that holds the corpus, downloaded and unpacked where need be."""
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
                    path.unlink()  # it came damaged, and would be found again
                    raise
            path.unlink(missing_ok=True)
        return folder


def with_options(
    make: Callable[[Chosen, str | os.PathLike[str] | None], Corpus], default: Chosen
) -> PrepareWithOptions[Chosen]:
    """The `prepare` of a module whose corpus depends on options.

    Args:
        make: the corpus, from the options and the source that was given.
        default: options of a caller who gives none.
    """

    def prepare(
        *,
        source: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str],
        progress: bool | None = None,
        options: Chosen | None = None,
    ) -> dict[str, Path]:
        """Manifests by split, as the options say; see `Corpus.prepare`. Raises ConfigError for wrong options, too."""
        return make(options or default, source).prepare(source=source, output=output, progress=progress)

    return prepare


class PrepareWithOptions(Protocol[Chosen]):
    """`Corpus.prepare` with options of a corpus's own."""

    def __call__(
        self,
        *,
        source: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str],
        progress: bool | None = None,
        options: Chosen | None = None,
    ) -> dict[str, Path]: ...


def find(root: Path, pattern: str) -> Path:
    """The first path that fits a glob pattern, in `root` or at most three folders below it.

    Raises:
        DataError: there is none.
    """
    for prefix in ("", "*/", "*/*/", "*/*/*/"):
        if found := sorted(root.glob(prefix + pattern)):
            return found[0]
    raise DataError(f"must hold {pattern}, as the publisher's archive does", path=root)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends; see `asr.files.texts`.

    Raises:
        DataError: it cannot be read.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []  # str.splitlines would part at other characters, too


def read_by_lhotse(corpus: Path, recipe: Callable[[], Any]) -> Any:
    """What a recipe of Lhotse's gives, under our rules: no bars of its own, nothing left out in silence.

    Args:
        corpus: the folder it reads, for messages.
        recipe: calls `lhotse.recipes.prepare_...` without an output folder.
    Raises:
        DataError: the recipe trips over the corpus.
    Warns:
        AsrWarning: it left something out; the first of what it logged.
    """
    logged: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            made = recipe()
    except (AssertionError, ValueError, LookupError, OSError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"must be as published, but Lhotse's recipe fails: {reason}", path=corpus) from error
    finally:
        logging.getLogger().removeHandler(handler)
    notes = [note for note in logged if _WITHOUT_TEXT not in note]
    if notes:
        warnings.warn(f"{corpus}: {len(notes)} notes by Lhotse's recipe, the first: {notes[0]}", AsrWarning, 3)
    return made


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
    """The manifests of an earlier call with the same state, if they are all there."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        made = {split: marker.parent / f"{split}.jsonl.gz" for split in found.pop("splits")}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    if state["contents"] is None:  # what is gone has not changed
        found["contents"] = None
    return made if found == state and all(path.is_file() for path in made.values()) else None


def _contents(source: Path, output: Path) -> str | None:
    """A digest that changes with any file of a source but its sound, and with the number of those; None if it is gone.

    The output, which may be in the source, has no part in it.
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
    """A name for what an archive holds, another one once the file is another."""
    try:
        stat = archive.stat()
    except OSError as error:
        raise DataError("no such folder or archive", path=archive) from error
    return hashlib.sha256(f"{archive} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]


def _collect(
    entries: Iterable[Entry], name: str, *, progress: bool | None
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """The utterances of each split whose audio is there, and in words what is wrong with the others."""
    splits: dict[str, list[Utterance]] = {}
    missing: list[str] = []
    unreadable: list[str] = []
    beyond: list[str] = []
    shortened: list[str] = []
    impossible: list[str] = []
    durations: dict[Path, float] = {}
    hidden = None if progress is None else not progress  # for tqdm, None is: hidden unless stderr is a terminal
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
    problems += [f"utterances that cannot be: {_some(impossible)}"] if impossible else []
    return splits, problems


def _some(ids: list[str]) -> str:
    """How many there are, and the first few."""
    return f"{len(ids)} ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})"
