"""The acoustic model that a training begins with: a new one, or one that has learnt, with its alphabet or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from asr.acoustic.model import AcousticModel, ModelConfig
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.text.alphabet import Alphabet
from asr.training.config import TrainingConfig

OUTPUT = ("encoder.output.weight", "encoder.output.bias")  # a row for each label, Φ first


def make_model(config: TrainingConfig, texts: Sequence[str]) -> AcousticModel:
    """A new model with the alphabet of the texts, or the one that the configuration starts from.

    Args:
        config: of the training.
        texts: normalised, of the training set.
    Raises:
        ConfigError: the model to start from does not fit the configuration.
        DataError: it cannot be loaded.
    """
    if config.init:
        return _started(config, texts)
    return AcousticModel(
        ModelConfig(
            characters=_characters(config, texts),
            text=config.text,
            frontend=config.frontend,
            encoder=config.encoder,
            name=config.name,
            description=config.description,
        )
    )


def _characters(config: TrainingConfig, texts: Sequence[str]) -> tuple[str, ...]:
    """Those of the texts, but for what is to be left out."""
    left_out = set(config.data.unknown_characters)
    return Alphabet.from_texts("".join(set(text) - left_out) for text in texts).characters


def _started(config: TrainingConfig, texts: Sequence[str]) -> AcousticModel:
    """The model to start from; what is new in its alphabet has new weights, what stays keeps its own.

    With the alphabet it keeps its way of decoding, too: language models may not know what is new.
    """
    model = AcousticModel.load(config.init)
    kept = ("frontend",) if config.init_alphabet == "replace" else ("text", "frontend")
    for part in kept:
        if getattr(model.config, part) != getattr(config, part):
            raise ConfigError(f"init: the {part} options of {config.init} must be those of this training")
    if replace(model.config.encoder, dropout=config.encoder.dropout) != config.encoder:
        raise ConfigError(f"init: the encoder of {config.init} must have the shape of this training's")
    before = characters = model.config.characters
    if config.init_alphabet != "keep":
        found = _characters(config, texts)
        characters = found
        if config.init_alphabet == "extend":
            characters = (*before, *(character for character in found if character not in before))
    fresh = AcousticModel(
        replace(
            model.config,
            characters=characters,
            text=config.text,
            encoder=config.encoder,
            decoding=model.config.decoding if characters == before else DecodingOptions(),
            name=config.name,
            description=config.description,
            provenance={},
        )
    )
    weights = model.state_dict()
    stays = [(fresh.alphabet.encode(each)[0], model.alphabet.encode(each)[0]) for each in characters if each in before]
    here, there = map(list, zip((0, 0), *stays, strict=True))  # Φ stays, too
    for name in OUTPUT:
        rows = fresh.state_dict()[name].clone()
        rows[here] = weights[name][there]
        weights[name] = rows
    fresh.load_state_dict(weights)
    return fresh


def freeze(model: AcousticModel, num_layers: int) -> None:
    """Keeps the first recurrent layers, and what lies below them, as they are; 0: nothing."""
    parts = [model.encoder.reduction, *model.encoder.layers[:num_layers]] if num_layers else []
    for parameter in torch.nn.ModuleList(parts).parameters():
        parameter.requires_grad_(False)
