"""The sound of imported recordings in a form that training reads fast: the original file, or FLAC files cut from it."""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import soundfile

from asr.audio.libsndfile import UNKNOWN_FRAMES
from asr.audio.sound_files import is_one_sound, sound_header
from asr.audio.waveform import Waveform, stream_audio
from asr.data.manifest import Utterance
from asr.errors import AsrWarning, ChoiceWarning, DataError, InputError
from asr.files.writing import write_whole
from asr.importing.sources import CUT, Candidate

CUT_SAMPLE_RATE = 16_000
_LONGEST_IN_PLACE = 120.0  # seconds: for each utterance, training reads a file from its beginning
_TOLERANCE = 0.1  # seconds by which stated times, often rounded, may differ from the file's


def make_utterances(
    audio: Path, channel: int | None, named: Sequence[tuple[str, Candidate]], output: Path
) -> list[Utterance | DataError]:
    """The utterances of one recording, or an error for each.

    Mono WAV and FLAC files are used in place, unless they are segmented and longer than two minutes. All others are
    cut into mono FLAC files of 16 kHz in output/cut-audio, which a repeated call reuses.
    """
    candidates = [candidate for _, candidate in named]
    try:
        seconds = _seconds_in_place(audio, channel, segmented=not all(candidate.whole for candidate in candidates))
        if seconds is not None:
            ends = [seconds if candidate.whole else candidate.end_seconds or seconds for candidate in candidates]
            sounds = [(audio, candidate.start_seconds, end) for candidate, end in zip(candidates, ends, strict=True)]
        else:
            files = [output / CUT / f"{_file_name(name)}.flac" for name, _ in named]
            seconds = _cut(audio, channel, [(c.start_seconds, c.end_seconds) for c in candidates], files)
            sounds = [(file, 0.0, soundfile.info(file).duration if file.exists() else 0.0) for file in files]
            channel = None
    except DataError as error:
        return [_at(candidate, str(error)) for candidate in candidates]
    results: list[Utterance | DataError] = []
    for (name, candidate), (file, start, end) in zip(named, sounds, strict=True):
        try:
            utterance = Utterance(
                id=name,
                audio=Path(os.path.abspath(file)),
                start_seconds=start,
                duration_seconds=min(end, seconds if file == audio else end) - start,
                text=candidate.text,
                speaker=candidate.speaker,
                channel=channel or 0,
            )
            results.append(_fault(candidate, seconds) or utterance)
        except InputError as error:  # for example shorter than a sample
            results.append(_fault(candidate, seconds) or _at(candidate, str(error)))
    return results


def _seconds_in_place(audio: Path, channel: int | None, *, segmented: bool) -> float | None:
    """Seconds of a recording that can be used in place; None if it must be cut."""
    if not os.path.isfile(audio):
        raise DataError("there is no such sound file", path=audio)
    try:
        header = sound_header(audio)
    except soundfile.LibsndfileError:
        return None  # ffmpeg may read it
    if channel is not None and channel >= header.num_channels:
        raise DataError(
            f"has {header.num_channels} channel(s), but channel {channel} is needed (the first is 0)", path=audio
        )
    plain = header.format in ("WAV", "WAVEX", "FLAC") and 0 < header.num_samples < UNKNOWN_FRAMES
    if not plain or (channel is None and header.num_channels > 1) or not is_one_sound(audio):
        return None
    seconds = header.seconds
    return seconds if not segmented or seconds <= _LONGEST_IN_PLACE else None


def _fault(candidate: Candidate, seconds: float) -> DataError | None:
    """The error in the times of a candidate, in a recording of `seconds`; None if they are right."""
    start, end = candidate.start_seconds, candidate.end_seconds
    if start + 0.001 >= seconds:
        return _at(candidate, f"begins at {start:g} s, but its recording {candidate.audio} lasts {seconds:.3f} s")
    if end is not None and (end > seconds + _TOLERANCE or (candidate.whole and end < seconds - _TOLERANCE)):
        return _at(candidate, f"ends at {end:g} s, but its recording {candidate.audio} lasts {seconds:.3f} s")
    return None


def _at(candidate: Candidate, message: str) -> DataError:
    return DataError(message, path=candidate.location)


def _cut(
    audio: Path, channel: int | None, stretches: Sequence[tuple[float, float | None]], files: Sequence[Path]
) -> float:
    """Write stretches of a recording to FLAC files, unless they exist; the seconds of the recording."""
    note = files[0].with_suffix(".seconds")  # the duration of the recording, written after its files
    status = audio.stat()
    origin = _digest(f"{os.path.abspath(audio)} {status.st_size} {status.st_mtime_ns} {channel}")
    # The comment of each file identifies recording, times and channel, so a changed one is cut again.
    origins = [_digest(f"{origin} {start} {end}") for start, end in stretches]
    with suppress(OSError, ValueError):
        seconds, noted_origin = note.read_text().split()
        is_current = (
            start >= float(seconds) or _comment(file) == comment
            for (start, _), file, comment in zip(stretches, files, origins, strict=True)
        )
        if noted_origin == origin and all(is_current):
            return float(seconds)
    spans = [
        (round(start * CUT_SAMPLE_RATE), math.inf if end is None else round(end * CUT_SAMPLE_RATE))
        for start, end in stretches
    ]
    position = 0
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("error", AsrWarning)  # a cut file would hide the damage of its recording
        warnings.simplefilter("default", ChoiceWarning)
        writers = [stack.enter_context(_Writer(*pair)) for pair in zip(files, origins, strict=True)]
        try:
            for block in stream_audio(audio, sample_rate=CUT_SAMPLE_RATE, channel=channel):
                for writer, (start, end) in zip(writers, spans, strict=True):
                    piece = block[max(start - position, 0) : int(max(min(end - position, len(block)), 0))]
                    if len(piece):
                        writer.write(piece)
                    if end <= position + len(block):
                        writer.close()
                position += len(block)
        except AsrWarning as damage:
            raise DataError(str(damage).removeprefix(f"{audio}: "), path=audio) from damage
        for writer in writers:
            writer.close()
            writer.keep()
    write_whole(note, f"{position / CUT_SAMPLE_RATE} {origin}\n")
    return position / CUT_SAMPLE_RATE


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _comment(file: Path) -> str:
    """The comment in a sound file; "" if it is not one."""
    try:
        with soundfile.SoundFile(file) as sound:
            return str(sound.comment)
    except soundfile.LibsndfileError:
        return ""


class _Writer:
    """A FLAC file that is written piece by piece and gets its name only from `keep`."""

    def __init__(self, path: Path, comment: str):
        self.path = path
        self.comment = comment
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.file: soundfile.SoundFile | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.temporary.unlink(missing_ok=True)

    def write(self, samples: Waveform) -> None:
        """Append samples. The file is opened at the first ones, since a recording may have thousands of files."""
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._write_errors():
                self.file = soundfile.SoundFile(self.temporary, "w", CUT_SAMPLE_RATE, 1, "PCM_16", format="FLAC")
                self.file.comment = self.comment
        with self._write_errors():
            self.file.write(samples.clip(-1.0, 1.0))

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Raise the errors of libsndfile and soundfile, as on a full disk, as OSError."""
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise OSError(f"{self.path}: cannot be written: {error or 'is the disk full?'}") from None

    def close(self) -> None:
        if self.file is not None:
            with self._write_errors():
                self.file.close()

    def keep(self) -> None:
        """Give the file its name; without samples, delete the old file."""
        if self.file is not None:
            os.replace(self.temporary, self.path)
        else:
            self.path.unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """A relative path for an id: valid on every file system, and unique."""
    parts = [re.sub(r"[^\w.-]", "_", part).strip(".")[:80] for part in name.split("/")]
    parts = [part.encode()[:200].decode(errors="ignore") or "_" for part in parts]  # a name has 255 bytes at most
    return "/".join(parts) + "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
