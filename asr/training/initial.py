"""The acoustic model at the start of a training: new, or trained before, with its alphabet or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from asr.acoustic.config import ModelConfig, read_config
from asr.acoustic.model import AcousticModel
from asr.acoustic.pretrained import PretrainedFrontend, load_encoder
from asr.acoustic.shapes import Wav2Vec2Shape, WhisperShape
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.text.alphabet import Alphabet
from asr.training.config import TrainingConfig

PRETRAINED = "pretrained"  # in the provenance: the origin of the encoder
OUTPUT = ("encoder.output.weight", "encoder.output.bias")  # one row for each label, Φ first


def make_model(config: TrainingConfig, texts: Sequence[str]) -> AcousticModel:
    """A new model with the alphabet of the texts, or the model that the configuration starts from."""
    if config.init:
        return _started(config, texts)
    frontend, provenance, pretrained = config.frontend, {}, None
    if frontend.pretrained:
        pretrained, provenance[PRETRAINED] = load_encoder(frontend.pretrained, layer=frontend.pretrained_layer)
        shape = pretrained.shape
        frontend = replace(
            frontend,
            whisper=shape if isinstance(shape, WhisperShape) else None,
            wav2vec2=shape if isinstance(shape, Wav2Vec2Shape) else None,
        )
    model = AcousticModel(
        ModelConfig(
            characters=_characters(config, texts),
            text=config.text,
            frontend=frontend,
            encoder=config.encoder,
            name=config.name,
            description=config.description,
            provenance=provenance,
        )
    )
    if pretrained is not None and isinstance(model.frontend, PretrainedFrontend):
        model.frontend.encoder.load_state_dict(pretrained.state_dict())
    return model


def _characters(config: TrainingConfig, texts: Sequence[str]) -> tuple[str, ...]:
    """The characters of the texts without the unknown ones of the configuration."""
    left_out = set(config.data.unknown_characters)
    return Alphabet.from_texts("".join(set(text) - left_out) for text in texts).characters


def _started(config: TrainingConfig, texts: Sequence[str]) -> AcousticModel:
    """The model to start from. New characters get new weights, the others keep theirs."""
    model = AcousticModel.load(config.init)
    fixed_parts = ("frontend",) if config.init_alphabet == "replace" else ("text", "frontend")
    for part in fixed_parts:
        if _fixed(model.config, part) != _fixed(config, part):
            raise ConfigError(f"init: the {part} options of {config.init} must be those of this training")
    if replace(model.config.encoder, dropout=config.encoder.dropout) != config.encoder:
        raise ConfigError(f"init: the encoder of {config.init} must have the shape of this training's")
    before = characters = model.config.characters
    if config.init_alphabet != "keep":
        characters = _characters(config, texts)
        if config.init_alphabet == "extend":
            characters = (*before, *(character for character in characters if character not in before))
    # Decoding options of another alphabet are dropped: language models may not know the new characters.
    fresh = AcousticModel(
        replace(
            model.config,
            characters=characters,
            text=config.text,
            encoder=config.encoder,
            decoding=model.config.decoding if characters == before else DecodingOptions(),
            name=config.name,
            description=config.description,
            provenance={name: value for name, value in model.config.provenance.items() if name == PRETRAINED},
        )
    )
    weights = model.state_dict()
    common = [character for character in characters if character in before]
    rows_after = [0, *(fresh.alphabet.encode(character)[0] for character in common)]  # Φ is 0 in both
    rows_before = [0, *(model.alphabet.encode(character)[0] for character in common)]
    for name in OUTPUT:
        rows = fresh.state_dict()[name].clone()
        rows[rows_after] = weights[name][rows_before]
        weights[name] = rows
    fresh.load_state_dict(weights)
    return fresh


def _fixed(config: ModelConfig | TrainingConfig, part: str) -> Any:
    """Options that the initial model decides; numbers may be spelled from now on, in letters that it has."""
    options = getattr(config, part)
    return replace(options, numbers="keep") if part == "text" else options


def lost_with_the_alphabet(config: TrainingConfig, model: AcousticModel) -> str:
    """A sentence on what a model lost because its alphabet is not that of the initial model; empty if it is."""
    before = read_config(config.init)
    changed = sorted(set(before.characters) ^ set(model.config.characters))
    if before.characters == model.config.characters or before.decoding == DecodingOptions():
        return ""
    return (
        f"the alphabet differs from that of {config.init} by {', '.join(map(repr, changed))}: its language models and "
        "options of decoding are left out, and the new model decodes greedily"
    )


def freeze(model: AcousticModel, num_layers: int) -> None:
    """Freeze the first recurrent layers, and the layers below them; 0: none."""
    parts = [model.encoder.reduction, *model.encoder.layers[:num_layers]] if num_layers else []
    for parameter in torch.nn.ModuleList(parts).parameters():
        parameter.requires_grad_(False)
