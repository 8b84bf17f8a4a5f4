"""Shared by the recipes that train on the features of a pretrained encoder: their flags, and the training.

    first layers ─▶ cache ─▶ last two layers, after an epoch ─▶ recurrent layers
    with --tune-all:         all layers ─▶ recurrent layers

What stands before the cache is frozen; each utterance goes through it once.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.acoustic.whisper import read_shape
from asr.cli.arguments import Parser
from asr.errors import ConfigError
from asr.training.config import AuxiliaryOptions, TrainingConfig, TuningOptions

TUNED_LAYERS = 2  # last layers of the encoder that are trained
FROZEN_EPOCHS = 1  # before that, while the recurrent layers learn to spell

# Two frames of 20 ms side by side, then recurrent layers.
ENCODER = EncoderOptions(
    reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=3, hidden_size=256, dropout=0.1
)


def add_pretrained(parser: Parser, *, required: bool = False) -> None:
    """--pretrained and --tune-all."""
    add = parser.add_argument
    add(
        "--pretrained",
        type=_folder,
        required=required,
        metavar="FOLDER|none",
        help="train on the features of this Whisper encoder, a folder in the layout of Hugging Face; "
        "none: train from nothing, on log-mel energies" + ("" if required else " (default)"),
    )
    add(
        "--tune-all",
        action="store_true",
        help="train all layers of the encoder from the start, without a cache of features: for a GPU",
    )


def _folder(text: str) -> Path | None:
    return None if text == "none" else Path(os.path.abspath(text))


def has_encoder(args: argparse.Namespace) -> bool:
    """Whether --pretrained names an encoder.

    Raises:
        ConfigError: it does not, but the encoder's layers are to be trained.
    """
    if args.tune_all and args.pretrained is None:
        raise ConfigError("--tune-all needs the folder of an encoder: --pretrained FOLDER")
    return args.pretrained is not None


def on_encoder(config: TrainingConfig, args: argparse.Namespace) -> TrainingConfig:
    """The configuration of a training on the encoder of --pretrained, from that of its data and loop."""
    config = replace(
        config,
        frontend=FrontendOptions(pretrained=str(args.pretrained)),
        encoder=ENCODER,
        auxiliary=AuxiliaryOptions(character_layer=ENCODER.num_layers - 1),
    )
    if args.tune_all:
        return replace(config, tuning=TuningOptions(layers=read_shape(args.pretrained).encoder_layers))
    cache = os.path.abspath(args.output / "features")
    return replace(
        config,
        data=replace(config.data, feature_cache=cache, feature_variants=1),
        tuning=TuningOptions(layers=TUNED_LAYERS, learning_rate=2e-4, after_epochs=FROZEN_EPOCHS),
    )
