"""AISHELL-1: Mandarin in characters; the whole corpus, or its sample of two speakers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from asr.acoustic.options import EncoderOptions
from asr.cli.arguments import Parser, at_least
from asr.corpora import aishell
from asr.text.normalization import TextOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from recipes import pretrained
from recipes.stages import Note, Recipe, some_utterances


def add_flags(parser: Parser) -> None:
    """--held-out, --overfit, --pretrained and its companions."""
    pretrained.add_pretrained(parser)
    parser.add_argument(
        "--held-out", default="", metavar="SPEAKER", help="test on this speaker of the sample only; S0150 or S0252"
    )
    parser.add_argument(
        "--overfit",
        type=at_least(1),
        metavar="N",
        help="train and measure on the same N utterances, to test learning; give a separate --output",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train, dev and test."""
    options = aishell.Options(held_out=args.held_out)
    manifests = aishell.prepare(source=args.source, output=folder, progress=progress, options=options)
    if args.overfit:
        few = some_utterances(manifests["train"], folder / f"first-{args.overfit}.jsonl.gz", count=args.overfit)
        return {"train": few, "dev": few}
    return manifests


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: smaller for the sample, on an encoder if given, no regularisation for --overfit."""
    small = args.source is not None and (args.source / "manifest.tsv").is_file()
    config = TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),),
            dev=(str(manifests["dev"]),),
            batch_seconds=32.0 if args.overfit else 72.0 if small else 240.0,
            max_seconds=15.0,
        ),
        text=TextOptions(language="zh"),
        augment=AugmentOptions(speeds=(1.0,), time_masks=0, frequency_masks=0)
        if args.overfit
        else AugmentOptions(time_mask_max_frames=40, frequency_mask_max_bins=27),
        encoder=EncoderOptions(
            num_layers=3 if small else 5,
            hidden_size=256 if small else 512,
            dropout=0.0 if args.overfit else 0.35 if small else 0.2,
        ),
        loop=LoopOptions(epochs=args.epochs, seed=args.seed, average_best=1 if args.overfit else 5),
        name="aishell",
        description="Mandarin read aloud, in simplified characters",
    )
    return pretrained.on_encoder(config, args) if pretrained.has_encoder(args) else config


RECIPE = Recipe(
    name="aishell",
    about="Train a model of Mandarin characters, and measure it.",
    examples="""\
  python -m recipes.aishell.run --nproc 2
  python -m recipes.aishell.run --source aishell_sample --held-out S0252
  python -m recipes.aishell.run --source aishell_sample --overfit 50 \\
      --epochs 100 --output runs/aishell-overfit
  python -m recipes.aishell.run --source aishell_sample --epochs 12 \\
      --pretrained encoders/whisper-base --output runs/aishell-encoder""",
    corpus="AISHELL-1, Beijing Shell Shell Technology, https://www.openslr.org/33/",
    licence="Apache License 2.0",
    epochs=60,
    prepare=prepare,
    configure=configure,
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())
