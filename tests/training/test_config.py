"""The configuration of a training: what contradicts itself is refused, and what is saved is read back."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.errors import ConfigError
from asr.options import from_json, to_json
from asr.text.normalization import TextOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import AuxiliaryOptions, DataOptions, LoopOptions, TrainingConfig, TuningOptions

DATA = DataOptions(train=("train.jsonl",), dev=("dev.jsonl",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"patience_steps": 0}, "patience_steps must be at least 1, not 0"),
        ({"average_best": 0}, "average_best must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0, not -1.0"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes must be above 0, not 0.0"),
        ({"warmup_epochs": -0.5}, "warmup_epochs must be at least 0, not -0.5"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0, not nan"),
        ({"final_learning_rate": 1.5}, "final_learning_rate must be between 0 and 1, not 1.5"),
        ({"final_learning_rate": -0.1}, "final_learning_rate must be between 0 and 1, not -0.1"),
        ({"precision": "float64"}, "precision must be one of auto, float32, bfloat16, float16, not 'float64'"),
    ],
)
def test_wrong_options_of_the_loop_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        LoopOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ()}, r"train must be a tuple of at least one manifest, not \(\)"),
        ({"dev": ()}, r"dev must be a tuple of at least one manifest, not \(\)"),
        ({"train": "train.jsonl"}, "train must be a tuple of at least one manifest, not 'train.jsonl'"),
        ({"join_probability": 1.0}, "join_probability must be at least 0 and below 1, not 1.0"),
        ({"join_probability": -0.1}, "join_probability must be at least 0 and below 1, not -0.1"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0, not 0.0"),
        ({"max_seconds": 61.0}, r"max_seconds must be at most batch_seconds \(60.0\), not 61.0"),
        ({"batch_seconds": math.nan}, r"max_seconds must be at most batch_seconds \(nan\), not 30.0"),
    ],
)
def test_wrong_options_of_the_data_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        DataOptions(**{"train": ("a",), "dev": ("b",), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 1.0}, "weight must be at least 0 and below 1, not 1.0"),
        ({"weight": -0.1}, "weight must be at least 0 and below 1, not -0.1"),
        ({"layer": 0}, "layer must be at least 1, not 0"),
        ({"character_weight": 1.0}, "character_weight must be at least 0 and below 1, not 1.0"),
    ],
)
def test_wrong_options_of_the_second_target_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        AuxiliaryOptions(**changes)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"auxiliary": AuxiliaryOptions(lexicon="words", layer=5)},
            "auxiliary.layer must be one of the encoder's 4 layers, not 5",
        ),
        (
            {"auxiliary": AuxiliaryOptions(character_layer=4)},
            "auxiliary.character_layer must be less than the encoder's 4 layers, not 4",
        ),
        (
            {"augment": AugmentOptions(noise_probability=0.5)},
            "augment.noise_probability needs a folder of sounds in data.noise, but there is none",
        ),
        (
            {"augment": AugmentOptions(reverb_probability=0.5)},
            "augment.reverb_probability needs a folder of sounds in data.impulse_responses, but there is none",
        ),
        ({"ctc_backend": "warp"}, "ctc_backend must be one of auto, native, cudnn, not 'warp'"),
        (
            {"ctc_backend": "native", "deterministic": True},
            "deterministic needs ctc_backend auto or cudnn: the native kernel of CUDA is not",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        TrainingConfig(data=DATA, **parts)


def test_what_is_not_used_cannot_contradict() -> None:
    """The default layer of the second target stands where there is no lexicon, however few layers there are."""
    TrainingConfig(data=DATA, encoder=EncoderOptions(num_layers=1))
    TrainingConfig(data=DATA, auxiliary=AuxiliaryOptions(lexicon="words", layer=4))


EVERYTHING = TrainingConfig(
    data=DataOptions(
        train=("a", "b"),
        dev=("c",),
        batch_seconds=90.0,
        join_probability=0.5,
        max_seconds=12.0,
        unknown_characters="~",
        noise="noises",
        impulse_responses="rooms",
    ),
    text=TextOptions(language="zh", case="keep", punctuation="keep"),
    frontend=FrontendOptions(
        pretrained="encoder", pretrained_layer=2, pretrained_sum=True, kind="mfcc", num_mel_bins=23
    ),
    augment=AugmentOptions(speeds=(0.5, 2.0), noise_probability=0.1, reverb_probability=0.2),
    encoder=EncoderOptions(cell="gru", time_strides=(3,), reduction="stack"),
    auxiliary=AuxiliaryOptions(lexicon="words", layer=1, weight=0.25, character_layer=1),
    tuning=TuningOptions(layers=2, learning_rate=1e-5, after_epochs=1),
    loop=LoopOptions(epochs=3, seed=4, learning_rate=1.0, clip_norm=math.inf, precision="bfloat16"),
    init="model",
    name="n",
    description="d",
)


@pytest.mark.parametrize("config", [TrainingConfig(data=DATA), EVERYTHING])
def test_a_configuration_comes_back_from_json(config: TrainingConfig) -> None:
    assert from_json(TrainingConfig, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        ("loop", {"epoch": 3}, "loop: unknown option 'epoch'; known are average_best, checkpoint_minutes, "),
        ("loop", {"epochs": 0}, "loop.epochs must be at least 1, not 0"),
        ("encoder", {"cell": "transformer"}, "encoder.cell must be one of rnn-tanh, .*, not 'transformer'"),
        ("augment", {"noise_snr_db": [5]}, r"augment.noise_snr_db must hold 2 values, not \[5\]"),
        ("data", {"train": ["a"]}, "data: option 'dev' is missing"),
        ("data", {"train": "a", "dev": ["b"]}, "data.train must be a list, not 'a'"),
        ("decoder", {}, "unknown option 'decoder'; known are augment, auxiliary, ctc_backend, data, "),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place(group: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^run/config.json: {message}"):
        from_json(TrainingConfig, {**to_json(TrainingConfig(data=DATA)), group: values}, where="run/config.json")


def test_every_option_has_its_help() -> None:
    parts = [EVERYTHING, *(getattr(EVERYTHING, entry.name) for entry in fields(EVERYTHING))]
    options = [
        (entry.name, entry.metadata.get("help", ""))
        for part in parts
        if is_dataclass(part)
        for entry in fields(part)
        if not is_dataclass(getattr(part, entry.name))
    ]
    assert len(options) > 60
    # The trainer sets these, from frontend.pretrained.
    assert [name for name, text in options if not text] == ["whisper", "wav2vec2"]
