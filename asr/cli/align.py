"""asr-align: find the times of sentences, words and characters of a known text in its recording."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

from asr.cli.arguments import Parser, add_options, add_sound_flags, at_least, given_options, progress_bar, sound_flags
from asr.cli.command import DATA_WRONG, noter, run_command, say, write_result
from asr.cli.recognizer import add_computing_flags, load_recognizer
from asr.ctc.alignment import warm_up
from asr.data.manifest import is_manifest
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError
from asr.files.texts import MOST_BYTES, decode_text, read_text
from asr.files.writing import check_writable, write_whole
from asr.output.formats import ALIGNMENT_WRITERS
from asr.output.pictures import check_picture
from asr.output.retiming import retime, text_of_subtitles
from asr.recognition.aligner import AlignmentOptions, align_recording
from asr.recognition.many_alignments import CORPUS_FORMATS, JOINED, MANIFEST, AlignOptions, align_pairs, check_level
from asr.recognition.recordings import find_pairs, is_folder
from asr.text.aligned_text import AlignedText, Level
from asr.text.cues import find_cues

PROG = "asr-align"
_SUBTITLES = ("srt", "vtt")
_MOST_NAMED = 8
_FLAGS = ("format", "strict", "nproc", "model", "device", "precision", "runtime", "batch_size", "threads")

_SHORT = ("audio", "file", "text", "format", "level", "output", "plot", "model", "quiet")
_EXAMPLES = """\
output:
  The words of the text with their times: ctm has one line a word (or
  character); json and TextGrid have sentences, words and characters down to
  --level; srt and vtt have subtitles of a sentence or less, or words or
  characters. Starts and ends of words are estimates, mostly within 30 ms.

  English numbers and signs such as 1961 or & are aligned as they are read
  (needs asr[numbers]). Another word that the model cannot spell gets the time
  that is left between its neighbours, with a score of 0; a dash has no time.
  Speech before or after the text is skipped; see --gaps. Passages of five words
  or more that the text lacks, or that nobody says, are named.

  The exit status is 1 if the sound or the text cannot be read, or with --strict
  if the text is doubted; and 2 if the command line is wrong or the text is too
  long for the recording.

subtitles:
  If TEXT is a .srt or .vtt file and --format is the same, its cues get new
  times and are otherwise as written: text, lines, marks, order.

a corpus:
  A folder of sounds, each with its text beside it (.txt or .lab), or a manifest
  (.jsonl, .jsonl.gz) of utterances. --output is a folder; the subfolders of the
  corpus are kept: CORPUS/ann/a.wav becomes DIR/ann/a.TextGrid. A file appears
  when it is complete, and the same command skips what exists. manifest is for
  training: an utterance of each sentence, and all in DIR/manifest.jsonl.gz.

  Recordings that fail are listed at the end, the others are kept, and the exit
  status is 1. --nproc N starts N processes, each with a copy of the model.

examples:
  asr-align speech.flac speech.txt
  asr-align speech.flac speech.txt --format srt --output speech.srt
  asr-align chapter.mp3 chapter.txt --format TextGrid --level character
  asr-align word.wav --text "hello world" --plot word.png
  pdftotext book.pdf - | asr-align book.opus - --gaps sentences --format json
  asr-align talk.mp3 talk.srt --format srt --output retimed.srt
  asr-align corpus/ --output aligned/ --format TextGrid --nproc 2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-align` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of `asr-align`."""
    parser = Parser(
        PROG,
        usage="asr-align AUDIO TEXT [--format FORMAT] [--level LEVEL] [OPTION...]\n"
        "       asr-align CORPUS --output DIR [--format FORMAT] [OPTION...]",
        description="Find when each word of a known text is spoken, in a recording or in a corpus.",
        examples=_EXAMPLES,
        short=_SHORT,
    )
    parser.add_argument(
        "audio",
        metavar="AUDIO|CORPUS",
        help="a sound file, or - for stdin; a folder of sounds and texts, or a manifest",
    )
    parser.add_argument("file", nargs="?", metavar="TEXT", help="a file with the spoken text, or - for stdin")
    parser.add_argument("--text", metavar="WORDS", help="spoken text, instead of a file")
    parser.add_argument(
        "-f",
        "--format",
        type=_format,
        default="ctm",
        metavar="FORMAT",
        help=f"{', '.join(ALIGNMENT_WRITERS)}; {MANIFEST} of a corpus (default: %(default)s)",
    )
    parser.add_argument(
        "--level",
        choices=get_args(Level),
        help="the smallest unit with times (default: sentence in srt and vtt, else word)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE|DIR",
        help="write to FILE, or a file for each recording in DIR (default: standard output)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="take a text that is doubted for an error, and write nothing for it"
    )
    parser.add_argument(
        "--nproc",
        type=at_least(1),
        default=AlignOptions.nproc,
        metavar="N",
        help="align a corpus in N processes (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw spectrogram, labels and words as a PNG")
    add_sound_flags(parser)
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="an embedded model, or the folder of a model, ours or anybody's (docs/models_of_others.md)",
    )
    add_options(parser, AlignmentOptions, title="alignment")
    add_computing_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Align the text and recording of the arguments, or a corpus; the exit status."""
    options = given_options(args, AlignmentOptions)
    level: Level = args.level or ("sentence" if args.format in _SUBTITLES else "word")
    check_level(args.format, level)
    if is_folder(args.audio) or is_manifest(args.audio):
        return _align_corpus(args, options, level)
    if args.format == MANIFEST:
        raise ConfigError("--format manifest needs a corpus: a folder of sounds with texts, or a manifest")
    if args.nproc > 1:
        raise ConfigError("--nproc needs a corpus: a folder of sounds with texts, or a manifest")
    if args.plot is not None:
        check_picture(args.plot)
    name = "stdin" if args.audio == "-" else Path(args.audio).stem
    output = None if args.output is None else _file_of(args.output, f"{name}.{args.format}", args.file)
    text, subtitles = _read_text(args), ""
    if args.file is not None and (suffix := Path(args.file).suffix.lower().removeprefix(".")) in _SUBTITLES:
        if not find_cues(text):
            raise DataError("contains no subtitle with times, 00:00:00,000 --> 00:00:00,000", path=args.file)
        if args.format in _SUBTITLES and args.format != suffix:
            raise ConfigError(f"--format {args.format} of a .{suffix} file: subtitles with new times keep their format")
        text, subtitles = text_of_subtitles(text), text if args.format == suffix else ""
    for path in filter(None, (output, args.plot)):
        check_writable(path)
    aligned = replace(_align(args, text, options), name=name)
    if args.strict and aligned.doubt:
        raise DataError(aligned.doubt, path=args.audio)
    if not args.quiet:
        for remark in aligned.remarks:
            say(f"warning: {remark}", prog=PROG)
        _report(aligned.dropped, aligned.untimed)
    result = retime(subtitles, aligned) if subtitles else ALIGNMENT_WRITERS[args.format](aligned, level)
    if output is None:
        write_result(result)
    else:
        write_whole(output, result)
    return 0


def _file_of(output: str, name: str, text: str | None) -> Path:
    """The file that --output means for one recording: a file of this name if it is a folder, or ends like one.

    Raises:
        ConfigError: the file in the folder is the text itself.
    """
    if not (output.endswith(("/", os.sep)) or os.path.isdir(output)):
        return Path(output)
    file = Path(output, name)
    if text is not None and os.path.realpath(file) == os.path.realpath(text):
        raise ConfigError(f"--output must be another folder, or a file: {file} is the text, which would be lost")
    return file


def _align(args: argparse.Namespace, text: str, options: AlignmentOptions) -> AlignedText:
    from asr.recognition.picture import draw_recording

    recognizer = load_recognizer(args, args.model, decoding=DecodingOptions())  # no language model: the text is known
    model = recognizer.model
    _warm_up(args)
    source, sound = args.audio, sound_flags(args)
    if args.plot is not None and source == "-":  # standard input can be read only once
        from asr.audio.waveform import read_audio

        source, sound = (read_audio(source, sample_rate=model.sample_rate, **sound), model.sample_rate), {}
    with progress_bar(args, unit=" s of sound", unit_scale=True) as bar:
        aligned = align_recording(
            recognizer, source, text, options, progress=lambda seconds: bar.update(round(seconds)), **sound
        )
    if args.plot is not None:
        note = noter(args, prog=PROG)
        draw_recording(args.plot, recognizer, source, aligned.words, aligned.timeline, note=note, **sound)
    return aligned


def _warm_up(args: argparse.Namespace) -> None:
    warm_up(lambda: noter(args, prog=PROG)("compiling the aligner, once on this machine: a few seconds"))


def _align_corpus(args: argparse.Namespace, alignment: AlignmentOptions, level: Level) -> int:
    """Align the texts of a corpus, and report failures at the end; the exit status."""
    if args.file is not None or args.text is not None:
        raise ConfigError(f"{args.audio} is a corpus, which has its own texts: leave out TEXT and --text")
    if args.output is None:
        raise ConfigError("a corpus needs --output DIR, for a file of each recording")
    if args.plot is not None:
        raise ConfigError("--plot needs one sound file, not a corpus")
    flags = {name: getattr(args, name) for name in _FLAGS}
    options = AlignOptions(alignment=alignment, level=level, output=Path(args.output), **sound_flags(args), **flags)
    pairs = find_pairs(args.audio)
    _warm_up(args)
    errors: list[AsrError] = []
    dropped: Counter[str] = Counter()
    untimed: list[str] = []
    num_skipped = num_doubted = 0
    audio_seconds = 0.0
    note = noter(args, prog=PROG)
    with progress_bar(args, total=len(pairs), unit="file") as bar:

        def show(seconds: float) -> None:
            nonlocal audio_seconds
            audio_seconds += seconds
            bar.set_postfix_str(f"{audio_seconds / 60:.1f} min of sound")

        with closing(align_pairs(pairs, options, progress=show, note=note)) as results:
            for result in results:
                if result.error is not None:
                    errors.append(result.error)
                elif result.aligned is not None:
                    for remark in result.aligned.remarks:
                        note(f"warning: {result.path}: {remark}")
                    num_doubted += bool(result.aligned.doubt)
                    dropped += result.aligned.dropped
                    untimed += result.aligned.untimed
                else:
                    num_skipped += 1
                bar.update()
    if not args.quiet:
        _report(dropped, untimed)
    for error in errors:
        say(f"error: {error}", prog=PROG)
    num_left = len(pairs) - num_skipped
    if num_doubted:
        left_out = f"; {JOINED} does not have them" if args.format == MANIFEST else ""
        note(f"{num_doubted} of {num_left} texts are doubted{left_out}")
    if errors:
        say(f"{len(errors)} of {num_left} could not be aligned", prog=PROG)
    return DATA_WRONG if errors else 0


def _read_text(args: argparse.Namespace) -> str:
    """The text of the arguments."""
    if (args.file is None) == (args.text is None):
        raise ConfigError("give either TEXT, a file with the spoken text, or --text WORDS")
    if args.text is not None:
        return args.text
    if args.file == "-" and args.audio == "-":
        raise ConfigError("standard input (-) can be AUDIO or TEXT, not both")
    text = decode_text(sys.stdin.buffer.read(MOST_BYTES + 1), "-") if args.file == "-" else read_text(args.file)
    if not text.strip():
        raise DataError("contains no text", path=args.file)
    return text


def _report(dropped: Counter[str], untimed: Sequence[str]) -> None:
    """Warn of characters outside the alphabet, and of words without a time, but not of dashes, which nobody says."""
    if dropped:
        counts = (f"{character!r} ({count})" for character, count in dropped.most_common())
        say(f"warning: left out characters that the model lacks: {_first(counts)}", prog=PROG)
    untimed = [word for word in untimed if any(map(str.isalnum, word))]
    if untimed:
        say(f"warning: words without a time ({len(untimed)}): {_first(untimed)}", prog=PROG)


def _first(entries: Iterable[str]) -> str:
    """A few of the entries, with commas between them."""
    listed = list(entries)
    return ", ".join(listed[:_MOST_NAMED]) + (", ..." if len(listed) > _MOST_NAMED else "")


def _format(text: str) -> str:
    names = {name.lower(): name for name in CORPUS_FORMATS}
    if text.strip().lower() not in names:
        raise argparse.ArgumentTypeError(f"unknown format {text!r}; known are {', '.join(CORPUS_FORMATS)}")
    return names[text.strip().lower()]


if __name__ == "__main__":
    sys.exit(main())
