"""asr-transcribe: turn recordings into text."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from asr.cli.arguments import Parser, add_sound_flags, at_least, given_values, progress_bar, sound_flags
from asr.cli.command import DATA_WRONG, noter, run_command, say, write_result
from asr.cli.recognizer import add_recognizer_flags, shown_decoding
from asr.data.manifest import is_manifest
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.output.formats import WRITERS, to_explanation
from asr.recognition.many_recordings import FileResult, TranscribeOptions, format_transcript, transcribe_recordings
from asr.recognition.recordings import find_recordings, is_folder

PROG = "asr-transcribe"
NUM_EXPLAINED = 5
_CONCATENABLE = ("txt", "json", "ctm")  # formats whose results can follow each other in one stream
_FLAGS = ("output", "resume", "plot", "nproc", "model", "device", "precision", "batch_size", "threads")

_EXAMPLES = """\
output:
  For one file, or - for standard input, only the text. For several files, or a
  folder, one line for each: the path, a tab, the text. json is one object a
  line, with the path under "audio"; a ctm line begins with the name of the file
  without its suffix. srt, vtt and tsv of several files, and several formats at
  once, need --output.

  With --output DIR, talk.wav becomes DIR/talk.txt, and the subfolders of a
  folder are kept: FOLDER/day1/talk.wav becomes DIR/day1/talk.txt. Further
  recordings of the same name get the suffix -2, -3, …, in later and
  simultaneous commands too: DIR/.recordings.jsonl lists the recording of each
  result. A new result replaces the old one of the same recording. Two
  commands cannot transcribe the same recording into DIR at the same time.
  Files appear when they are complete. --resume skips recordings whose files
  exist, even if they were made with other options.

  The utterances of a manifest (.jsonl, .jsonl.gz) have their ids as names.
  fsspec opens URLs: s3:// needs the package s3fs, https:// aiohttp and
  requests; a URL without the suffix of a sound file is a folder.

several processes:
  --nproc N starts N, each with its own copy of the model, its part of the
  processor, and where there are several GPUs, one of them. Lines keep their
  order; each file of --output is written as soon as it is ready. A recording on
  which a process was killed twice is reported like an unreadable one.

  A file that cannot be read is reported on stderr, the others are transcribed,
  and the exit status is 1. It is 2 if the command line is wrong.

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
    """The exit status of `asr-transcribe` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser(given).parse(given), run, argv)


def make_parser(arguments: Sequence[str] = ()) -> Parser:
    """The command line of `asr-transcribe`; help shows the decoding options of the model in the arguments."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--model", nargs="?")
    model = early.parse_known_args(arguments)[0].model
    parser = Parser(
        PROG,
        usage="asr-transcribe PATH... [--format FORMAT,...] [--output DIR] [OPTION...]",
        description="Transcribe recordings: print the text on standard output, or write files.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a sound file, a folder of sound files, a URL of either, a manifest, or - for stdin",
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
        help=f"show a table of the best hypotheses (--num-best, default: {NUM_EXPLAINED}), not the text: acoustic "
        "scores, language models, hotwords, and the words in which hypotheses differ",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write a file for each recording and format here")
    parser.add_argument("--resume", action="store_true", help="skip recordings that have all their files in --output")
    parser.add_argument(
        "--nproc",
        type=at_least(1),
        default=TranscribeOptions.nproc,
        metavar="N",
        help="transcribe in N processes (default: %(default)s)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE|DIR",
        help="draw spectrogram, labels and words as FILE.png, or each recording in a folder; reads the sound again",
    )
    add_sound_flags(parser)
    parser.add_argument("--model", metavar="NAME|DIR", help="an embedded model or a model folder")
    parser.add_argument("--list-models", action="store_true", help="show the embedded models and their purposes")
    add_recognizer_flags(parser, shown_decoding(arguments, model))
    return parser


def run(args: argparse.Namespace) -> int:
    """Transcribe the recordings of the arguments; the exit status."""
    if args.list_models:
        write_result(describe_models())
        return 0
    if not args.paths:
        raise ConfigError("give at least one PATH: a sound file, a folder, or - for standard input")
    formats = tuple(dict.fromkeys(args.formats or ["txt"]))
    decoding = given_values(args, DecodingOptions)
    if args.explain:
        if args.formats or args.output:
            raise ConfigError("--explain writes a table to standard output: leave out --format and --output")
        if decoding.get("beam_width", 2) > 1:
            decoding = {"num_best": NUM_EXPLAINED, **decoding}
    elif decoding.get("num_best", 1) > 1 and "json" not in formats:
        raise ConfigError("--num-best needs an output with several hypotheses: add --format json, or --explain")
    return _transcribe(args, formats, decoding)


def _transcribe(args: argparse.Namespace, formats: tuple[str, ...], decoding: Mapping[str, Any]) -> int:
    """Transcribe with a progress bar, and print the results and errors; the exit status."""
    flags = {name: getattr(args, name) for name in _FLAGS}
    options = TranscribeOptions(formats=formats, decoding=decoding, **sound_flags(args), **flags)
    recordings = find_recordings(args.paths)
    several = len(recordings) > 1 or any(is_folder(path) or is_manifest(path) for path in args.paths)
    if options.output is None and len(formats) > 1:
        raise ConfigError(f"several formats ({', '.join(formats)}) need --output DIR")
    if options.output is None and several and formats[0] not in _CONCATENABLE:
        raise ConfigError(f"{formats[0]} of several recordings needs --output DIR")

    num_failed = num_skipped = 0
    audio_seconds = 0.0
    with progress_bar(args, total=len(recordings), unit="file") as bar:

        def show(seconds: float) -> None:
            nonlocal audio_seconds
            audio_seconds += seconds
            bar.set_postfix_str(f"{audio_seconds / 60:.1f} min of sound")

        note = noter(args, prog=PROG)
        with closing(transcribe_recordings(recordings, options, progress=show, note=note)) as results:
            for result in results:
                if result.error is not None:
                    num_failed += 1
                    say(f"error: {result.error}", prog=PROG)
                elif result.skipped:
                    num_skipped += 1
                elif args.explain or options.output is None:
                    write_result(_printed(result, formats[0], explain=args.explain, labelled=several))
                bar.update()
    if num_failed and len(recordings) - num_skipped > 1:
        say(f"{num_failed} of {len(recordings) - num_skipped} could not be transcribed", prog=PROG)
    return DATA_WRONG if num_failed else 0


def _printed(result: FileResult, name: str, *, explain: bool, labelled: bool) -> str:
    """The result as standard output shows it."""
    assert result.transcript is not None
    path = _one_line(result.path)
    if explain:
        return f"{path}\n{to_explanation(result.transcript)}\n"
    text = format_transcript(result.transcript, result.path, name)
    return f"{path}\t{text}" if labelled and name == "txt" else text


def describe_models() -> str:
    """The embedded models: name, purpose, language, size, and the error rates in its provenance."""
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
    """Word error rates named "set, way", as a table: a line for each set, a column for each way of decoding."""
    if not results:
        return
    sets = list(dict.fromkeys(name.partition(", ")[0] for name in results))
    ways = list(dict.fromkeys(name.partition(", ")[2] for name in results))
    headings = [way or "greedy" for way in ways]
    width = max(map(len, ["WER, %", *sets]))
    yield f"  {'WER, %':{width}}  {'  '.join(headings)}"
    for set_ in sets:
        names = [f"{set_}, {way}" if way else set_ for way in ways]
        rates = [f"{100 * results[name]['wer']['rate']:.1f}" if name in results else "-" for name in names]
        cells = "  ".join(f"{rate:>{len(heading)}}" for rate, heading in zip(rates, headings, strict=True))
        yield f"  {set_:{width}}  {cells}"


def _one_line(path: str) -> str:
    """The path with tabs, line ends and other control characters as escapes."""
    return path.translate({code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))})


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"unknown format {name!r}; known are {', '.join(WRITERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
