"""FSDD: English digits by six men, with the makers' test set or with one speaker held out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.cli.arguments import Parser
from asr.corpora import fsdd
from asr.decoding.options import DecodingOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from recipes.stages import Note, Recipe, word_list


def add_flags(parser: Parser) -> None:
    """--held-out."""
    parser.add_argument(
        "--held-out",
        choices=("", *fsdd.SPEAKERS),
        default="",
        metavar="SPEAKER",
        help=f"test on this speaker, train on the others: {', '.join(fsdd.SPEAKERS)}; give a separate --output",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train, dev and test."""
    options = fsdd.Options(held_out=args.held_out)
    return fsdd.prepare(source=args.source, output=folder, progress=progress, options=options)


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: frames of 20 ms, because "three" may last 0.2 s."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),), dev=(str(manifests["dev"]),), batch_seconds=16.0, max_seconds=5.0
        ),
        frontend=FrontendOptions(sample_rate=8000, num_mel_bins=40, normalization="global"),
        augment=AugmentOptions(
            gain_db=(-10.0, 10.0),
            pause_seconds=0.2,
            time_masks=1,
            time_mask_max_frames=5,
            frequency_masks=1,
            frequency_mask_max_bins=6,
        ),
        encoder=EncoderOptions(num_layers=3, hidden_size=96, conv_channels=16, pool_after_layer=0, dropout=0.2),
        loop=LoopOptions(epochs=args.epochs, seed=args.seed, learning_rate=3e-3, warmup_epochs=1.0),
        name="fsdd",
        description="single English digits, trimmed close to the speech",
    )


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """A beam restricted to the ten words."""
    return word_list(model, fsdd.WORDS)


RECIPE = Recipe(
    name="fsdd",
    about="Train a model of the ten digits, and measure it on the makers' test set or on a new speaker.",
    examples="""\
  python -m recipes.fsdd.run
  python -m recipes.fsdd.run --held-out theo --output runs/fsdd-theo""",
    corpus="Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset",
    licence="CC BY-SA 4.0",
    epochs=40,
    prepare=prepare,
    configure=configure,
    decoding=decoding,
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
