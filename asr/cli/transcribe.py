"""asr-transcribe: recordings in, text out."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.arguments import Parser, add_sound_flags, at_least, disable_progress, sound_flags
from asr.cli.command import DATA_WRONG, run_command, say, write_result
from asr.cli.output_folder import claimed, names_in
from asr.cli.recognizer import add_recognizer_flags, load_in_process, load_recognizer, settle, shown_decoding
from asr.cli.recordings import Recording, find_recordings, is_folder, name_recordings
from asr.data.manifest import is_manifest
from asr.errors import AsrError, ConfigError, DataError
from asr.files.writing import write_whole
from asr.output.formats import WRITERS, to_explanation, to_json
from asr.output.pictures import check_picture
from asr.text.transcript import Transcript

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer

PROG = "asr-transcribe"
NUM_EXPLAINED = 5
# Formats whose results can follow each other and still be told apart.
_CONCATENABLE = ("txt", "json", "ctm")

_EXAMPLES = """\
what is written:
  One file, or - for standard input, gives its bare text. Several files, or a
  folder, give one line each: the path, a tab, the text. json is one object a
  line, with the path under "audio"; a ctm line begins with the name of the
  file without its suffix. srt, vtt and tsv of several files, and several
  formats at once, need --output.

  With --output DIR, talk.wav becomes DIR/talk.txt, and the subfolders of a
  folder are kept: FOLDER/day1/talk.wav becomes DIR/day1/talk.txt. Where two
  would have one name, the later ones get -2, -3 ..., in a later command too,
  or in one that runs at the same time: DIR/.recordings.jsonl says whose each
  result is. An older result of the same recording is replaced; two commands
  cannot transcribe the same recording into DIR at the same time. A result
  appears when it is whole: with --resume, what is there stays, whatever it
  was made with, and only the rest is done.

  The utterances of a manifest (.jsonl, .jsonl.gz) go by their ids. URLs are
  those that fsspec knows: s3:// needs the package s3fs, https:// aiohttp and
  requests; a folder is what does not end in the suffix of a sound file.

several processes:
  --nproc N starts N, each with its own copy of the model, its part of the
  processor, and where there are several GPUs, one of them. Lines keep their
  order; files of --output are written as they come. A recording over which a
  process is killed twice is reported like one that cannot be read.

  A file that cannot be read is reported on stderr, the others are done, and
  the exit status is 1. It is 2 where the command line is wrong.

examples:
  asr-transcribe talk.wav
  asr-transcribe talk.mp3 --format srt > talk.srt
  asr-transcribe talk.wav --plot talk.png
  asr-transcribe talk.wav --explain --hotwords OCTOBER
  asr-transcribe recordings/ --format txt,json --output transcripts/
  asr-transcribe archive/ --output texts/ --nproc 8 --resume
  asr-transcribe s3://bucket/calls --output texts/ --nproc 8 --resume
  sox talk.wav -t wav - trim 0 10 | asr-transcribe -
  asr-transcribe recordings/ | grep -i hello
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-transcribe` with these arguments, those of the process if None."""
    return run_command(PROG, lambda given: make_parser(given).parse(given), run, argv)


def make_parser(arguments: Sequence[str] = ()) -> Parser:
    """The command line of `asr-transcribe`; help shows how the model of the arguments decodes."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--model", nargs="?")
    model = early.parse_known_args(arguments)[0].model
    parser = Parser(
        PROG,
        usage="asr-transcribe PATH... [--format FORMAT,...] [--output DIR] [OPTION...]",
        description="Transcribe recordings: the text goes to standard output, or into files.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a sound file, a folder of them, the URL of either, a manifest, or - for stdin",
    )
    parser.add_argument(
        "--format",
        dest="formats",
        type=_formats,
        action="extend",
        metavar="FORMAT,...",
        help=f"{', '.join(WRITERS)}; several with commas between them (default: txt)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help=f"show a table of the best hypotheses (--num-best, default: {NUM_EXPLAINED}) instead: what was heard, "
        "language models, hotwords, and the words on which they differ",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write a file for each recording and format here")
    parser.add_argument("--resume", action="store_true", help="leave out what has all its files in --output already")
    parser.add_argument(
        "--nproc", type=at_least(1), default=1, metavar="N", help="transcribe in N processes (default: %(default)s)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE|DIR",
        help="draw what the model heard, and when, as FILE.png, or each recording in a folder; it is heard once more",
    )
    add_sound_flags(parser)
    parser.add_argument("--model", metavar="NAME|DIR", help="an embedded model or a model folder")
    parser.add_argument(
        "--list-models", action="store_true", help="show the embedded models and what they are good for"
    )
    add_recognizer_flags(parser, shown_decoding(arguments, model))
    return parser


def run(args: argparse.Namespace) -> int:
    """Transcribes what the arguments name; the exit status."""
    if args.list_models:
        write_result(describe_models())
        return 0
    formats = list(dict.fromkeys(args.formats or ["txt"]))
    if args.explain and (args.formats or args.output):
        raise ConfigError("--explain writes a table to standard output: leave out --format and --output")
    if args.explain and not hasattr(args, "num_best") and getattr(args, "beam_width", 2) > 1:
        args.num_best = NUM_EXPLAINED
    found = find_recordings(args.paths)
    several = len(found) > 1 or any(is_folder(path) or is_manifest(path) for path in args.paths)
    _check(args, formats, several=several)
    left = found
    if args.resume:
        left = _undone(names_in(args.output, found), formats, args.output)
        if not args.quiet:
            say(f"{len(found) - len(left)} of {len(found)} were done before", prog=PROG)
    recognizer, args = _ready(left, args)
    if args.output is None:
        return _transcribe(recognizer, found, formats, args, labelled=several)
    with claimed(args.output, found) as named:
        if args.resume:  # another command may have come between
            left = _undone(named, formats, args.output)
            if recognizer is None:
                recognizer, args = _ready(left, args)
        else:
            left = named
            _note_names(named, args)
        return _transcribe(recognizer, left, formats, args, labelled=several)


def _ready(
    found: list[Recording | DataError], args: argparse.Namespace
) -> tuple[Recognizer | None, argparse.Namespace]:
    """What transcribes recordings in this process, and arguments on which several agree, if there are any."""
    if not any(isinstance(item, Recording) for item in found):
        return None, args
    return (load_recognizer(args, args.model), args) if args.nproc == 1 else (None, settle(args, args.model))


def _transcribe(
    recognizer: Recognizer | None,
    found: list[Recording | DataError],
    formats: list[str],
    args: argparse.Namespace,
    *,
    labelled: bool,
) -> int:
    """Transcribes recordings and writes what comes; the exit status."""
    from tqdm import tqdm

    num_failed = 0
    heard_seconds = 0.0
    with tqdm(total=len(found), unit="file", disable=disable_progress(args), leave=False) as bar:

        def show(seconds: float) -> None:
            nonlocal heard_seconds
            heard_seconds += seconds
            bar.set_postfix_str(f"{heard_seconds / 60:.1f} min of sound")

        for recording, result in _results(recognizer, found, args, show):
            if not isinstance(result, AsrError) and not args.explain:
                assert recording is not None
                result = _written(result, recording, formats, folder=args.output, labelled=labelled)
            if recording is None or isinstance(result, AsrError):
                num_failed += 1
                say(f"error: {result}", prog=PROG)
            else:
                if args.explain:
                    write_result(f"{_one_line(recording.path)}\n{to_explanation(result)}\n")
                if args.plot is not None:
                    assert recognizer is not None
                    _draw(result, recording, recognizer, args)
            bar.update()
    if num_failed and len(found) > 1:
        say(f"{num_failed} of {len(found)} could not be transcribed", prog=PROG)
    return DATA_WRONG if num_failed else 0


def describe_models() -> str:
    """The embedded models: name, what each is good for, language, size, and the error rates in its provenance."""
    from asr.acoustic.model import DEFAULT_MODEL, embedded_models, read_config

    lines = []
    for name, folder in embedded_models().items():
        config = read_config(folder)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*.*")) / 1e6
        lines.append(f"{name} (default)" if name == DEFAULT_MODEL else name)
        lines += textwrap.wrap(config.description, 78, initial_indent="  ", subsequent_indent="  ")
        lines.append(f"  {config.text.language}, {megabytes:.1f} MB")
        lines += _rates(config.provenance.get("results", {}))
    return "\n".join([*lines, ""]) if lines else "no models are embedded: give --model a model folder\n"


def _rates(results: Mapping[str, Any]) -> Iterator[str]:
    """Word error rates as a table: a line for each set, a column for each way of decoding; "set, way" is the name."""
    if not results:
        return
    sets = list(dict.fromkeys(name.partition(", ")[0] for name in results))
    ways = list(dict.fromkeys(name.partition(", ")[2] for name in results))
    headings = [way or "greedy" for way in ways]
    width = max(map(len, ["WER, %", *sets]))
    yield f"  {'WER, %':{width}}  {'  '.join(headings)}"
    for each in sets:
        names = [f"{each}, {way}" if way else each for way in ways]
        rates = [f"{100 * results[name]['wer']['rate']:.1f}" if name in results else "-" for name in names]
        cells = "  ".join(f"{rate:>{len(heading)}}" for rate, heading in zip(rates, headings, strict=True))
        yield f"  {each:{width}}  {cells}"


def _check(args: argparse.Namespace, formats: list[str], *, several: bool) -> None:
    """Raises: ConfigError: arguments that do not go together."""
    if not args.paths:
        raise ConfigError("give at least one PATH: a sound file, a folder, or - for standard input")
    if getattr(args, "num_best", 1) > 1 and not args.explain and "json" not in formats:
        raise ConfigError("--num-best needs a place to show them: add --format json, or --explain")
    if args.resume and args.output is None:
        raise ConfigError("--resume needs --output DIR, where it looks for what is done")
    if args.nproc > 1 and "-" in args.paths:
        raise ConfigError("--nproc needs files: other processes do not have this standard input")
    if args.plot is not None and args.nproc > 1:
        raise ConfigError("--plot is drawn by one process: leave out --nproc")
    if args.plot is not None and any(map(is_manifest, args.paths)):
        raise ConfigError("--plot needs sound files, not a manifest")
    if args.plot is not None:
        check_picture(args.plot)
        if "-" in args.paths:
            raise ConfigError("--plot needs a file: standard input cannot be heard once more")
        if several and _is_picture(args.plot):
            raise ConfigError(f"--plot of several recordings must be a folder, not a file; got {args.plot}")
        if args.plot.is_file() and not _is_picture(args.plot):
            raise ConfigError(f"--plot must be a folder or a file that ends in .png; {args.plot} is another file")
    if args.output is not None:
        if args.output.exists() and not args.output.is_dir():
            raise ConfigError(f"--output must be a folder; {args.output} is a file")
        return
    if len(formats) > 1:
        raise ConfigError(f"several formats ({', '.join(formats)}) need --output DIR")
    if several and formats[0] not in _CONCATENABLE:
        raise ConfigError(f"{formats[0]} of several recordings needs --output DIR")


def _undone(found: list[Recording | DataError], formats: list[str], folder: Path) -> list[Recording | DataError]:
    """What of `found` lacks a file in the output folder."""

    def done(item: Recording | DataError) -> bool:
        return isinstance(item, Recording) and all(os.path.exists(folder / f"{item.name}.{name}") for name in formats)

    return [item for item in found if not done(item)]


def _note_names(named: list[Recording | DataError], args: argparse.Namespace) -> None:
    """Says which results have other names than they would have in an empty folder."""
    others = [
        item
        for item, alone in zip(named, name_recordings(named, named={}), strict=True)
        if isinstance(item, Recording) and isinstance(alone, Recording) and item.name != alone.name
    ]
    if others and not args.quiet:
        example = f"that of {_one_line(others[0].path)} is {others[0].name}"
        say(f"{len(others)} of {len(named)} results have other names, as theirs are taken: {example}", prog=PROG)


def _results(
    recognizer: Recognizer | None,
    found: list[Recording | DataError],
    args: argparse.Namespace,
    progress: Callable[[float], None],
) -> Iterator[tuple[Recording | None, Transcript | AsrError]]:
    """Each of `found`, None if it is an error, with what became of it: in order, unless processes write files."""
    recordings = [item for item in found if isinstance(item, Recording)]
    sources = [item.source for item in recordings]
    if args.nproc == 1 or not recordings:
        results = recognizer.results(sources, **sound_flags(args), progress=progress) if recognizer else iter(())
        for item in found:
            yield (item, next(results)) if isinstance(item, Recording) else (None, item)
        return
    yield from ((None, item) for item in found if isinstance(item, DataError))

    from asr.processes import in_order
    from asr.recognition.workers import transcribe_in_processes

    make = partial(load_in_process, args, args.model)
    heard = sound_flags(args)
    numbered = transcribe_in_processes(make, sources, processes=args.nproc, **heard, progress=progress)
    for number, result in numbered if args.output else enumerate(in_order(numbered)):
        yield recordings[number], result


def _written(
    transcript: Transcript, recording: Recording, formats: list[str], *, folder: Path | None, labelled: bool
) -> Transcript | DataError:
    """The transcript, once it is written; an error if that cannot be, for a reason of its own name."""
    try:
        _write(transcript, recording, formats, folder=folder, labelled=labelled)
    except OSError as error:
        if folder is None or error.errno not in _OF_THE_NAME:  # a full disk, say: no other one could be written
            raise
        return DataError(f"its result cannot be written: {error.filename}: {error.strerror}", path=recording.path)
    return transcript


_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EINVAL)


def _write(
    transcript: Transcript, recording: Recording, formats: list[str], *, folder: Path | None, labelled: bool
) -> None:
    transcript = replace(transcript, name=recording.name)
    for name in formats:
        text = _json_line(transcript, recording.path) if name == "json" else WRITERS[name](transcript)
        if folder is not None:
            write_whole(folder / f"{recording.name}.{name}", text)
        else:
            write_result(f"{_one_line(recording.path)}\t{text}" if labelled and name == "txt" else text)


def _draw(transcript: Transcript, recording: Recording, recognizer: Recognizer, args: argparse.Namespace) -> None:
    """Draws a recording, of which the model hears as much again as the picture shows."""
    from asr.cli.picture import draw, first_seconds

    model = recognizer.model
    waveform = first_seconds(recording.path, model, **sound_flags(args))
    emission, _ = recognizer.long_log_probs((waveform, model.sample_rate))
    path = args.plot if _is_picture(args.plot) else args.plot / f"{recording.name}.png"
    prog = None if args.quiet else PROG
    draw(path, waveform, emission, transcript.words, transcript.timeline, model, prog=prog)


def _is_picture(path: Path) -> bool:
    """Whether --plot names a file, not a folder."""
    return path.suffix.lower() == ".png" and not path.is_dir()


def _json_line(transcript: Transcript, path: str) -> str:
    return json.dumps({"audio": path, **json.loads(to_json(transcript))}, ensure_ascii=False) + "\n"


def _one_line(path: str) -> str:
    """The path, its tabs, line ends and other control characters written as escapes."""
    return path.translate({code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))})


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"unknown format {name!r}; known are {', '.join(WRITERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
