"""AN4, from the corpus as CMU publishes it to a trained model and its error rates on the official test set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from asr.acoustic_model import AcousticModel
from asr.augment import AugmentOptions
from asr.cli.arguments import Parser, at_least
from asr.cli.command import INTERRUPTED, run_command, say, write_result
from asr.cli.evaluate import table
from asr.cli.train import add_processes, set_threads
from asr.data.manifest import read_manifest
from asr.decoding import DecodingOptions
from asr.encoder import EncoderOptions
from asr.evaluation import ErrorRate, Evaluation, evaluate
from asr.recognizer import load
from asr.training.config import AuxiliaryOptions, DataOptions, LoopOptions, TrainingConfig
from asr.training.loop import Interrupted
from asr.training.run import train_acoustic_model
from data_prep import an4

PROG = "recipes/an4/run.py"
DECODING = DecodingOptions(confidence_temperature=1.5)  # fitted on dev, for a beam of 16
DESCRIPTION = "US English names, numbers, dates and spelled letters, as in AN4; not general English"
EXAMPLES = """\
Ctrl-C, or any kill, loses nothing but the last minutes: the same command goes
on. The corpus goes to OUTPUT/data, the run to OUTPUT/seed-N, the model, in half
precision and with its error rates, to OUTPUT/seed-N/an4.

examples:
  python recipes/an4/run.py
  python recipes/an4/run.py --source ~/corpora/an4 --output runs/an4 --seed 1
"""


def configuration(manifests: dict[str, Path], *, seed: int, epochs: int) -> TrainingConfig:
    """The choices of this recipe, made on dev; README.md beside this file says what each gave."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),),
            dev=(str(manifests["dev"]),),
            batch_seconds=72.0,
            max_seconds=12.0,
            join_probability=0.25,
        ),
        augment=AugmentOptions(
            speeds=(0.85, 0.925, 1.0, 1.075, 1.15),
            pause_seconds=1.0,
            background_probability=0.03,
            time_mask_max_frames=40,
            frequency_mask_max_bins=27,
        ),
        encoder=EncoderOptions(num_layers=4, hidden_size=256, dropout=0.35),
        auxiliary=AuxiliaryOptions(lexicon=str(manifests["lexicon"]), layer=2, weight=0.5),
        loop=LoopOptions(epochs=epochs, seed=seed),
        name="an4",
        description=DESCRIPTION,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the recipe with these arguments, those of the process if None."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python recipes/an4/run.py [--source PATH] [--output DIR] [--seed N] [OPTION...]",
        description="Train a model on AN4 and measure it on the official test set.",
        examples=EXAMPLES,
    )
    parser.add_argument("--source", type=Path, metavar="PATH", help="the corpus or its archive (default: download it)")
    parser.add_argument("--output", type=Path, default=Path("runs/an4"), metavar="DIR", help="default: runs/an4")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of everything random (default: 0)")
    parser.add_argument("--epochs", type=at_least(1), default=150, metavar="N", help="default: 150")
    add_processes(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """The stages, one after the other; each finds what an earlier call has done."""

    def note(sentence: str) -> None:
        if not args.quiet:
            say(sentence, prog=PROG)

    set_threads(args)
    folder = args.output / f"seed-{args.seed}"
    progress = False if args.quiet and args.progress is None else args.progress
    manifests = an4.prepare(source=args.source, output=args.output / "data", progress=progress)
    try:
        train_acoustic_model(
            configuration(manifests, seed=args.seed, epochs=args.epochs),
            folder,
            device=args.device,
            note=note,
            progress=progress,
            processes=args.nproc,
        )
    except Interrupted as interrupted:
        say(interrupted, prog=PROG)
        return INTERRUPTED
    model = AcousticModel.load(folder / "model")
    model.save(folder / "an4", half=True)
    evaluations = {
        split: evaluate(load(folder / "an4", device=args.device), read_manifest(manifests[split]))
        for split in ("dev", "test")
    }
    trained = {name: value for name, value in model.config.provenance.items() if name != "dev"}  # said in more detail
    model.config = replace(model.config, provenance={**trained, **provenance(evaluations)}, decoding=DECODING)
    model.save(folder / "an4", half=True)
    for split, evaluation in evaluations.items():
        write_result("\n".join([*table(evaluation, model=str(folder / "an4"), manifest=str(manifests[split])), "", ""]))
    return 0


def provenance(evaluations: dict[str, Evaluation]) -> dict[str, object]:
    """What the model folder says of its data and its error rates."""

    def values(measured: ErrorRate) -> dict[str, object]:
        interval = [round(bound, 5) for bound in measured.interval or ()]
        return {"rate": round(measured.counts.rate, 5), "interval": interval, **asdict(measured.counts)}

    return {
        "corpus": "CMU AN4 (Census), train without seven speakers, http://www.speech.cs.cmu.edu/databases/an4/",
        "licence": "CMU's BSD-style terms, free for any purpose",
        "results": {
            f"AN4 {split}": {"wer": values(evaluation.wer), "cer": values(evaluation.cer)}
            for split, evaluation in evaluations.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
