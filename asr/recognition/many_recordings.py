"""Transcribe many recordings into files: `asr-transcribe` as a function.

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
from typing import TYPE_CHECKING, Any, Literal

from asr.audio.source import MAX_INPUT_BYTES
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError
from asr.files.writing import write_whole
from asr.options import check_options, option, shown
from asr.output.formats import WRITERS, to_json
from asr.output.pictures import check_picture
from asr.recognition.output_folder import claim, names_in
from asr.recognition.recordings import Recording, find_recordings
from asr.text.transcript import Transcript

if TYPE_CHECKING:  # this loads torch, which the options do not need
    from asr.recognition.recognizer import Recognizer

_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """How to transcribe many recordings, and the folder of their results.

    Args:
        output: folder for a file of each recording and format, talk.txt for talk.wav; None writes no files.
        formats: of these files, some of `asr.output.formats.WRITERS`.
        resume: skip recordings that have all their files in `output`.
        plot: draw spectrogram, labels and words as this .png (one recording only), or into this folder.
        nproc: transcribe in this many processes, each with its own copy of the model, its part of the processor
            threads, and one of several GPUs. The calling script needs its `if __name__ == "__main__"`.
        channel, track, max_input_bytes: as for `Recognizer.transcribe`.
        model, device, precision, batch_size, decoding: as for `asr.load`.
        threads: processor threads; None means the default of torch.
    Raises:
        ConfigError: an option is out of its limits, or two contradict each other.
    """

    output: str | os.PathLike[str] | None = None
    formats: tuple[str, ...] = ("txt",)
    resume: bool = False
    plot: str | os.PathLike[str] | None = None
    nproc: int = option(1, least=1)
    channel: int | None = option(None, least=0)
    track: int | None = option(None, least=0)
    max_input_bytes: int = option(MAX_INPUT_BYTES, least=1)
    model: str | os.PathLike[str] | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = option(16, least=1)
    threads: int | None = option(None, least=1)
    decoding: DecodingOptions | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if not self.formats or not all(name in WRITERS for name in self.formats):
            raise ConfigError(f"formats must be some of {', '.join(WRITERS)}, not {shown(self.formats)}")
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
    def sound(self) -> dict[str, Any]:
        """The part of a recording to transcribe, as arguments of `read_audio`."""
        return {"channel": self.channel, "track": self.track, "max_input_bytes": self.max_input_bytes}


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result of one recording.

    Args:
        path: of the recording, as given or found; the id of an utterance.
        name: of its files, without their suffix; empty for a folder or manifest that cannot be used.
        transcript: None if there is an error, or the recording was skipped because its files existed.
        error: None if there is none.
        files: its files, pictures too.
    """

    path: str
    name: str = ""
    transcript: Transcript | None = None
    error: AsrError | None = None
    files: tuple[Path, ...] = ()

    @property
    def skipped(self) -> bool:
        """Whether its files existed, and `resume` skipped it."""
        return self.transcript is None and self.error is None


def transcribe_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    options: TranscribeOptions | None = None,
    *,
    progress: Callable[[float], None] | None = None,
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
        progress: called after each batch with its seconds of sound.
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
    return transcribe_recordings(find_recordings(paths), options or TranscribeOptions(), progress=progress, note=note)


def transcribe_recordings(
    recordings: Sequence[Recording | DataError],
    options: TranscribeOptions,
    *,
    progress: Callable[[float], None] | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Generator[FileResult, None, None]:
    """`transcribe_files` for the recordings that `find_recordings` gives."""
    _check(recordings, options)
    with ExitStack() as stack:
        named = recordings
        if options.resume and options.output is not None:
            named = names_in(Path(options.output), recordings)
        done = [
            options.resume and isinstance(item, Recording) and all(map(os.path.exists, _files(item, options)))
            for item in named
        ]
        if options.resume:
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
                yield FileResult(path=item.path, name=item.name, files=tuple(_files(item, options)))
        rest = [item for item, is_done in zip(named, done, strict=True) if not is_done]
        for item, transcript in _transcripts(rest, options, recognizer, progress):
            if isinstance(transcript, AsrError):
                name = item.name if isinstance(item, Recording) else ""
                yield FileResult(path=item.path or "", name=name, error=transcript)
            else:
                assert isinstance(item, Recording)
                yield _write(item, replace(transcript, name=item.name), options, recognizer, note)


def format_transcript(transcript: Transcript, path: str, name: str) -> str:
    """The transcript of the recording `path` in the format `name`; JSON has the path too, under "audio"."""
    if name == "json":
        return json.dumps({"audio": path, **json.loads(to_json(transcript))}, ensure_ascii=False) + "\n"
    return WRITERS[name](transcript)


def load_in_process(options: TranscribeOptions, number: int) -> Recognizer:
    """The recogniser of process `number` of `options.nproc`, with its part of the threads, or a GPU of its own."""
    import torch

    if options.device in ("auto", "cuda") and (count := torch.cuda.device_count()) > 1:
        options = replace(options, device=f"cuda:{number % count}")
    threads = options.threads or max(1, torch.get_num_threads() // options.nproc)
    return _load(replace(options, threads=threads))


def choose_precision_once(options: TranscribeOptions) -> TranscribeOptions:
    """The options with the precision that "auto" selects here, so that all processes use the same.

    Raises:
        InputError, DataError: there is no such device or model.
    """
    from asr.acoustic.model import find_model, read_config
    from asr.compute.cells import make_cell
    from asr.compute.device import choose_precision, find_device

    cell = partial(make_cell, read_config(find_model(options.model)).encoder.cell)
    dtype = choose_precision(options.precision, find_device(options.device), make_cell=cell, training=False)
    return replace(options, precision=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]


def _check(recordings: Sequence[Recording | DataError], options: TranscribeOptions) -> None:
    """Raises: ConfigError: the options do not fit the recordings."""
    sounds = [item for item in recordings if isinstance(item, Recording)]
    if options.nproc > 1 and any(item.key == "-" for item in sounds):
        raise ConfigError("nproc must be 1 for standard input, which other processes cannot read", "nproc")
    if options.plot is None:
        return
    if any(item.utterance for item in sounds):
        raise ConfigError("plot needs sound files, not a manifest", "plot")
    if any(item.key == "-" for item in sounds):
        raise ConfigError("plot needs a file: standard input cannot be read again", "plot")
    if len(recordings) > 1 and _is_picture(options.plot):
        raise ConfigError(f"plot must be a folder for several recordings, not a file; got {options.plot}", "plot")


def _load(options: TranscribeOptions) -> Recognizer:
    import torch

    from asr.recognition.recognizer import load

    if options.threads:
        torch.set_num_threads(options.threads)
    return load(
        options.model,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        decoding=options.decoding,
    )


def _transcripts(
    recordings: Sequence[Recording | DataError],
    options: TranscribeOptions,
    recognizer: Recognizer | None,
    progress: Callable[[float], None] | None,
) -> Iterator[tuple[Recording | DataError, Transcript | AsrError]]:
    """Each recording with its transcript or error: in order, unless several processes write files."""
    sounds = [item for item in recordings if isinstance(item, Recording)]
    sources = [item.source for item in sounds]
    if recognizer is not None:
        transcripts = recognizer.results(sources, **options.sound, progress=progress)
        for item in recordings:
            yield item, next(transcripts) if isinstance(item, Recording) else item
        return
    yield from ((item, item) for item in recordings if isinstance(item, DataError))
    if sounds:
        from asr.processes import in_order
        from asr.recognition.workers import transcribe_in_processes

        make = partial(load_in_process, options)
        numbered = transcribe_in_processes(make, sources, processes=options.nproc, **options.sound, progress=progress)
        for number, transcript in numbered if options.output is not None else enumerate(in_order(numbered)):
            yield sounds[number], transcript


def _write(
    recording: Recording,
    transcript: Transcript,
    options: TranscribeOptions,
    recognizer: Recognizer | None,
    note: Callable[[str], object],
) -> FileResult:
    """The result of a recording, once its files and its picture are written."""
    files = _files(recording, options)
    try:
        for file, name in zip(files, options.formats, strict=False):
            write_whole(file, format_transcript(transcript, recording.path, name))
    except OSError as error:
        if error.errno not in _NAME_ERRORS:  # a full disk, for example: no other file could be written either
            raise
        message = f"its result cannot be written: {error.filename}: {error.strerror}"
        return FileResult(path=recording.path, name=recording.name, error=DataError(message, path=recording.path))
    if options.plot is not None:
        from asr.recognition.picture import draw_recording

        picture = Path(options.plot) if _is_picture(options.plot) else Path(options.plot) / f"{recording.name}.png"
        assert recognizer is not None
        draw_recording(
            picture, recognizer, recording.path, transcript.words, transcript.timeline, note=note, **options.sound
        )
        files.append(picture)
    return FileResult(path=recording.path, name=recording.name, transcript=transcript, files=tuple(files))


def _files(recording: Recording, options: TranscribeOptions) -> list[Path]:
    """The file of each format."""
    if options.output is None:
        return []
    return [Path(options.output) / f"{recording.name}.{name}" for name in options.formats]


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
