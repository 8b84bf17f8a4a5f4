"""Your own recordings: import them, fine-tune an existing model, and measure error rates before and after."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from asr.acoustic.model import find_model, read_config
from asr.cli.arguments import Parser, add_options, given_options
from asr.errors import ConfigError
from asr.importing.sources import SourceOptions
from asr.importing.utterances import SPLITS, SplitOptions, import_recordings
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from recipes.stages import Note, Recipe


def add_flags(parser: Parser) -> None:
    """--init, and how to read the recordings."""
    add_options(parser, SourceOptions, title="reading")
    parser.add_argument(
        "--init",
        metavar="NAME|DIR",
        help="start from this embedded model or model folder (default: the default model)",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> Mapping[str, Path]:
    """Manifests of train, dev and test, split by speaker, by recording or by utterance.

    The first of these that fills all three splits is used: there may be one speaker, or one long recording.
    """
    if args.source is None:
        raise ConfigError("the recordings must be given: --source PATH, a folder or a table as for asr-data import")
    shares = SplitOptions(dev=0.15, test=0.15)
    for splitting in (shares, replace(shares, split_by="recording"), replace(shares, split_by="utterance")):
        reading = given_options(args, SourceOptions)
        result = import_recordings([args.source], folder, reading=reading, splitting=splitting)
        if len(result.manifests) == len(SPLITS):
            break
    for sentence in (*result.problems, *result.notes):
        note(sentence)
    for split in ("train", "dev"):
        if split not in result.manifests:
            raise ConfigError(f"there must be utterances for {split}, but there are none: add recordings")
    return result.manifests


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: the model's own, with a tenth of the usual learning rate."""
    start = find_model(args.init)
    model = read_config(start)
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),), dev=(str(manifests["dev"]),), batch_seconds=60.0, max_seconds=30.0
        ),
        text=model.text,
        frontend=model.frontend,
        augment=AugmentOptions(time_mask_max_frames=30, frequency_mask_max_bins=15),
        encoder=model.encoder,
        loop=LoopOptions(epochs=args.epochs, seed=args.seed, learning_rate=3e-4, warmup_epochs=1.0),
        init=str(start),
        init_alphabet="extend",
        name="own_data",
        description=f"fine-tuned from {model.name or start.name}",
    )


RECIPE = Recipe(
    name="own_data",
    about="Fine-tune a model on your own recordings, and measure it before and after.",
    examples="""\
  python -m recipes.own_data.run --source recordings/
  python -m recipes.own_data.run --source texts.csv --init runs/english/seed-0/english""",
    corpus="own recordings",
    licence="not published",
    epochs=20,
    prepare=prepare,
    configure=configure,
    source="folder or table of recordings, as for asr-data import",
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
