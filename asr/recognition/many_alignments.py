"""Align the texts of a corpus: `asr-align` of a folder or a manifest as a function.

sounds with texts ─▶ recordings to do ─▶ aligned texts, from one process or several ─▶ a file of each ─▶ one manifest
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.manifest import Utterance, check_can_write, open_manifest, write_lines, write_manifest
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError
from asr.files.writing import write_whole
from asr.options import check_options
from asr.output.formats import ALIGNMENT_WRITERS
from asr.recognition.aligner import Aligner, AlignmentOptions
from asr.recognition.many_recordings import FileResult, files_of, process, work
from asr.recognition.recordings import Recording, find_pairs
from asr.recognition.work_options import WorkOptions
from asr.text.aligned_text import AlignedText, Level

if TYPE_CHECKING:  # this loads torch, which the options do not need
    from asr.recognition.recognizer import Recognizer

MANIFEST = "manifest"
CORPUS_FORMATS = (*ALIGNMENT_WRITERS, MANIFEST)
JOINED = "manifest.jsonl.gz"
_MARGIN = 0.2  # seconds of the pause around a sentence that belong to its utterance, at most


@dataclass(frozen=True, kw_only=True)
class AlignOptions(WorkOptions):
    """How to align the texts of a corpus, and the folder of the results; `WorkOptions` has the rest.

    Args:
        output: folder for a file of each recording; recordings that have theirs are skipped.
        format: one of `CORPUS_FORMATS`. manifest has an utterance for each sentence, and all of them are joined in
            `JOINED` at the end.
        level: the smallest unit with times.
        strict: a recording whose text is doubted (`AlignedText.doubt`) is an error, and gets no file.
        alignment: how each text is aligned.
    Raises:
        ConfigError: an option is out of its limits, two contradict each other, or a manifest needs Lhotse, which is
            not installed.
    """

    output: str | os.PathLike[str]
    format: str = "ctm"
    level: Level = "word"
    strict: bool = False
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)

    def __post_init__(self) -> None:
        check_options(self)
        if self.format not in CORPUS_FORMATS:
            raise ConfigError(f"format must be one of {', '.join(CORPUS_FORMATS)}, not {self.format!r}", "format")
        check_level(self.format, self.level)
        if self.format == MANIFEST:
            check_can_write()
        if Path(self.output).exists() and not Path(self.output).is_dir():
            raise ConfigError(f"output must be a folder for several recordings; {self.output} is a file", "output")

    @property
    def resume(self) -> bool:
        """The same command goes on where it was ended."""
        return True

    @property
    def decoding(self) -> DecodingOptions:
        """Without a language model: the texts are known."""
        return DecodingOptions()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files of a recording."""
        return ("jsonl" if self.format == MANIFEST else self.format,)


def check_level(format_name: str, level: Level) -> None:
    """Raises: ConfigError: a file of this format cannot have this level."""
    if format_name == "ctm" and level == "sentence":
        message = "format ctm needs level word or character; it cannot write the spaces of a sentence"
        raise ConfigError(message, "format", "level")


def align_files(
    corpus: str | os.PathLike[str],
    options: AlignOptions,
    *,
    progress: Callable[[float], None] | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Iterator[FileResult]:
    """Align the texts of a corpus, and write a file of each recording, whole or not at all.

        for result in align_files("corpus/", AlignOptions(output="aligned/", format="TextGrid", nproc=2)):
            print(result.path, result.error or result.files)

    The names of the files are those of `asr.transcribe_files`. Work begins when the first result is requested.

    Args:
        corpus: a folder of sounds, each with its text beside it (.txt or .lab), or a manifest (.jsonl, .jsonl.gz).
        options: with the folder of the results.
        progress: called after each batch with its seconds of sound.
        note: called with messages, for example about skipped results.
    Returns:
        A result for each recording, with an error for one that cannot be read, has no text, or whose text cannot be its
        own; and for each text without a sound. The order is that of `asr.transcribe_files`.
    Raises:
        ConfigError: another run is writing the result of one of the recordings.
        AsrError: the model cannot be used; see `asr.load`.
        OSError: results cannot be written.
    """
    return align_pairs(find_pairs(corpus), options, progress=progress, note=note)


def align_pairs(
    pairs: Sequence[Recording | DataError],
    options: AlignOptions,
    *,
    progress: Callable[[float], None] | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Generator[FileResult, None, None]:
    """`align_files` for the recordings that `find_pairs` gives."""
    results = partial(_results, worker=partial(Aligner, options=options.alignment), progress=progress)
    write = partial(_write, options=options)
    manifests: dict[str, Path] = {}
    for result in process(pairs, options, results=results, write=write, note=note):
        manifests.update((result.name, file) for file in result.files)
        yield result
    if options.format == MANIFEST and manifests:
        write_lines(Path(options.output) / JOINED, _lines(manifests))


def _results(
    sounds: Sequence[Recording], recognizer: Recognizer | None, options: AlignOptions, **how: Any
) -> Iterator[tuple[int, Any]]:
    return work([item.source for item in sounds], recognizer, options, **how)


def _lines(manifests: dict[str, Path]) -> Iterator[str]:
    """The lines of the manifests, in the order of their names, so that a resumed run gives the same bytes."""
    for _, path in sorted(manifests.items()):
        with open_manifest(path) as lines:
            yield from lines


def _write(recording: Recording, aligned: AlignedText, _: Recognizer | None, *, options: AlignOptions) -> FileResult:
    """The result of a recording, once its file is written."""
    if options.strict and aligned.doubt:
        return _failed(recording, aligned.doubt)
    (file,) = files_of(recording, options)
    try:
        if options.format == MANIFEST:
            _check_channels(recording, options.channel)
            write_manifest(sentence_utterances(recording, aligned, channel=options.channel), file)
        else:
            write_whole(file, ALIGNMENT_WRITERS[options.format](aligned, options.level))
    except AsrError as error:
        return _failed(recording, str(error).removeprefix(f"{recording.path}: "))
    return FileResult(path=recording.path, name=recording.name, aligned=aligned, files=(file,))


def _check_channels(recording: Recording, channel: int | None) -> None:
    """Raises: DataError: the mix of several channels was aligned, which is no channel of a manifest."""
    if recording.utterance or channel is not None:
        return
    import soundfile

    from asr.audio.sound_files import sound_header

    with suppress(soundfile.LibsndfileError):  # `write_manifest` has a message for it
        if (count := sound_header(Path(recording.path)).num_channels) > 1:
            raise DataError(f"has {count} channels, of which a manifest holds one: give --channel")


def _failed(recording: Recording, reason: str) -> FileResult:
    return FileResult(path=recording.path, name=recording.name, error=DataError(reason, path=recording.path))


def sentence_utterances(recording: Recording, aligned: AlignedText, *, channel: int | None) -> list[Utterance]:
    """An utterance of each sentence, with its own half of the pause beside it, at most 0.2 s; none if there is a doubt.

    The ids are the name of the recording with the start and the end in milliseconds.
    """
    source = recording.utterance
    offset = source.start_seconds if source else 0.0
    sentences = () if aligned.doubt else aligned.sentences
    bounds = [0.0, *(time for item in sentences for time in (item.start, item.end)), aligned.timeline.duration_seconds]
    utterances = []
    for number, sentence in enumerate(sentences):
        before, start, end, after = bounds[2 * number : 2 * number + 4]
        # Beside another sentence the pause is shared; at the edges of the recording it is not.
        first = max(start - _MARGIN, (before + start) / 2 if number else before)
        last = min(end + _MARGIN, (end + after) / 2 if number + 1 < len(sentences) else after)
        utterances.append(
            Utterance(
                id=f"{recording.name}-{round(1000 * first):08d}-{round(1000 * last):08d}",
                audio=source.audio if source else Path(recording.path),
                start_seconds=round(offset + first, 4),
                duration_seconds=round(last - first, 4),
                text=sentence.text,
                speaker=source.speaker if source else _speaker(recording),
                channel=source.channel if source else channel or 0,
            )
        )
    return utterances


def _speaker(recording: Recording) -> str | None:
    """The folder of the recording within the corpus, as in a corpus of the Montreal Forced Aligner."""
    folder = recording.base_name.rpartition("/")[0]
    return folder.partition("/")[0] or None
