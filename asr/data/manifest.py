"""Manifests: lists of utterances to train or score a model on, stored as Lhotse CutSets.

One line of JSON per utterance (`.jsonl`, or `.jsonl.gz`): a MonoCut with one supervision, which holds the text and the
speaker. Manifests are exchanged with Lhotse in both directions. Lines are parsed directly, without Lhotse, so a
manifest of a million lines opens in seconds.
Format: https://lhotse.readthedocs.io/en/latest/cuts.html
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from asr.errors import DataError, InputError
from asr.extras import check_installed
from asr.files.reading import open_regular, parse_json
from asr.files.texts import MOST_LINE, lines_with_ends, unpacked
from asr.files.writing import write_whole
from asr.text.normalization import TextOptions, normalize

if TYPE_CHECKING:
    from lhotse import MonoCut, Recording

# An utterance may end this much after its recording, and a supervision after its cut: enough for rounded times and
# the padding of compressed formats, less than a phone.
_TOLERANCE_SECONDS = 0.025
_OF_TABLES = frozenset({"audio_filepath", "audio_path", "audio_file", "audio", "path", "wav", "file"})
_HIGHEST = sys.float_info.max
MOST_CHANNELS = 1 << 16
MOST_ID = 500  # characters; ids become file names
MOST_SECONDS = 1e9  # 30 years; sums of samples of longer recordings are not exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One stretch of one channel of an audio file, and its transcript.

    Args:
        id: unique within its manifest.
        audio: the sound file.
        start_seconds: start of the utterance in the file, >= 0.
        duration_seconds: its length, > 0.
        text: the reference transcript as in the corpus; may be empty.
        speaker: None if not known.
        channel: index of the file's channel, 0 for mono.
        archive: path or URL of the shard that holds the sound (`audio` is then only a name); "" for a file.
    Raises:
        InputError: a field is outside its range.
    """

    id: str
    audio: Path
    duration_seconds: float
    text: str
    start_seconds: float = 0.0
    speaker: str | None = None
    channel: int = 0
    archive: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """The archive of the sound, and its name in the archive."""
        return self.archive, self.id

    def __post_init__(self) -> None:
        if not self.id:
            raise InputError("the id of an utterance must not be empty")
        if "\0" in self.id or len(self.id) > MOST_ID:
            raise InputError(
                f"an id must have at most {MOST_ID} characters, and no NUL, got {len(self.id)}: {self.id!r:.60}"
            )
        if not (math.isfinite(self.start_seconds) and self.start_seconds >= 0):
            raise InputError(f"the start of {self.id!r:.60} must be >= 0 seconds, got {self.start_seconds}")
        if not (math.isfinite(self.duration_seconds) and self.duration_seconds > 0):
            raise InputError(f"the duration of {self.id!r:.60} must be > 0 seconds, got {self.duration_seconds}")
        if (end := self.start_seconds + self.duration_seconds) > MOST_SECONDS:
            raise InputError(f"{self.id!r:.60} must end within {MOST_SECONDS:g} seconds, got {end:g}")
        if not 0 <= self.channel < MOST_CHANNELS:
            raise InputError(
                f"the channel of {self.id!r:.60} must be >= 0 and < {MOST_CHANNELS}, got {self.channel!r:.20}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A recording as its manifest describes it: rate in Hz and samples, None if not stated; seconds."""

    sample_rate: int | None
    num_samples: int | None
    duration_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestLine:
    """A line of a manifest, counted from 1: an utterance and the description of its recording, or an error."""

    number: int
    utterance: Utterance | None = None
    declared: Declared | None = None
    error: str = ""


def is_manifest(name: str | os.PathLike[str]) -> bool:
    """Whether a file is a manifest, by its name."""
    return os.fspath(name).endswith((".jsonl", ".jsonl.gz"))


def spelled_text(utterance: Utterance, options: TextOptions) -> str:
    """The text of an utterance, normalised; see `normalize`.

    Raises:
        DataError: the options refuse marks and the text has one; the message names the utterance.
    """
    try:
        return normalize(utterance.text, options)
    except InputError as error:
        raise DataError(f"the text of {utterance.id!r} cannot be used: {error}") from None


def write_manifest(utterances: Iterable[Utterance], path: str | os.PathLike[str]) -> None:
    """Write utterances as a Lhotse CutSet; the file appears complete or not at all.

    The same utterances give the same bytes. Relative audio paths are made absolute, because Lhotse resolves them from
    the working directory, and this module from the manifest's folder.

    Args:
        utterances: in the order of the lines; their audio files must exist.
        path: `.jsonl` or `.jsonl.gz`, replaced if it exists; its folder is made.
    Raises:
        InputError: another suffix, or two utterances with the same id.
        DataError: an audio file is missing, is not audio, has no such channel, or ends before an utterance in it does.
        ConfigError: Lhotse is not installed.
    """
    path = Path(path)
    _check_suffix(path, InputError)
    check_can_write()
    write_lines(path, [json.dumps(cut, ensure_ascii=False) + "\n" for cut in _cuts(utterances)])


def check_can_write() -> None:
    """Raise a ConfigError, before work whose result is a manifest, if Lhotse is not installed."""
    check_installed("lhotse", "writing a manifest")


def read_manifest(path: str | os.PathLike[str], *, check_audio: bool = False) -> list[Utterance]:
    """The utterances of a CutSet, written by `write_manifest` or by Lhotse, in the order of its lines.

    Args:
        path: `.jsonl` or `.jsonl.gz`; a relative audio path in it starts from the manifest's folder.
        check_audio: also require that every audio file exists (without opening it).
    Raises:
        DataError: a line is not JSON, lacks a key, repeats an id, has an impossible time, or is not a cut of one
            stretch of one recording with one text; or the file is missing or damaged.
    """
    return list(_different(scan_manifest(path), path, {}, check_audio=check_audio))


def read_usable(path: str | os.PathLike[str]) -> list[Utterance | DataError]:
    """As `read_manifest`, but each bad line, or the rest of a damaged file, is replaced by an error.

    Raises:
        DataError: there is no such manifest, its suffix is wrong, or it has no lines.
    """
    items: list[Utterance | DataError] = []
    seen: dict[str, str] = {}
    lines = scan_manifest(path)
    while True:
        try:
            items.append(next(_different(lines, path, seen)))
        except StopIteration:
            break
        except DataError as error:
            if error.line is None:
                raise
            items.append(error)
    if not items:
        raise DataError("there are no utterances in this manifest", path=path)
    return items


def _different(
    lines: Iterable[ManifestLine], path: str | os.PathLike[str], seen: dict[str, str], *, check_audio: bool = False
) -> Iterator[Utterance]:
    """The utterances of a file's lines, all of which must be usable; adds the line of each id to `seen`."""
    name = os.fspath(path)
    for line in lines:
        utterance, error = line.utterance, line.error
        if utterance is not None:
            here = f"{name}:{line.number}"
            first = seen.setdefault(utterance.id, here)
            if first is not here:
                error = f"ids must differ, but {utterance.id!r} is also on line {first.removeprefix(f'{name}:')}"
            elif check_audio and not os.path.isfile(utterance.audio):
                error = f"the audio of {utterance.id!r} must be a file, but there is none: {utterance.audio}"
        if utterance is None or error:
            raise DataError(error, path=path, line=line.number)
        yield utterance


def read_shard(cuts: IO[str], name: str, *, archive: str, seen: dict[str, str]) -> list[Utterance]:
    """The utterances of a shard in Lhotse's Shar format.

    Args:
        cuts: the lines of its cuts.*.jsonl.gz.
        name: of this file in errors.
        archive: path or URL of the tar file with the sound.
        seen: the line of each id, over all shards; new ids are added.
    Raises:
        DataError: as `read_manifest`; or the sound of a cut is elsewhere.
    """
    utterances: list[Utterance] = []
    try:
        for utterance in _different(_scan(cuts, Path(archive), archive), name, seen):
            utterances.append(utterance)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", path=name, line=len(utterances) + 1) from error
    return utterances


def scan_manifest(path: str | os.PathLike[str]) -> Iterator[ManifestLine]:
    """Every line of a CutSet, usable or not; ids may repeat.

    Raises:
        DataError: during iteration: the file is missing or damaged, or its suffix is wrong.
    """
    path = Path(path)
    _check_suffix(path, DataError)
    number = 0
    try:
        with open_manifest(path) as lines:
            for line in _scan(lines, path.parent):
                number = line.number
                yield line
    except FileNotFoundError as error:
        raise DataError("no such manifest", path=path) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None)  # an error of the system, mostly from opening the file
        bad_line = None if reason and not number else number + 1
        raise DataError(f"cannot be read: {reason or error}", path=path, line=bad_line) from error


def _scan(lines: IO[str], folder: Path, archive: str = "") -> Iterator[ManifestLine]:
    """Each line as an utterance or an error; relative audio paths start from `folder`."""
    for number, text in enumerate(iter(lambda: lines.readline(MOST_LINE + 1), ""), start=1):
        if len(text) > MOST_LINE:
            raise OSError(f"the line has more than {MOST_LINE} characters")
        if not text.strip():
            continue
        try:
            cut = _load(text)
            utterance = _parse(cut, folder, archive)
            yield ManifestLine(number=number, utterance=utterance, declared=_declared(cut))
        except InputError as error:
            yield ManifestLine(number=number, error=str(error))


@contextmanager
def open_manifest(path: Path) -> Iterator[IO[str]]:
    """The lines of a manifest, unpacked if compressed; a byte that is not UTF-8 becomes a lone surrogate."""
    with open_regular(path) as file, unpacked(file, path) as content, lines_with_ends(content) as lines:
        yield lines


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write lines, each with its newline, compressed if the name ends in .gz; the same lines give the same bytes."""
    content = "".join(lines).encode(errors="backslashreplace")
    # No time and no file name in the header of gzip.
    write_whole(path, gzip.compress(content, mtime=0) if os.fspath(path).endswith(".gz") else content)


def _check_suffix(path: Path, error: type[InputError] | type[DataError]) -> None:
    if not is_manifest(path):
        raise error(
            f"a manifest's name must end in .jsonl or .jsonl.gz, got {path.name!r} (lhotse: cuts.to_jsonl); "
            "asr-data import makes manifests of recordings with texts, and of tables"
        )


def _cuts(utterances: Iterable[Utterance]) -> Iterable[dict[str, Any]]:
    """Each utterance as the dictionary of a Lhotse MonoCut; utterances of one file share one Recording."""
    from lhotse import AudioSource, Recording

    recordings: dict[Path, Recording] = {}
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise InputError(f"ids must differ, but {utterance.id!r} is used twice")
        seen.add(utterance.id)
        audio = Path(os.path.abspath(utterance.audio))
        if audio not in recordings:
            header = _header(audio)
            recordings[audio] = Recording(
                id=utterance.id,  # unique, unlike the name of a file
                sources=[AudioSource(type="file", channels=list(range(header.num_channels)), source=str(audio))],
                sampling_rate=header.sample_rate,
                num_samples=header.num_samples,
                duration=header.seconds,
            )
        recording = recordings[audio]
        end = utterance.start_seconds + utterance.duration_seconds
        if end > recording.duration + _TOLERANCE_SECONDS:
            raise DataError(f"lasts {recording.duration:g} s but {utterance.id!r} ends at {end:g} s", path=audio)
        if utterance.channel not in recording.channel_ids:
            raise DataError(
                f"has {recording.num_channels} channel(s) but {utterance.id!r} is on channel {utterance.channel} "
                "(the first is 0)",
                path=audio,
            )
        yield make_cut(utterance, recording).to_dict()


def make_cut(utterance: Utterance, recording: Recording) -> MonoCut:
    """The utterance as a cut of a recording."""
    from lhotse import MonoCut, SupervisionSegment

    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=recording.id,
        start=0.0,  # counted from the start of the cut
        duration=utterance.duration_seconds,
        channel=utterance.channel,
        text=utterance.text,
        speaker=utterance.speaker,
    )
    return MonoCut(
        id=utterance.id,
        start=utterance.start_seconds,
        duration=utterance.duration_seconds,
        channel=utterance.channel,
        supervisions=[supervision],
        recording=recording,
    )


def _header(audio: Path) -> Any:
    if not audio.is_file():
        raise DataError("no such audio file", path=audio)
    import soundfile  # slow, and not needed to read a manifest

    from asr.audio.sound_files import sound_header

    try:
        return sound_header(audio)
    except soundfile.LibsndfileError as error:
        raise DataError(f"must be audio that libsndfile reads: {error.error_string}", path=audio) from error


def _load(line: str) -> dict[str, Any]:
    """One line of a CutSet as a dictionary. Raises: InputError."""
    try:
        cut = parse_json(line)
    except ValueError as error:
        raise InputError(f"each line must be one JSON object: {error}") from error
    if not isinstance(cut, dict):
        raise InputError(f"each line must be one JSON object, got {line.strip()[:40]!r}")
    return cut


def _declared(cut: dict[str, Any]) -> Declared:
    """The description of a cut's recording, which `_parse` has checked."""
    recording = cut["recording"]
    counts = (recording.get(key) for key in ("sampling_rate", "num_samples"))
    sample_rate, num_samples = (value if type(value) is int and 0 < value < 2**62 else None for value in counts)
    return Declared(
        sample_rate=sample_rate, num_samples=num_samples, duration_seconds=_field(recording, "duration", float, "it")
    )


def _parse(cut: dict[str, Any], folder: Path, archive: str) -> Utterance:
    """A cut as an Utterance. Raises: InputError with the fault and a remedy."""
    if "type" not in cut and not _OF_TABLES.isdisjoint(cut):
        raise InputError(
            "each line must be a Lhotse cut, got a line of a table, as NeMo's manifests are "
            f"({', '.join(map(str, cut))!r:.60}): convert it with asr-data import FILE --output DIR"
        )
    if "type" not in cut:
        raise InputError(
            "each line must be a cut, got one without 'type' (lhotse makes cuts from recordings and supervisions: "
            "CutSet.from_manifests(recordings=..., supervisions=...).trim_to_supervisions())"
        )
    cut_id = _field(cut, "id", str, "the cut")
    name = f"cut {cut_id!r:.60}"
    if cut["type"] != "MonoCut":
        raise InputError(
            f"{name} must be a MonoCut, got {cut['type']!s:.60} (if it is mixed, padded or of several channels, "
            "write it to its own audio file with lhotse's cuts.save_audios)"
        )
    supervisions = _field(cut, "supervisions", list, name)
    if len(supervisions) != 1:
        remedy = "cuts.trim_to_supervisions()" if supervisions else "cuts.filter(lambda cut: cut.supervisions)"
        raise InputError(f"{name} must have one supervision, got {len(supervisions)} (lhotse: {remedy})")
    supervision = supervisions[0]
    start = _field(cut, "start", float, name)
    duration = _field(cut, "duration", float, name)
    inner_start = _field(supervision, "start", float, f"the supervision of {name}")
    inner_end = inner_start + _field(supervision, "duration", float, f"the supervision of {name}")
    if inner_start < -_TOLERANCE_SECONDS or inner_end > duration + _TOLERANCE_SECONDS:
        raise InputError(
            f"the supervision of {name} must lie within it, but spans {inner_start:g} to {inner_end:g} s of "
            f"{duration:g} s, so that only a part of the text is spoken there (lhotse: cuts.trim_to_supervisions())"
        )
    if supervision.get("speaker") is not None:
        _field(supervision, "speaker", str, f"the supervision of {name}")
    audio, channel = _source(cut, name, end_seconds=start + duration, in_archive=bool(archive))
    return Utterance(
        id=cut_id,
        audio=folder / audio,
        start_seconds=start,
        duration_seconds=duration,
        text=_field(supervision, "text", str, f"the supervision of {name}"),
        speaker=supervision.get("speaker"),
        channel=channel,
        archive=archive,
    )


def _source(cut: dict[str, Any], name: str, *, end_seconds: float, in_archive: bool) -> tuple[str, int]:
    """The audio file of a cut, or its name in an archive, and the index of the cut's channel within that file."""
    channel = _field(cut, "channel", int, name)
    recording = _field(cut, "recording", dict, name)
    where = f"the recording of {name}"
    if recording.get("transforms"):
        raise InputError(f"{where} must not have transforms (write the changed audio with lhotse's cuts.save_audios)")
    length = _field(recording, "duration", float, where)
    if end_seconds > length + _TOLERANCE_SECONDS:
        raise InputError(f"{name} must end within its recording of {length:g} s, got {end_seconds:g} s")
    for source in _field(recording, "sources", list, where):
        channels = _field(source, "channels", list, f"a source of {name}")
        if channel in channels:
            kind, remedy = (
                ("shar", "lhotse's SharWriter puts it there")
                if in_archive
                else ("file", "write the audio to files with lhotse's cuts.save_audios")
            )
            if source.get("type") != kind:
                raise InputError(f"{where} must be a {kind}, got type {source.get('type')!r:.60} ({remedy})")
            file = cut["id"] if in_archive else _field(source, "source", str, f"a source of {name}")
            return file, channels.index(channel)
    raise InputError(f"{where} must have channel {channel!r:.20}, but does not")


def _field(record: Any, key: str, kind: type[Any], where: str) -> Any:
    """record[key], which must be of this kind; an integer is also a float, a boolean is not a number."""
    if not isinstance(record, dict):
        raise InputError(f"{where} must be a JSON object, got {record!r:.60}")
    if key not in record:
        raise InputError(f"{where} must have {key!r}")
    value = record[key]
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
        raise InputError(f"{key!r} of {where} must be of type {kind.__name__}, got {value!r:.60}")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{key!r} of {where} must be UTF-8, got {value!r:.60}") from None
    if isinstance(value, str) and "\0" in value and key in ("id", "source", "speaker"):
        raise InputError(f"{key!r} of {where} must have no NUL, got {value!r:.60}")
    if kind is not float:
        return value
    if not -_HIGHEST <= value <= _HIGHEST:
        raise InputError(f"{key!r} of {where} must be a finite number, got {str(value)[:20]}")
    return float(value)
