"""asr-align: find the times of sentences, words and characters of a known text in its recording."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from asr.cli.arguments import Parser, add_options, add_sound_flags, given_options, progress_bar, sound_flags
from asr.cli.command import noter, run_command, say, write_result
from asr.cli.recognizer import add_computing_flags, load_recognizer
from asr.ctc.alignment import warm_up
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, DataError
from asr.files.texts import MOST_BYTES, decode_text, read_text
from asr.files.writing import write_whole
from asr.output.formats import ALIGNMENT_WRITERS
from asr.output.pictures import check_picture
from asr.recognition.aligner import AlignmentOptions, align_recording
from asr.text.aligned_text import AlignedText, Level

PROG = "asr-align"
_SUBTITLES = ("srt", "vtt")
_MOST_NAMED = 8
_DOUBTFUL = 0.01  # confidence; the right text of clear speech has a higher one

_EXAMPLES = """\
output:
  The words of the text with their times: ctm has one line a word (or
  character); json and TextGrid have sentences, words and characters down to
  --level; srt and vtt have subtitles of a sentence or less, or words or
  characters. A word lasts from its first to its last character; a model emits a
  character in a few frames only, so a word's end may be too early.

  Words that the model cannot spell, such as 1961 or a dash, are not aligned and
  have no time; they are written in their sentence. Write numbers as they are
  spoken. Speech before or after the text is skipped; see --gaps.

  The exit status is 1 if the sound or the text cannot be read, and 2 if the
  command line is wrong or the text is too long for the recording.

examples:
  asr-align speech.flac speech.txt
  asr-align speech.flac speech.txt --format srt --output speech.srt
  asr-align chapter.mp3 chapter.txt --format TextGrid --level character
  asr-align word.wav --text "hello world" --plot word.png
  pdftotext book.pdf - | asr-align book.opus - --gaps sentences --format json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-align` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of `asr-align`."""
    parser = Parser(
        PROG,
        usage="asr-align AUDIO TEXT [--format FORMAT] [--level LEVEL] [OPTION...]",
        description="Find when each word of a known text is spoken in a recording of any length.",
        examples=_EXAMPLES,
    )
    parser.add_argument("audio", metavar="AUDIO", help="a sound file, or - for stdin")
    parser.add_argument("file", nargs="?", metavar="TEXT", help="a file with the spoken text, or - for stdin")
    parser.add_argument("--text", metavar="WORDS", help="spoken text, instead of a file")
    parser.add_argument(
        "--format",
        type=_format,
        default="ctm",
        metavar="FORMAT",
        help=f"{', '.join(ALIGNMENT_WRITERS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--level",
        choices=get_args(Level),
        help="the smallest unit with times (default: sentence in srt and vtt, else word)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here (default: standard output)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw spectrogram, labels and words as a PNG")
    add_sound_flags(parser)
    parser.add_argument("--model", metavar="NAME|DIR", help="an embedded model or a model folder")
    add_options(parser, AlignmentOptions, title="alignment")
    add_computing_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Align the text and recording of the arguments; the exit status."""
    options = given_options(args, AlignmentOptions)
    level: Level = args.level or ("sentence" if args.format in _SUBTITLES else "word")
    if args.format == "ctm" and level == "sentence":
        raise ConfigError("--format ctm needs --level word or character; it cannot write the spaces of a sentence")
    if args.plot is not None:
        check_picture(args.plot)
    if args.output is not None and args.output.is_dir():
        raise ConfigError(f"--output must be a file; {args.output} is a folder")
    text = _read_text(args)
    aligned = replace(_align(args, text, options), name="stdin" if args.audio == "-" else Path(args.audio).stem)
    if not args.quiet:
        _report(aligned)
    result = ALIGNMENT_WRITERS[args.format](aligned, level)
    if args.output is None:
        write_result(result)
    else:
        write_whole(args.output, result)
    return 0


def _align(args: argparse.Namespace, text: str, options: AlignmentOptions) -> AlignedText:
    from asr.recognition.picture import draw_recording

    recognizer = load_recognizer(args, args.model, decoding=DecodingOptions())  # no language model: the text is known
    model = recognizer.model
    if args.quiet:
        warm_up()
    else:
        warm_up(lambda: say("compiling the aligner, once on this machine: a few seconds", prog=PROG))
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


def _report(aligned: AlignedText) -> None:
    """Warn of characters outside the alphabet, of words without a time, and of doubtful times."""
    if aligned.dropped:
        counts = (f"{character!r} ({count})" for character, count in aligned.dropped.most_common())
        say(f"warning: left out characters that the model lacks: {_first(counts)}", prog=PROG)
    if aligned.untimed:
        say(f"warning: words without a time ({len(aligned.untimed)}): {_first(aligned.untimed)}", prog=PROG)
    if aligned.confidence < _DOUBTFUL:
        say(
            "warning: the times are doubtful, because the model recognises almost nothing of the text: the text may "
            "belong to another recording, or the model was not trained on this kind of speech",
            prog=PROG,
        )


def _first(entries: Iterable[str]) -> str:
    """A few of the entries, with commas between them."""
    listed = list(entries)
    return ", ".join(listed[:_MOST_NAMED]) + (", ..." if len(listed) > _MOST_NAMED else "")


def _format(text: str) -> str:
    names = {name.lower(): name for name in ALIGNMENT_WRITERS}
    if text.strip().lower() not in names:
        raise argparse.ArgumentTypeError(f"unknown format {text!r}; known are {', '.join(ALIGNMENT_WRITERS)}")
    return names[text.strip().lower()]


if __name__ == "__main__":
    sys.exit(main())
