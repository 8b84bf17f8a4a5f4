"""One's own recordings: imported, and a model that is there fine-tuned on them; error rates before and after."""

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
    """--init, and how the recordings are read."""
    add_options(parser, SourceOptions, title="reading")
    parser.add_argument(
        "--init",
        metavar="NAME|DIR",
        help="the model to start from: an embedded one, or a folder (default: the default)",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> Mapping[str, Path]:
    """Manifests of train, dev and test; what is in one of them only are speakers, or else recordings, or utterances.

    Each of these has to give all three: a long recording is one, and so may a speaker be.
    """
    if args.source is None:
        raise ConfigError(
            "the recordings must be given: --source PATH, a folder or a table as asr-data import takes it"
        )
    shares = SplitOptions(dev=0.15, test=0.15)
    for splitting in (shares, replace(shares, split_by="recording"), replace(shares, split_by="utterance")):
        made = import_recordings([args.source], folder, reading=given_options(args, SourceOptions), splitting=splitting)
        if len(made.manifests) == len(SPLITS):
            break
    for sentence in (*made.problems, *made.notes):
        note(sentence)
    for split in ("train", "dev"):
        if split not in made.manifests:
            raise ConfigError(f"there must be utterances for {split}, but there are none: it takes a few more")
    return made.manifests


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: the model's own, a tenth of the usual rate, and noises between the words."""
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
    about="Fine-tune a model on one's own recordings, and measure it before and after.",
    examples="""\
  python -m recipes.own_data.run --source recordings/
  python -m recipes.own_data.run --source texts.csv --init runs/english/seed-0/english""",
    corpus="own recordings",
    licence="not published",
    epochs=20,
    prepare=prepare,
    configure=configure,
    source="folder or table of recordings, as asr-data import takes it",
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
