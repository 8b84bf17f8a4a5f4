"""asr-evaluate: error rates of a model on a manifest with texts."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli.arguments import Parser, at_least, progress_bar
from asr.cli.command import DATA_WRONG, run_command, say, write_result
from asr.cli.recognizer import add_recognizer_flags, load_recognizer, shown_decoding
from asr.errors import ConfigError, DataError
from asr.files.writing import check_writable, write_whole
from asr.options import to_json

if TYPE_CHECKING:
    from asr.data.manifest import Utterance
    from asr.evaluation.error_rates import ErrorRate, Evaluation
    from asr.recognition.recognizer import Recognizer
    from asr.text.metrics import AlignedPair, PairedTest
    from asr.text.normalization import TextOptions

PROG = "asr-evaluate"
NUM_CONFUSIONS = 10
FEW = 100  # utterances to tune on

_SHORT = ("model", "manifest", "errors", "compare", "tune", "format", "beam_width", "lm", "device")
_EXAMPLES = """\
conventions:
  References and hypotheses are normalised like the training texts of MODEL.
  Rates are all errors over all reference words or characters. Intervals are
  bootstrapped over speakers if the manifest has more than one, else over
  utterances. For Chinese, CER without spaces is listed first. Utterances that
  cannot be read are reported on stderr and left out of all figures, and the
  exit status is 1. It is 2 if the command line is wrong.

examples:
  asr-evaluate runs/an4/model data/an4/test.jsonl.gz
  asr-evaluate runs/an4/model data/an4/dev.jsonl.gz --errors 20
  asr-evaluate runs/b/model data/an4/test.jsonl.gz --compare runs/a/model
  asr-evaluate an4 data/an4/test.jsonl.gz --format json | jq .wer.rate
  asr-evaluate runs/a/model dev.jsonl.gz --tune --rescore-lm runs/a/model/lm
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-evaluate` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser(given).parse(given), run, argv)


def make_parser(arguments: Sequence[str] = ()) -> Parser:
    """The command line of `asr-evaluate`; help shows the decoding options of a model that is the first argument."""
    parser = Parser(
        PROG,
        usage="asr-evaluate MODEL MANIFEST [--errors N] [--compare OTHER] [OPTION...]",
        description="Word and character error rates of a model on a manifest, with 95 % intervals.",
        examples=_EXAMPLES,
        short=_SHORT,
    )
    parser.add_argument("model", metavar="MODEL", help="an embedded model, or the folder of a model, ours or anybody's")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="a Lhotse CutSet, .jsonl or .jsonl.gz")
    parser.add_argument(
        "--errors",
        type=at_least(1),
        metavar="N",
        help="show the N utterances with most errors, and the most frequent confusions",
    )
    parser.add_argument("--compare", metavar="OTHER", help="another model, for a paired test on the same utterances")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="first tune the weights of decoding for the fewest errors on MANIFEST, and calibrate "
        "confidences; store both in the folder of MODEL",
    )
    parser.add_argument(
        "--numbers",
        choices=("keep", "spell"),
        help="keep digits in texts, or spell numbers in English words before scoring (default: as in training)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write all figures and texts to a JSON file")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of stdout (default: table)")
    add_recognizer_flags(parser, shown_decoding(arguments, arguments[0] if arguments else None))
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate the model of the arguments; the exit status."""
    if args.format == "json" and args.errors:
        raise ConfigError("--errors needs --format table; json lists every utterance")
    if args.output:
        check_writable(args.output)
    utterances, unusable = _utterances(args.manifest)
    if args.tune:
        from asr.evaluation.tuning import check_own

        check_own(args.model)
    recognizer = load_recognizer(args, args.model)
    if args.tune:
        recognizer = _tuned(args, recognizer, utterances)
    spelling = replace(recognizer.model.text, numbers=args.numbers) if args.numbers else None
    evaluation = _evaluation(args, recognizer, utterances, text=spelling)
    if args.tune:
        from asr.evaluation.tuning import store_decoding

        rate = evaluation.wer.counts.rate
        options = recognizer.decoder.options
        folder = store_decoding(args.model, options, tuned_on=args.manifest.name, word_error_rate=rate)
        say(f"weights stored in {folder}", prog=PROG)
    document = {"manifest": str(args.manifest), **evaluation.to_json()}
    lines = [*table(evaluation, model=args.model, manifest=str(args.manifest))]
    if unusable:
        document["unusable_lines"] = [str(error) for error in unusable]
        lines.append(f"     {len(unusable)} lines of the manifest cannot be used, and are left out of all figures")
    if args.compare:
        from asr.evaluation.error_rates import compare

        other = _evaluation(args, load_recognizer(args, args.compare), utterances, text=evaluation.text)
        test = compare(evaluation, other)
        document["compare"] = {**other.to_json(), **vars(test)}
        lines += ["", *table(other, model=args.compare), "", *paired_lines(test, args.model, args.compare, evaluation)]
    if args.errors:
        width = shutil.get_terminal_size().columns
        lines += ["", *error_lines(evaluation, args.errors, width=width)]
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    if args.output:
        write_whole(args.output, text)
    write_result(text if args.format == "json" else "\n".join([*lines, ""]))
    return DATA_WRONG if evaluation.unreadable or unusable else 0


def _utterances(manifest: Path) -> tuple[list[Utterance], list[DataError]]:
    """The utterances of a manifest, and the errors of its other lines, after a report on stderr."""
    from asr.data.manifest import read_usable

    items = read_usable(manifest)
    unusable = [item for item in items if isinstance(item, DataError)]
    if len(unusable) == len(items):
        raise unusable[0]
    for error in unusable:
        say(f"error: {error}", prog=PROG)
    return [item for item in items if not isinstance(item, DataError)], unusable


def table(evaluation: Evaluation, *, model: str, manifest: str = "") -> Iterator[str]:
    """The error rates with their intervals and counts, and the speed, in lines of at most 80 columns.

    Lines with a long name of the model or manifest may be longer.
    """
    count = len(evaluation.utterances)
    speakers = len(set(evaluation.speakers)) if evaluation.speakers else 0
    yield f"model  {model}"
    if manifest:
        said_by = f", {speakers} speakers" if speakers else ""
        yield f"data   {manifest}"
        yield f"       {count} utterances{said_by}, {_duration(evaluation.audio_seconds)}"
    yield f"time   {_duration(evaluation.seconds)}, real-time factor {evaluation.real_time_factor:.4f}"
    yield ""
    yield f"{'':5}{'rate':>9}{'95 % interval':>19}{'errors':>8}{'sub':>7}{'ins':>7}{'del':>7}{'of':>9}"
    rows = {"wer": ("WER", evaluation.wer, "words"), "cer": ("CER", evaluation.cer, "chars")}
    for key in sorted(rows, key=lambda key: key != evaluation.headline):
        yield _row(*rows[key])
    if evaluation.wer.interval or evaluation.cer.interval:
        yield f"     intervals: bootstrap over {f'the {speakers} speakers' if speakers else 'utterances'}"
    if evaluation.calibration_error is not None:
        yield f"     confidences of words: calibration error {100 * evaluation.calibration_error:.2f} points"
    if evaluation.unreadable:
        yield f"     {len(evaluation.unreadable)} could not be read, and are not counted"


def paired_lines(test: PairedTest, model: str, other: str, evaluation: Evaluation) -> Iterator[str]:
    """The result of the paired test of two models."""
    name = evaluation.headline.upper()
    yield f"{name} of {model} - {name} of {other}:"
    yield (
        f"     {100 * test.difference:+.2f} points, 95 % interval {100 * test.low:+.2f} to {100 * test.high:+.2f}, "
        f"p = {test.p_value:.2g}"
    )


def error_lines(evaluation: Evaluation, count: int, *, width: int) -> Iterator[str]:
    """The utterances with most errors, reference above hypothesis, and the most frequent confusions."""
    for utterance in evaluation.worst(count):
        errors = utterance.words if evaluation.headline == "wer" else utterance.characters
        speaker = f", speaker {utterance.speaker}" if utterance.speaker else ""
        yield f"{utterance.id}{speaker}: {errors.errors} errors in {errors.reference_length}"
        yield from aligned_lines(evaluation.aligned(utterance), width=width)
        yield ""
    confusions = evaluation.confusions()
    if not confusions:
        yield "no errors"
        return
    yield "most frequent errors:"
    ranked = sorted(confusions.items(), key=lambda item: (-item[1], str(item[0])))
    for (reference, hypothesis), times in ranked[:NUM_CONFUSIONS]:
        if reference is None:
            error = f"{hypothesis} inserted"
        elif hypothesis is None:
            error = f"{reference} left out"
        else:
            error = f"{reference} -> {hypothesis}"
        yield f"{times:6}  {error}"


def aligned_lines(steps: Sequence[AlignedPair], *, width: int) -> Iterator[str]:
    """Reference over hypothesis in columns, with S, I or D below differences; wrapped to the width."""
    from tqdm.utils import disp_len

    rows: list[list[str]] = [[], [], []]
    used = 0
    for step in steps:
        mark = "" if step.operation == "match" else step.operation[0].upper()
        cells = ["*" if token is None else str(token) for token in (step.reference, step.hypothesis)] + [mark]
        column = max(map(disp_len, cells))
        if rows[0] and used + 1 + column > width - len("  REF "):
            yield from _labelled(rows)
            rows, used = [[], [], []], 0
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell + " " * (column - disp_len(cell)))
        used += column + 1
    yield from _labelled(rows)


def _labelled(rows: list[list[str]]) -> Iterator[str]:
    for label, row in zip(("REF", "HYP", "   "), rows, strict=True):
        yield f"  {label} {' '.join(row)}".rstrip()


def _tuned(args: argparse.Namespace, recognizer: Recognizer, utterances: list[Utterance]) -> Recognizer:
    """The recogniser with the weights that have the fewest errors on the utterances; reports them on stderr."""
    from asr.evaluation.tuning import tune_decoding, tuned_options

    with progress_bar(args, total=len(utterances), unit="utterance") as bar:
        options = tune_decoding(recognizer, utterances, progress=bar.update)
    values = to_json(options)
    say(f"tuned: {', '.join(f'{name} {values[name]:g}' for name in tuned_options(options))}", prog=PROG)
    if len(utterances) < FEW and not args.quiet:
        say(f"warning: {len(utterances)} utterances are few for tuning: on others the weights may be worse", prog=PROG)
    return recognizer.with_decoding(options)


def _evaluation(
    args: argparse.Namespace, recognizer: Recognizer, utterances: list[Utterance], *, text: TextOptions | None
) -> Evaluation:
    """The evaluation of one model, with a progress bar; reports unreadable utterances on stderr."""
    from asr.evaluation.error_rates import evaluate

    with progress_bar(args, total=len(utterances), unit="utterance") as bar:
        evaluation = evaluate(recognizer, utterances, text=text, progress=bar.update)
    for id_, reason in evaluation.unreadable:
        say(f"error: utterance {id_!r}: {reason}", prog=PROG)
    return evaluation


def _row(name: str, rate: ErrorRate, unit: str) -> str:
    counts = rate.counts
    interval = f"{100 * rate.interval[0]:.2f} to {100 * rate.interval[1]:.2f} %" if rate.interval else "-"
    return (
        f"{name:5}{100 * counts.rate:>7.2f} %{interval:>19}{counts.errors:>8}{counts.substitutions:>7}"
        f"{counts.insertions:>7}{counts.deletions:>7}{counts.reference_length:>9} {unit}"
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"


if __name__ == "__main__":
    sys.exit(main())
