"""asr-data: make manifests from public corpora and your own recordings, check them, and write shards."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.acoustic.folder import DEFAULT_MODEL
from asr.cli.arguments import Parser, add_options, at_least, given_options, progress_bar
from asr.cli.command import DATA_WRONG, Commands, run_subcommand, say, say_next, set_threads, write_result
from asr.cli.data_prepare import make_prepare_parser, prepare
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.data.splits import Split

PROG = "asr-data"
_MOST_PROBLEMS = 20  # lines on the terminal

_EXAMPLES = """\
commands (details: asr-data COMMAND --help):
  prepare       make manifests of a public corpus, which is downloaded if needed
  record        read sentences aloud, and record them for import
  import        make train, dev and test manifests of your own recordings
  check         find errors in manifests and their sound
  shard         put a manifest and its sound into a few large archives

examples:
  asr-data prepare librispeech --parts dev-clean,test-clean
  asr-data import recordings/ --output data/mine
  asr-data check data/mine/*.jsonl.gz --html report.html
"""

_RECORD_EXAMPLES = """\
how it works:
  Each sentence is shown. Press Enter, read it, and press Enter again; then keep
  it, play it, repeat it or skip it. Recordings that are too quiet, too short or
  clipped are not kept. DIR gets 001.wav and 001.txt, as asr-data import takes
  them; the same command goes on where you stopped. Sixty sentences take a
  quarter of an hour.

examples:
  asr-data record --output recordings
  asr-data record manual.md --output recordings
"""

_IMPORT_EXAMPLES = """\
sources:
  A folder: each sound file has a text of the same name: talk.wav and talk.txt,
  or for a long recording talk.srt, talk.vtt or talk.TextGrid.
  A table, .csv, .tsv or .jsonl: columns path and text, and optionally speaker,
  start, end, duration, channel, split, id. NeMo's names and other usual names
  are recognised; give others with --columns.
  A Hugging Face data set on disk (needs pyarrow).

results:
  DIR/train.jsonl.gz, dev and test; their paths are written to standard output.
  A hash of the name puts each speaker, or each recording, into one split: new
  recordings do not move the others. Mono WAV and FLAC files are used in place;
  others, and parts of long ones, are written to FLAC files in DIR/cut-audio.
  Items that cannot be used are listed on standard error and in
  DIR/problems.txt, and the exit status is 1.

examples:
  asr-data import recordings/ --output data/mine
  asr-data import recordings/ --output data/mine --speakers folder
  asr-data import texts.csv --output data/mine --columns text=Satz,path=Datei
  asr-data import talks/ --output data/talks --tier words --test 0
"""

_CHECK_EXAMPLES = """\
checks:
  Each sound file is decoded once, in several processes. Sounds and texts that
  are missing, damaged, silent, mislabelled, duplicate, or in both train and
  test are reported with the line of the manifest. With --model, the model's
  alphabet and number of frames are used, and each text is aligned with its
  sound, which finds texts of other recordings.

levels:
  broken: training fails or learns errors. suspect: look at it or listen to it.
  note: not an error. The exit status is 1 if something is broken or suspect.

splits:
  A manifest is train, dev (or valid) or test by its file name, or by a prefix:
  test=mine.jsonl.gz. Leaks from train into the other splits are reported.

examples:
  asr-data check data/an4/train.jsonl.gz data/an4/test.jsonl.gz
  asr-data check data/mine/*.jsonl.gz --model an4 --html report.html
  asr-data check train=all.jsonl.gz --fix --quarantine clipped,mismatch
"""

_SHARD_EXAMPLES = """\
result:
  A folder in Lhotse's Shar format: cuts.000000.jsonl.gz contains the cuts of
  the first shard, recording.000000.tar their sound as FLAC, and so on. The
  folder is written completely or not at all. For training, give the folder, or
  its URL in an object store, instead of a manifest:
    asr-train --data.train s3://bucket/train --data.dev dev.jsonl.gz ...
  Training shuffles the utterances of a few shards at a time. If the manifest is
  sorted, for example by speaker, use --shuffle.

examples:
  asr-data shard data/librispeech/train-clean-100.jsonl.gz --output shards/train
  asr-data shard train.jsonl.gz --output shards/train --shard-size 500 --shuffle
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `asr-data`, with the arguments of the process if None; the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_subcommand(
        PROG,
        COMMANDS,
        arguments,
        description="Make manifests for training, and check them.",
        examples=_EXAMPLES,
    )


def make_import_parser(arguments: Sequence[str]) -> Parser:
    from asr.importing.sources import SourceOptions
    from asr.importing.utterances import SplitOptions

    parser = Parser(
        f"{PROG} import",
        usage="asr-data import SOURCE... --output DIR [OPTION...]",
        description="Make train, dev and test manifests of your own recordings.",
        examples=_IMPORT_EXAMPLES,
        short=("sources", "output", "speakers", "columns", "audio", "dev", "test", "split_by", "quiet"),
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a folder of recordings, a table, or a data set")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="write the manifests here")
    add_options(parser, SourceOptions, title="reading")
    add_options(parser, SplitOptions, title="splits")
    return parser


def import_(args: argparse.Namespace) -> int:
    """Import recordings; the exit status."""
    from asr.importing.sources import SourceOptions
    from asr.importing.utterances import SplitOptions, import_recordings

    reading, splitting = given_options(args, SourceOptions), given_options(args, SplitOptions)
    with _bar(args, "recording") as show:
        result = import_recordings(args.sources, args.output, reading=reading, splitting=splitting, progress=show)
    prog = f"{PROG} import"
    for problem in result.problems[:_MOST_PROBLEMS]:
        say(f"left out: {problem}", prog=prog)
    if not args.quiet:
        for note in result.notes:
            say(note, prog=prog)
        for split, count in result.counts.items():
            say(f"{split}: {count} utterances, {result.seconds[split] / 60:.1f} minutes", prog=prog)
    if result.problems:
        more = f", {len(result.problems) - _MOST_PROBLEMS} more than shown" * (len(result.problems) > _MOST_PROBLEMS)
        say(f"{len(result.problems)} left out{more}: {args.output / 'problems.txt'}", prog=prog)
    write_result("".join(f"{path}\n" for path in result.manifests.values()))
    say_next([PROG, "check", *result.manifests.values(), "--model", DEFAULT_MODEL, "--fix"], args, prog=prog)
    return DATA_WRONG if result.problems else 0


def make_record_parser(arguments: Sequence[str]) -> Parser:
    parser = Parser(
        f"{PROG} record",
        usage="asr-data record [TEXT] --output DIR",
        description="Read sentences aloud, one by one, and record them with the microphone.",
        examples=_RECORD_EXAMPLES,
    )
    parser.add_argument(
        "text", nargs="?", metavar="TEXT", help="sentences to read: a text, .md or .docx (default: 85 everyday ones)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of the recordings")
    return parser


def record(args: argparse.Namespace) -> int:
    """Record; the exit status."""
    from asr.importing.recording import SystemMicrophone, record_sentences, sentences_to_read

    prog = f"{PROG} record"
    if not sys.stdin.isatty():
        raise ConfigError("record asks for keys: run it in a terminal")

    def ask(prompt: str) -> str:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        return line if line else "q"  # the end of the input quits

    def show(line: str) -> None:
        print(line, file=sys.stderr)

    sentences = sentences_to_read(args.text)
    count = record_sentences(sentences, args.output, microphone=SystemMicrophone(), ask=ask, show=show)
    say(f"{count} of {len(sentences)} sentences recorded", prog=prog)
    write_result(f"{args.output}\n")
    say_next([PROG, "import", args.output, "--output", Path("data") / args.output.name], args, prog=prog)
    return 0


def make_check_parser(arguments: Sequence[str]) -> Parser:
    from asr.doctor.checks import DoctorOptions

    parser = Parser(
        f"{PROG} check",
        usage="asr-data check [SPLIT=]MANIFEST... [--model NAME|DIR] [--fix] [OPTION...]",
        description="Find errors in manifests and their sound before training.",
        examples=_CHECK_EXAMPLES,
        short=("manifests", "model", "json", "html", "fix", "quarantine", "quiet"),
    )
    parser.add_argument("manifests", nargs="+", metavar="[SPLIT=]MANIFEST", help="Lhotse CutSets, .jsonl or .jsonl.gz")
    parser.add_argument("--model", metavar="NAME|DIR", help="compare with this embedded model or model folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page with histograms, the worst clips and, with --model, what it heard",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write MANIFEST.clean.jsonl(.gz) without broken utterances, and MANIFEST.quarantine.jsonl with them",
    )
    parser.add_argument(
        "--quarantine", default="", metavar="KIND,...", help="with --fix, also remove findings of these kinds"
    )
    parser.add_argument(
        "--most", type=at_least(0), default=10, metavar="N", help="show N findings of each kind; 0: all (default: 10)"
    )
    parser.add_argument(
        "--processes", type=at_least(1), metavar="N", help="decode in N processes (default: one per processor)"
    )
    add_options(parser, DoctorOptions, title="limits")
    return parser


def check(args: argparse.Namespace) -> int:
    """Examine manifests; the exit status."""
    from asr.doctor.checks import KINDS, DoctorOptions
    from asr.doctor.examination import clean, examine, made_by_fix
    from asr.doctor.page import to_html
    from asr.doctor.report import to_json, to_table
    from asr.files.writing import check_writable, write_whole

    options = given_options(args, DoctorOptions)
    for path in filter(None, (args.json, args.html)):
        check_writable(path)
    manifests = _manifests(args.manifests)
    for path, original in made_by_fix(manifests).items():
        if path in args.manifests:  # SPLIT=path is intended
            del manifests[path]
            say(f"skipped {path}: its name shows that --fix made it from {original}", prog=f"{PROG} check")
    for path in [path for path, split in manifests.items() if not split and len(manifests) > 1]:
        message = f"{path}: not checked for leaks, since its name has no split; for a test set, give test={path}"
        say(message, prog=f"{PROG} check")
    also = [kind for kind in args.quarantine.split(",") if kind]
    if also and not args.fix:
        raise ConfigError("--quarantine needs --fix")
    for kind in also:
        if kind not in KINDS:
            raise ConfigError(f"--quarantine takes kinds of findings ({', '.join(KINDS)}); got {kind!r}")
    with _bar(args, "file") as show:
        examination = examine(
            manifests,
            options,
            recognizer=_recognizer(args) if args.model else None,
            hear=args.html is not None,
            processes=args.processes or os.cpu_count() or 1,
            progress=show,
        )
    write_result(to_table(examination, width=max(shutil.get_terminal_size().columns, 40), most=args.most))
    for path, write in ((args.json, to_json), (args.html, to_html)):
        if path:
            write_whole(path, write(examination))
    clean_by_split: dict[str, Path] = {}
    for cleaned in clean(examination, also=also) if args.fix else ():
        message = f"{cleaned.num_kept} lines kept in {cleaned.clean}"
        say(f"{message}, {cleaned.num_quarantined} moved to {cleaned.quarantine}", prog=f"{PROG} check")
        if cleaned.num_kept:
            clean_by_split.setdefault(manifests[cleaned.manifest], cleaned.clean)
    if {"train", "dev"} <= clean_by_split.keys():
        train, dev = clean_by_split["train"], clean_by_split["dev"]
        run = Path("runs") / (train.resolve().parent.name or "mine")
        command = ["asr-train", "--run", run, "--init", args.model or DEFAULT_MODEL]
        say_next([*command, "--data.train", train, "--data.dev", dev], args, prog=f"{PROG} check")
    return 0 if examination.is_healthy else DATA_WRONG


def make_shard_parser(arguments: Sequence[str]) -> Parser:
    parser = Parser(
        f"{PROG} shard",
        usage="asr-data shard MANIFEST --output DIR [--shard-size N] [--shuffle]",
        description="Put a manifest and its sound into archives that are read sequentially.",
        examples=_SHARD_EXAMPLES,
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="a Lhotse CutSet, .jsonl or .jsonl.gz")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="write the shards to this new folder")
    parser.add_argument(
        "--shard-size", type=at_least(1), default=1000, metavar="N", help="utterances per shard (default: %(default)s)"
    )
    parser.add_argument("--shuffle", action="store_true", help="shuffle the utterances first")
    return parser


def shard(args: argparse.Namespace) -> int:
    """Write shards; the exit status."""
    from asr.data.shards import write_shards

    with _bar(args, "utterance") as show:
        archives = write_shards(
            args.manifest, args.output, shard_size=args.shard_size, shuffled=args.shuffle, progress=show
        )
    write_result("".join(f"{archive}\n" for archive in archives))
    return 0


def _manifests(given: Sequence[str]) -> dict[str, Split]:
    """The manifests by path, each with its split."""
    from asr.data.splits import find_split

    manifests: dict[str, Split] = {}
    for argument in given:
        name, mark, path = argument.partition("=")
        if not mark or os.path.exists(argument):
            path, split = argument, find_split(Path(argument).name)
        elif not (split := find_split(name)):
            raise ConfigError(f"the prefix of a manifest must be train=, dev= or test=; got {argument!r}")
        if os.path.realpath(path) in map(os.path.realpath, manifests):
            raise ConfigError(f"manifests must differ, but {path} is given twice")
        manifests[path] = split
    return manifests


def _recognizer(args: argparse.Namespace) -> Any:
    from asr.recognition.recognizer import load

    set_threads(args)
    return load(args.model, device=args.device)


@contextmanager
def _bar(args: argparse.Namespace, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the numbers of steps done, and of all, in a progress bar."""
    with progress_bar(args, unit=unit) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


COMMANDS: Commands = {
    "prepare": (make_prepare_parser, prepare),
    "record": (make_record_parser, record),
    "import": (make_import_parser, import_),
    "check": (make_check_parser, check),
    "shard": (make_shard_parser, shard),
}


if __name__ == "__main__":
    sys.exit(main())
