"""asr-transcribe: turn recordings into text."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from asr.cli.arguments import Parser, add_options, add_sound_flags, at_least, given_options, given_values, sound_flags
from asr.cli.command import DATA_WRONG, add_note_to_signal, noter, run_command, say, write_result
from asr.cli.live import find_live_blocks, transcribe_live
from asr.cli.progress import SoundBar, clock
from asr.cli.recognizer import add_recognizer_flags, shown_decoding
from asr.data.manifest import is_manifest
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, DataError
from asr.files.texts import read_text
from asr.output.formats import spoken, to_explanation
from asr.output.subtitles import SubtitleOptions, check_cues
from asr.recognition.many_recordings import FORMATS, FileResult, TranscribeOptions, format_result, transcribe_recordings
from asr.recognition.recordings import find_recordings, is_folder
from asr.recognition.stream_options import StreamOptions
from asr.text.segments import TextSegment

if TYPE_CHECKING:
    from asr.audio.libsndfile import RatedBlocks

PROG = "asr-transcribe"
NUM_EXPLAINED = 5
_MOST_NUMBERS = 12  # of cues that are named for each rule
_CONCATENABLE = ("txt", "json", "ctm")  # formats whose results can follow each other in one stream
_FLAGS = (
    "output",
    "resume",
    "plot",
    "nproc",
    "model",
    "device",
    "precision",
    "runtime",
    "batch_size",
    "threads",
    "channels",
    "rttm",
    "style",
)

_SHORT = (
    "paths",
    "formats",
    "output",
    "verbose",
    "style",
    "resume",
    "model",
    "nproc",
    "hotwords",
    "beam_width",
    "device",
    "quiet",
)
# Flags of openai-whisper and programs like it, and what to write here.
_WHISPER = {
    "--language": "each model has one language: choose a model with --model",
    "--output_format": "write --format",
    "--output_dir": "write --output",
    "--word_timestamps": "--format json has the times of words, --level word subtitles of one word each",
    "--initial_prompt": "write the words to expect as --hotwords",
    "--beam_size": "write --beam-width",
    "--fp16": "--precision float16 is True, --precision float32 False; no flag here takes True or False",
    "--highlight_words": "write --highlight-words, which takes no value, or leave it out",
    "--max_line_width": "write --line-width",
    "--max_line_count": "write --max-lines",
    "--task": "there is no translation, leave it out",
    "--temperature": "there is no sampling, leave it out",
}
_EXAMPLES = """\
output:
  A line for each sentence, or what is spoken between two pauses, as soon as it
  is final. For several files, or a folder, each line begins with the path and a
  tab. json is one object a line, with the path under "audio"; a ctm line begins
  with the name of the file without its suffix. Other formats of several files,
  and several formats at once, need --output.

  With --output DIR, talk.wav becomes DIR/talk.txt, and the subfolders of a
  folder are kept: FOLDER/day1/talk.wav becomes DIR/day1/talk.txt. Further
  recordings of the same name get the suffix -2, -3, …, in later and
  simultaneous commands too: DIR/.recordings.jsonl lists the recording of each
  result. A new result replaces the old one of the same recording. Two
  commands cannot transcribe the same recording into DIR at the same time.
  Files appear when they are complete. --resume skips recordings whose files
  exist, even if they were made with other options.

  The utterances of a manifest (.jsonl, .jsonl.gz) have their ids as names.
  fsspec opens URLs: https:// needs asr[urls], s3:// the package s3fs; a URL
  without the suffix of a sound file is a folder.

live sound:
  A WAV that comes through a pipe is transcribed while it comes, and so are
  the microphone (--live) and samples without a header (--raw-rate). A line
  is printed when a pause ends a segment. On a terminal, the last line shows
  the open one; its dim words may change. Ctrl-C ends the sound; what was
  heard is printed. Other formats in a pipe are read to their end first.

several processes:
  --nproc N starts N, each with its own copy of the model, its part of the
  processor, and where there are several GPUs, one of them. Lines keep their
  order and come when a recording is done; each file of --output is written as
  soon as it is ready. A recording on which a process was killed twice is
  reported like an unreadable one.

  A file that cannot be read is reported on stderr, the others are transcribed,
  and the exit status is 1. It is 2 if the command line is wrong.

examples:
  asr-transcribe talk.mp3 --verbose
  asr-transcribe talk.mp3 --format srt > talk.srt
  asr-transcribe talk.mp3 --format ass --highlight-words > talk.ass
  asr-transcribe talk.wav --plot talk.png
  asr-transcribe talk.wav --explain --hotwords OCTOBER
  asr-transcribe recordings/ --format txt,json --output transcripts/
  asr-transcribe s3://bucket/calls --output texts/ --nproc 8 --resume
  asr-transcribe --live
  ffmpeg -i URL -f s16le -ac 1 -ar 16000 - | asr-transcribe - --raw-rate 16000
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
        usage="asr-transcribe PATH... [-f FORMAT,...] [-o DIR] [OPTION...]",
        description="Transcribe recordings: print the text on standard output, or write files.",
        examples=_EXAMPLES,
        short=_SHORT,
        foreign=_WHISPER,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a sound file, a folder of sound files, a URL of either, a manifest, or - for stdin",
    )
    parser.add_argument(
        "-f",
        "--format",
        dest="formats",
        type=_formats,
        action="extend",
        metavar="FORMAT,...",
        help=f"{', '.join(FORMATS)}; several with commas between them; all (default: txt)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help=f"show a table of the best hypotheses (--num-best, default: {NUM_EXPLAINED}), not the text: acoustic "
        "scores, language models, hotwords, and the words in which hypotheses differ",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write a file for each recording and format here"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print each sentence with its times, also when --output writes files"
    )
    parser.add_argument(
        "--style",
        choices=get_args(get_type_hints(TranscribeOptions)["style"]),
        default=TranscribeOptions.style,
        help="raw: no marks and figures (default: %(default)s)",
    )
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
    speakers = parser.add_argument_group("speakers")
    speakers.add_argument("--rttm", type=Path, metavar="FILE", help="name the speakers of words from diarisation")
    speakers.add_argument(
        "--channels",
        choices=get_args(get_type_hints(TranscribeOptions)["channels"]),
        default=TranscribeOptions.channels,
        help="separate: transcribe each channel of a call, as speakers CHANNEL_0, CHANNEL_1 (default: %(default)s)",
    )
    parser.add_argument("--live", action="store_true", help="transcribe the microphone until Ctrl-C, in place of PATH")
    parser.add_argument(
        "--raw-rate",
        type=at_least(1),
        metavar="HZ",
        help="standard input is samples without a header: this rate, 16 bits signed little-endian (s16le), one channel",
    )
    add_options(parser, StreamOptions, title="live sound")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="an embedded model, or the folder of a model, ours or anybody's (docs/models_of_others.md)",
    )
    parser.add_argument(
        "--list-models", action="store_true", help="show the embedded models, and how to get some of others"
    )
    add_options(parser, SubtitleOptions, title="subtitles")
    parser.add_argument(
        "--check-subtitles",
        type=Path,
        metavar="FILE",
        help="transcribe nothing; count how often an .srt or .vtt file violates these limits; exit status 1 if it does",
    )
    add_recognizer_flags(parser, shown_decoding(arguments, model))
    return parser


def run(args: argparse.Namespace) -> int:
    """Transcribe the recordings of the arguments; the exit status."""
    if args.list_models:
        write_result(describe_models())
        return 0
    if args.check_subtitles:
        return check_subtitles(args.check_subtitles, given_options(args, SubtitleOptions))
    if args.live and args.paths:
        raise ConfigError("--live transcribes the microphone: leave out PATH")
    if args.raw_rate and args.paths != ["-"]:
        raise ConfigError("--raw-rate is for samples on standard input: give - as the only PATH")
    if not args.paths and not args.live:
        raise ConfigError("give at least one PATH: a sound file, a folder, or - for standard input")
    formats = tuple(dict.fromkeys(args.formats or ["txt"]))
    if args.output and args.output.suffix.lower()[1:] in FORMATS and not args.output.exists():
        redirection = shlex.join(["--format", args.output.suffix.lower()[1:]]) + " > " + shlex.quote(str(args.output))
        raise ConfigError(f"--output must be a folder, not {args.output}; for one file write {redirection}")
    decoding = given_values(args, DecodingOptions)
    if args.explain:
        if args.formats or args.output:
            raise ConfigError("--explain writes a table to standard output: leave out --format and --output")
        if decoding.get("beam_width", 2) > 1:
            decoding = {"num_best": NUM_EXPLAINED, **decoding}
    elif decoding.get("num_best", 1) > 1 and "json" not in formats:
        raise ConfigError("--num-best needs an output with several hypotheses: add --format json, or --explain")
    is_plain = formats == ("txt",) and args.nproc == 1 and args.channels == TranscribeOptions.channels
    is_plain = is_plain and not (args.output or args.explain or args.plot or args.rttm or args.resume or args.track)
    if (args.live or args.raw_rate) and not is_plain:
        raise ConfigError("live sound becomes text on standard output: leave out flags of files, formats and speakers")
    if is_plain and (args.live or args.paths == ["-"]) and (blocks := find_live_blocks(args)):
        return _transcribe_live(args, blocks)
    return _transcribe(args, formats, decoding)


def _transcribe_live(args: argparse.Namespace, blocks: RatedBlocks) -> int:
    """Print the sentences of live sound as they become final; the exit status."""
    if not transcribe_live(args, blocks, lambda segment: write_result(_line(args, segment))) and not args.verbose:
        write_result("\n")
    return 0


def _line(args: argparse.Namespace, segment: TextSegment) -> str:
    times = f"[{clock(segment.start)} --> {clock(segment.end)}]  " if args.verbose else ""
    return f"{times}{spoken(segment.text, segment.speaker)}\n"


def check_subtitles(path: Path, options: SubtitleOptions) -> int:
    """Print how often the subtitles in a file violate each limit, and in which cues; the exit status."""
    from asr.importing.subtitles import read_cues

    cues = []
    for cue in read_cues(read_text(path), path):
        if isinstance(cue, DataError):
            raise cue
        cues.append((round(1000 * cue.start_seconds), round(1000 * cue.end_seconds), list(map(" ".join, cue.lines))))
    violations = check_cues(cues, options)
    for rule, numbers in violations.items():
        shown = ", ".join(map(str, numbers[:_MOST_NUMBERS])) + (", ..." if len(numbers) > _MOST_NUMBERS else "")
        write_result(f"{len(numbers):5}  {rule}{f': cue {shown}' if numbers else ''}\n")
    write_result(f"{len(set().union(*violations.values())):5}  of {len(cues)} cues violate a rule\n")
    return DATA_WRONG if any(violations.values()) else 0


def _transcribe(args: argparse.Namespace, formats: tuple[str, ...], decoding: Mapping[str, Any]) -> int:
    """Transcribe with a progress bar, and print the results and errors; the exit status."""
    from asr.audio.ffmpeg import NotSound

    flags = {name: getattr(args, name) for name in _FLAGS}
    options = TranscribeOptions(
        formats=formats, decoding=decoding, subtitles=given_options(args, SubtitleOptions), **sound_flags(args), **flags
    )
    recordings = find_recordings(args.paths)
    several = len(recordings) > 1 or any(is_folder(path) or is_manifest(path) for path in args.paths)
    if options.output is None and len(formats) > 1:
        raise ConfigError(f"several formats ({', '.join(formats)}) need --output DIR")
    if options.output is None and several and formats[0] not in _CONCATENABLE:
        raise ConfigError(f"{formats[0]} of several recordings needs --output DIR")
    if args.verbose and options.output is None and formats != ("txt",):
        raise ConfigError(f"--verbose prints the text with its times, not {formats[0]}: leave one out, or add --output")

    prints_text = not args.explain and (args.verbose or (options.output is None and formats == ("txt",)))
    num_printed = 0

    def show(path: str, segment: TextSegment) -> None:
        nonlocal num_printed
        num_printed += 1
        write_result(f"{_label(path) if several else ''}{_line(args, segment)}")

    num_failed = num_skipped = num_done = 0
    note = noter(args, prog=PROG)
    with SoundBar(args, recordings) as bar:
        try:
            results = transcribe_recordings(
                recordings, options, progress=bar.advance, on_segment=show if prints_text else None, note=note
            )
            with closing(results):
                for result in results:
                    if result.error is not None:
                        num_failed += 1
                        is_raw = result.path == "-" and isinstance(result.error, NotSound)
                        advice = "; samples without a header need --raw-rate HZ" if is_raw else ""
                        say(f"error: {result.error}{advice}", prog=PROG)
                    elif result.skipped:
                        num_skipped += 1
                        bar.skip(result.path)
                    elif prints_text and not num_printed and not args.verbose:  # nothing was said
                        write_result(_label(result.path) + "\n" if several else "\n")
                    elif args.explain or (options.output is None and not prints_text):
                        write_result(_printed(result, options, explain=args.explain))
                    num_done += result.error is None
                    num_printed = 0
        except BaseException as error:
            done = f"{num_done} of {len(recordings)} recordings are done"
            add_note_to_signal(error, lambda: f"{done}{bar.summary}{_how_to_go_on(args, several=several)}")
            raise
    if args.output is not None and (num_written := num_done - num_skipped):
        note(f"wrote {num_written} transcript{'s' if num_written > 1 else ''} to {args.output}")
    if num_failed and len(recordings) - num_skipped > 1:
        say(f"{num_failed} of {len(recordings) - num_skipped} could not be transcribed", prog=PROG)
    return DATA_WRONG if num_failed else 0


def _how_to_go_on(args: argparse.Namespace, *, several: bool) -> str:
    """What to type after an interruption; empty if nothing would be saved."""
    if args.output is None:
        return "; to be able to go on, add --output DIR" if several else ""
    resume = [] if args.resume else ["--resume"]
    return f"; go on with: {shlex.join([PROG, *args.arguments, *resume])}"


def _printed(result: FileResult, options: TranscribeOptions, *, explain: bool) -> str:
    """The result as standard output shows it."""
    assert result.transcript is not None
    if explain:
        return f"{_one_line(result.path)}\n{to_explanation(result.transcript)}\n"
    return format_result(result.transcript, result.path, options.formats[0], options)


def _label(path: str) -> str:
    """The beginning of a line of one of several recordings."""
    return f"{_one_line(path)}\t"


def describe_models() -> str:
    """The embedded models: name, purpose, language, size, and the error rates in its provenance; and others' models."""
    from asr.acoustic.config import read_config
    from asr.acoustic.folder import DEFAULT_MODEL, embedded_models

    lines = []
    for name, folder in embedded_models().items():
        config = read_config(folder)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*.*")) / 1e6
        lines.append(f"{name} (default)" if name == DEFAULT_MODEL else name)
        lines += textwrap.wrap(config.description, 78, initial_indent="  ", subsequent_indent="  ")
        lines.append(f"  {config.text.language}, {megabytes:.1f} MB")
        lines += _rates(config.provenance.get("results", {}))
    lines = lines or ["no models are embedded"]
    return "\n".join([*lines, "", *_published(), ""])


def _published() -> Iterator[str]:
    """Models of others, and how to get them."""
    from asr.acoustic.foreign.published import PUBLISHED_MODELS

    yield "models of others: give --model the folder, or a name with torchaudio:"
    for model in PUBLISHED_MODELS:
        yield f"{model.name}"
        for line in (f"{model.language}; {model.size}; {model.licence}", f"WER: {model.error}", model.how):
            yield from textwrap.wrap(
                line, 78, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )


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
    if text.strip().lower() == "all":
        return list(FORMATS)
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
