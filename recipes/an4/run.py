"""AN4, from the corpus as CMU publishes it to a trained model and its error rates on the official test set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from asr.acoustic_model import AcousticModel, read_config, write_config
from asr.augment import AugmentOptions
from asr.cli.arguments import Parser, at_least, show_progress
from asr.cli.command import INTERRUPTED, noter, run_command, say, write_result
from asr.cli.evaluate import table
from asr.cli.train import add_processes, set_threads
from asr.data.manifest import read_manifest
from asr.decoding import DecodingOptions
from asr.encoder import EncoderOptions
from asr.evaluation import ErrorRate, Evaluation, evaluate
from asr.files import write_whole
from asr.lm.rnn import LanguageModel, NetworkOptions
from asr.lm.vocabulary import VocabularyOptions
from asr.recognizer import load
from asr.training.config import (
    AuxiliaryOptions,
    DataOptions,
    LanguageLoopOptions,
    LanguageTrainingConfig,
    LoopOptions,
    TextDataOptions,
    TrainingConfig,
)
from asr.training.language import train_language_model
from asr.training.loop import Interrupted
from asr.training.run import train_acoustic_model
from asr.tuning import store_decoding, tune_decoding
from data_prep import an4

PROG = "recipes/an4/run.py"
DESCRIPTION = "US English names, numbers, dates and spelled letters, as in AN4; not general English"
EXAMPLES = """\
Ctrl-C, or any kill, loses nothing but the last minutes: the same command goes
on. The corpus goes to OUTPUT/data, the runs to OUTPUT/seed-N, the model, in half
precision, with its language model and its error rates, to OUTPUT/seed-N/an4.

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


def language_configuration(texts: dict[str, Path], *, seed: int) -> LanguageTrainingConfig:
    """A language model of characters, which can spell names that it has never seen."""
    return LanguageTrainingConfig(
        data=TextDataOptions(train=(str(texts["train"]),), dev=(str(texts["dev"]),), batch_size=16, chunk_length=40),
        vocabulary=VocabularyOptions(unit="character"),
        network=NetworkOptions(hidden_size=256, embedding_size=64, dropout=0.4),
        loop=LanguageLoopOptions(epochs=60, seed=seed, early_stop_epochs=12),
        name="an4-lm",
        description="what is said in AN4, letter by letter",
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

    note = noter(args, prog=PROG)
    set_threads(args)
    folder = args.output / f"seed-{args.seed}"
    progress = show_progress(args)
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
    texts = write_texts(manifests, args.output / "data")
    try:
        train_language_model(
            language_configuration(texts, seed=args.seed),
            folder / "lm",
            device=args.device,
            note=note,
            progress=progress,
        )
    except Interrupted as interrupted:
        say(interrupted, prog=PROG)
        return INTERRUPTED
    package(folder)
    utterances = {split: read_manifest(manifests[split]) for split in ("dev", "test")}
    recognizer = load(folder / "an4", device=args.device, decoding={"rescore_lm": str(folder / "an4" / "lm")})
    options = tune_decoding(recognizer, utterances["dev"])
    ways = {"": recognizer.with_decoding(options), ", greedy": recognizer.with_decoding(DecodingOptions())}
    evaluations = {
        f"AN4 {split}{way}": evaluate(heard_by, utterances[split])
        for way, heard_by in ways.items()
        for split in ("dev", "test")
    }
    rate = evaluations["AN4 dev"].wer.counts.rate
    store_decoding(folder / "an4", options, tuned_on=manifests["dev"].name, word_error_rate=rate)
    store_provenance(folder / "an4", evaluations)
    for name, evaluation in evaluations.items():
        write_result("\n".join([*table(evaluation, model=str(folder / "an4"), manifest=name), "", ""]))
    return 0


def write_texts(manifests: dict[str, Path], folder: Path) -> dict[str, Path]:
    """What is said in train and dev, a sentence a line, for the language model."""
    paths = {split: folder / f"{split}.txt" for split in ("train", "dev")}
    for split, path in paths.items():
        write_whole(path, "".join(f"{utterance.text}\n" for utterance in read_manifest(manifests[split])))
    return paths


def package(folder: Path) -> None:
    """The model folder `an4`, with its language model, both in half precision."""
    AcousticModel.load(folder / "model").save(folder / "an4", half=True)
    LanguageModel.load(folder / "lm" / "model").save(folder / "an4" / "lm", half=True)


def store_provenance(folder: Path, evaluations: dict[str, Evaluation]) -> None:
    """Writes what the model folder says of its data and its error rates."""

    def values(measured: ErrorRate) -> dict[str, object]:
        interval = [round(bound, 5) for bound in measured.interval or ()]
        return {"rate": round(measured.counts.rate, 5), "interval": interval, **asdict(measured.counts)}

    config = read_config(folder)
    trained = {name: value for name, value in config.provenance.items() if name != "dev"}  # said in more detail
    said = {
        "corpus": "CMU AN4 (Census), train without seven speakers, http://www.speech.cs.cmu.edu/databases/an4/",
        "licence": "CMU's BSD-style terms, free for any purpose",
        "results": {
            name: {"wer": values(evaluation.wer), "cer": values(evaluation.cer)}
            for name, evaluation in evaluations.items()
        },
    }
    write_config(folder, replace(config, provenance={**trained, **said}))


if __name__ == "__main__":
    sys.exit(main())
