"""Transcribe many recordings into files: `asr-transcribe` as a function, and `process` for other results.

paths ─▶ recordings with names ─▶ recordings to do ─▶ transcripts, from one process or several ─▶ files, pictures
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from asr.compute.runtime import has_gpu, needing_torch
from asr.compute.threads import default_threads, set_threads
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError
from asr.files.writing import write_whole
from asr.options import check_options, group, shown
from asr.output.formats import SUBTITLES, WRITERS, format_text, to_json
from asr.output.pictures import check_picture
from asr.output.subtitles import SubtitleOptions
from asr.readable.style import Style
from asr.recognition.output_folder import claim, names_in
from asr.recognition.recordings import Recording, find_recordings
from asr.recognition.speakers import Turn, channels_of, join_by_recording, read_rttm, turns_of, with_speakers
from asr.recognition.work_options import WorkOptions
from asr.text.aligned_text import AlignedText
from asr.text.segments import TextSegment, find_segments
from asr.text.transcript import Transcript

if TYPE_CHECKING:  # this loads torch, which the options do not need
    from asr.recognition.many_alignments import AlignOptions
    from asr.recognition.recognizer import Recognizer
    from asr.recognition.workers import Worker

    Options: TypeAlias = "TranscribeOptions | AlignOptions"
    Results: TypeAlias = Callable[[Sequence[Recording], "Recognizer | None", Any], Iterator[tuple[int, Any]]]

FORMATS = (*WRITERS, "html")
"""The formats of files: those of a transcript, and a page with the sound."""

_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(WorkOptions):
    """How to transcribe many recordings, and the folder of their results; `WorkOptions` has the rest.

    Args:
        output: folder for a file of each recording and format, talk.txt for talk.wav; None writes no files.
        formats: of these files, some of `FORMATS`.
        resume: skip recordings that have all their files in `output`.
        plot: draw spectrogram, labels and words as this .png (one recording only), or into this folder.
        channels: "separate" transcribes each channel by itself, and names the channels as speakers; "mix" does not.
        rttm: file with the turns of the speakers of the recordings, by their names; see `read_rttm`.
        decoding: as for `asr.load`.
        subtitles: limits and form of srt, vtt and ass.
        style: as for `Recognizer.transcribe`.
    Raises:
        ConfigError: an option is out of its limits, or two contradict each other.
    """

    output: str | os.PathLike[str] | None = None
    formats: tuple[str, ...] = ("txt",)
    resume: bool = False
    plot: str | os.PathLike[str] | None = None
    channels: Literal["mix", "separate"] = "mix"
    rttm: str | os.PathLike[str] | None = None
    decoding: DecodingOptions | Mapping[str, Any] | None = None
    subtitles: SubtitleOptions = group(SubtitleOptions())
    style: Style = "readable"

    def __post_init__(self) -> None:
        check_options(self)
        if not self.formats or not all(name in FORMATS for name in self.formats):
            raise ConfigError(f"formats must be some of {', '.join(FORMATS)}, not {shown(self.formats)}")
        for name in ("level", "highlight_words"):
            is_given = getattr(self.subtitles, name) != getattr(SubtitleOptions(), name)
            if is_given and not {*SUBTITLES, "html"} & set(self.formats):
                raise ConfigError(f"{name} is for subtitles: add the format {', '.join(SUBTITLES[:-1])} or ass", name)
        if self.channels == "separate" and (self.channel is not None or self.rttm is not None):
            other = "channel" if self.channel is not None else "rttm"
            raise ConfigError(f"channels separate makes each one a speaker: leave out {other}", "channels", other)
        if self.resume and self.output is None:
            raise ConfigError("resume needs output, the folder with the earlier results", "resume", "output")
        if self.output is not None and Path(self.output).exists() and not Path(self.output).is_dir():
            raise ConfigError(f"output must be a folder; {self.output} is a file", "output")
        if self.plot is not None:
            check_picture(Path(self.plot))
            if self.nproc > 1:
                raise ConfigError("plot needs one process: leave out nproc", "plot", "nproc")
            if Path(self.plot).is_file() and not _is_picture(self.plot):
                raise ConfigError(
                    f"plot must be a folder or a file that ends in .png; {self.plot} is another file", "plot"
                )

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files of a recording."""
        return self.formats


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result of one recording.

    Args:
        path: of the recording, as given or found; the id of an utterance.
        name: of its files, without their suffix; empty for a folder or manifest that cannot be used.
        transcript: None if there is an error, or the recording was skipped because its files existed.
        error: None if there is none.
        files: its files, pictures too.
        aligned: in place of a transcript, if the text was known.
    """

    path: str
    name: str = ""
    transcript: Transcript | None = None
    error: AsrError | None = None
    files: tuple[Path, ...] = ()
    aligned: AlignedText | None = None

    @property
    def skipped(self) -> bool:
        """Whether its files existed, and `resume` skipped it."""
        return self.transcript is None and self.aligned is None and self.error is None


def transcribe_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    options: TranscribeOptions | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    on_segment: Callable[[str, TextSegment], None] | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Iterator[FileResult]:
    """Transcribe recordings of any number and length, and write their results.

        for result in asr.transcribe_files("archive/", asr.TranscribeOptions(output="texts/", nproc=8)):
            print(result.path, result.error or result.files)

    Work begins when the first result is requested. Files are written whole or not at all. In `output`, the name of a
    file belongs to its recording: another recording of the same name gets the suffix -2, -3, …, in later runs too.

    Args:
        paths: sound files, folders, URLs of files or folders, manifests (.jsonl, .jsonl.gz), or "-" for standard input.
        options: None means the defaults.
        progress: called with the seconds of sound whose text has become final.
        on_segment: called with the path of a recording and each sentence of it, as soon as it is final; of several
            processes, when the recording is ready.
        note: called with messages, for example about skipped and renamed results.
    Returns:
        A result for each recording, and for each folder or manifest that cannot be used. They are in order, but skipped
        ones are first, and several processes that write files give results as soon as they are ready. A recording that
        cannot be read, or on which a process is killed twice, is a result with an error.
    Raises:
        ConfigError: options do not fit these recordings, or another run is writing the result of one of them.
        AsrError: the model or its decoding cannot be used; see `asr.load`.
        OSError: results cannot be written.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    return transcribe_recordings(
        find_recordings(paths), options or TranscribeOptions(), progress=progress, on_segment=on_segment, note=note
    )


def transcribe_recordings(
    recordings: Sequence[Recording | DataError],
    options: TranscribeOptions,
    *,
    progress: Callable[[float], None] | None = None,
    on_segment: Callable[[str, TextSegment], None] | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Generator[FileResult, None, None]:
    """`transcribe_files` for the recordings that `find_recordings` gives."""
    _check(recordings, options)
    turns = read_rttm(options.rttm) if options.rttm is not None else {}
    results = partial(_transcripts, progress=progress, on_segment=on_segment, turns=turns)
    write = partial(_write, options=options, turns=turns, note=note)
    yield from process(recordings, options, results=results, write=write, note=note)


def process(
    recordings: Sequence[Recording | DataError],
    options: Options,
    *,
    results: Results,
    write: Callable[[Recording, Any, Recognizer | None], FileResult],
    note: Callable[[str], object],
) -> Generator[FileResult, None, None]:
    """The written result of each recording that the options do not skip, in one process or several.

    Args:
        results: gives the result or error of each recording with its number; in order, if there is a recogniser.
        write: called in this process with a recording, its result, and the recogniser if there is only this process.
    """
    with ExitStack() as stack:
        named = recordings
        if options.resume and options.output is not None:
            named = names_in(Path(options.output), recordings)
        done = [
            options.resume and isinstance(item, Recording) and all(map(os.path.exists, files_of(item, options)))
            for item in named
        ]
        if any(done):
            note(f"skipped {sum(done)} of {len(named)} recordings: their files exist")
        recognizer = None
        if any(isinstance(item, Recording) and not is_done for item, is_done in zip(named, done, strict=True)):
            if options.nproc == 1:
                recognizer = _load(options)
            else:
                options = choose_precision_once(options)
        if options.output is not None:  # after the model, so that an unusable model leaves no empty folder
            named = stack.enter_context(claim(Path(options.output), recordings))
            if not options.resume:
                _note_renamed(recordings, named, note)
        for item, is_done in zip(named, done, strict=True):
            if is_done and isinstance(item, Recording):
                yield FileResult(path=item.path, name=item.name, files=tuple(files_of(item, options)))
        rest = [item for item, is_done in zip(named, done, strict=True) if not is_done]
        for item, result in _with_results(rest, results, recognizer, options):
            if isinstance(result, AsrError):
                name = item.name if isinstance(item, Recording) else ""
                yield FileResult(path=item.path or "", name=name, error=_named(result, item.path))
            else:
                assert isinstance(item, Recording)
                yield _written(item, replace(result, name=item.name), recognizer, write)


def format_result(transcript: Transcript, path: str, name: str, options: TranscribeOptions) -> str:
    """The transcript of the recording `path` in the format `name`; JSON has the path too, under "audio"."""
    if name == "json":
        return json.dumps({"audio": path, **json.loads(to_json(transcript))}, ensure_ascii=False) + "\n"
    if name == "html":
        from asr.recognition.page import recording_page

        return recording_page(path, transcript, options.subtitles, **options.sound)
    return format_text(transcript, name, options.subtitles)


def load_in_process(options: Options, number: int) -> Recognizer:
    """The recogniser of process `number` of `options.nproc`, with its part of the threads, or a GPU of its own."""
    if options.device in ("auto", "cuda") and (count := _num_gpus()) > 1:
        options = replace(options, device=f"cuda:{number % count}")
    threads = options.threads or max(1, default_threads() // options.nproc)
    return _load(replace(options, threads=threads))


def _num_gpus() -> int:
    if not has_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def choose_precision_once(options: Options) -> Options:
    """The options with the precision that "auto" selects here, so that all processes use the same.

    Raises:
        InputError, DataError: there is no such device or model.
    """
    from asr.acoustic.foreign.loading import find_foreign

    if options.model is not None and find_foreign(options.model):
        return options  # it chooses without a measurement
    from asr.acoustic.config import read_config
    from asr.acoustic.folder import find_model
    from asr.acoustic.loading import runtime_of

    folder = find_model(options.model)
    runtime = runtime_of(folder, device=options.device, precision=options.precision, runtime=options.runtime)
    if runtime == "onnx":  # it has one precision
        return options
    with needing_torch("runtime torch"):
        from asr.compute.cells import make_cell
        from asr.compute.device import choose_precision, find_device

    cell = partial(make_cell, read_config(folder).encoder.cell)
    dtype = choose_precision(options.precision, find_device(options.device), make_cell=cell, training=False)
    return replace(options, precision=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]


def _check(recordings: Sequence[Recording | DataError], options: TranscribeOptions) -> None:
    """Raises: ConfigError: the options do not fit the recordings."""
    sounds = [item for item in recordings if isinstance(item, Recording)]
    if options.nproc > 1 and any(item.key == "-" for item in sounds):
        raise ConfigError("nproc must be 1 for standard input, which other processes cannot read", "nproc")
    if options.channels == "separate" and any(item.key == "-" or item.utterance for item in sounds):
        raise ConfigError("channels separate needs sound files, not standard input or a manifest", "channels")
    if "html" in options.formats and any(item.key == "-" or item.utterance for item in sounds):
        raise ConfigError(
            "formats html needs sound files, not standard input or a manifest: it reads them again", "formats"
        )
    if options.plot is None:
        return
    if any(item.utterance for item in sounds):
        raise ConfigError("plot needs sound files, not a manifest", "plot")
    if any(item.key == "-" for item in sounds):
        raise ConfigError("plot needs a file: standard input cannot be read again", "plot")
    if len(recordings) > 1 and _is_picture(options.plot):
        raise ConfigError(f"plot must be a folder for several recordings, not a file; got {options.plot}", "plot")


def _load(options: Options) -> Recognizer:
    from asr.recognition.recognizer import load

    if options.threads:
        set_threads(options.threads)
    return load(
        options.model,
        device=options.device,
        precision=options.precision,
        runtime=options.runtime,
        batch_size=options.batch_size,
        decoding=options.decoding,
    )


def _with_results(
    recordings: Sequence[Recording | DataError],
    results: Results,
    recognizer: Recognizer | None,
    options: Options,
) -> Iterator[tuple[Recording | DataError, Any]]:
    """Each recording with its result or error: in order, unless several processes write files."""
    sounds = [item for item in recordings if isinstance(item, Recording)]
    if recognizer is not None:
        numbered = results(sounds, recognizer, options)
        for item in recordings:
            yield item, next(numbered)[1] if isinstance(item, Recording) else item
        return
    yield from ((item, item) for item in recordings if isinstance(item, DataError))
    if sounds:
        for number, result in results(sounds, recognizer, options):
            yield sounds[number], result


def work(
    sources: Sequence[Any],
    recognizer: Recognizer | None,
    options: Options,
    *,
    worker: Callable[[Recognizer], Worker] | None = None,
    progress: Callable[[float], None] | None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Iterator[tuple[int, Any]]:
    """The result or error of each source with its number: in order, unless several processes write files.

    Args:
        sources: as for the worker.
        recognizer: None means several processes, with one each.
        worker: what gives the results, made from a recogniser; importable by its name. None: the recogniser itself.
        progress: called with seconds of sound.
        settings: further arguments of the worker of any process.
        more: further arguments of the worker of this process.
    """
    worker = worker or _same
    settings = {**options.sound, **(settings or {})}
    if recognizer is not None:
        return enumerate(worker(recognizer).results(sources, **settings, progress=progress, **more))
    from asr.processes import in_order
    from asr.recognition.workers import transcribe_in_processes

    make = partial(_make_worker, options, worker)
    numbered = transcribe_in_processes(make, sources, processes=options.nproc, **settings, progress=progress)
    return numbered if options.output is not None else enumerate(in_order(numbered))


def _transcripts(
    sounds: Sequence[Recording],
    recognizer: Recognizer | None,
    options: TranscribeOptions,
    *,
    progress: Callable[[float], None] | None,
    on_segment: Callable[[str, TextSegment], None] | None,
    turns: Mapping[str, Sequence[Turn]],
) -> Iterator[tuple[int, Transcript | AsrError]]:
    """The transcript or error of each recording with its number, its channels joined, with speakers."""
    channels = [channels_of(item.path) if options.channels == "separate" else [item.source] for item in sounds]
    sources = [source for group in channels for source in group]
    owners = [number for number, group in enumerate(channels) for _ in group]
    at_once = recognizer is not None and options.channels == "mix" and not turns

    def show(number: int, segment: TextSegment) -> None:
        if on_segment:
            on_segment(sounds[number].path, segment)

    def advance(seconds: float) -> None:
        if progress:
            progress(seconds * len(sounds) / len(sources))

    more: dict[str, Any] = {"on_segment": show} if at_once else {}
    numbered = work(sources, recognizer, options, progress=advance, settings={"style": options.style}, **more)
    for number, transcript in join_by_recording(numbered, owners):
        if isinstance(transcript, Transcript):
            if own := turns_of(turns, sounds[number].name):
                transcript = with_speakers(transcript, own)
            for segment in [] if at_once else find_segments(transcript.text, transcript.words):
                show(number, segment)
        yield number, transcript


def _named(error: AsrError, path: str | None) -> AsrError:
    """The error with the recording that it is about."""
    return error if isinstance(error, DataError) else DataError(str(error).removeprefix(f"{path} "), path=path)


def _make_worker(options: Options, worker: Callable[[Recognizer], Worker], number: int) -> Worker:
    """The worker of process `number`."""
    return worker(load_in_process(options, number))


def _same(recognizer: Recognizer) -> Worker:
    """A recogniser is a worker that transcribes."""
    return recognizer


def _written(
    recording: Recording,
    result: Any,
    recognizer: Recognizer | None,
    write: Callable[[Recording, Any, Recognizer | None], FileResult],
) -> FileResult:
    """The result of a recording, once it is written; an error if the file system refuses its name."""
    try:
        return write(recording, result, recognizer)
    except OSError as error:
        if error.errno not in _NAME_ERRORS:  # a full disk, for example: no other file could be written either
            raise
        message = f"its result cannot be written: {error.filename}: {error.strerror}"
        return FileResult(path=recording.path, name=recording.name, error=DataError(message, path=recording.path))


def _write(
    recording: Recording,
    transcript: Transcript,
    recognizer: Recognizer | None,
    *,
    options: TranscribeOptions,
    turns: Mapping[str, Sequence[Turn]],
    note: Callable[[str], object],
) -> FileResult:
    """Write the files and the picture of a recording."""
    if turns and turns_of(turns, recording.name) is None:
        note(f"{options.rttm} has no turns of {recording.name}: its words have no speakers")
    files = files_of(recording, options)
    for file, name in zip(files, options.formats, strict=False):
        write_whole(file, format_result(transcript, recording.path, name, options))
    if options.plot is not None:
        from asr.recognition.picture import draw_recording

        picture = Path(options.plot) if _is_picture(options.plot) else Path(options.plot) / f"{recording.name}.png"
        assert recognizer is not None
        draw_recording(
            picture, recognizer, recording.path, transcript.words, transcript.timeline, note=note, **options.sound
        )
        files.append(picture)
    return FileResult(path=recording.path, name=recording.name, transcript=transcript, files=tuple(files))


def files_of(recording: Recording, options: Options) -> list[Path]:
    """The file of each format."""
    if options.output is None:
        return []
    return [Path(options.output) / f"{recording.name}.{suffix}" for suffix in options.suffixes]


def _note_renamed(
    recordings: Sequence[Recording | DataError],
    named: Sequence[Recording | DataError],
    note: Callable[[str], object],
) -> None:
    """Report results that were renamed, because other results have their names."""
    renamed = [item for item, other in zip(named, recordings, strict=True) if item != other]
    if renamed and isinstance(first := renamed[0], Recording):
        example = f"the result of {first.path} is {first.name}"
        note(f"{len(renamed)} of {len(named)} results were renamed, because their names are in use: {example}")


def _is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether `plot` is a file, not a folder."""
    return Path(path).suffix.lower() == ".png" and not Path(path).is_dir()
