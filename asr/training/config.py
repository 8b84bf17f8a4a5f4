"""What a training is told: the options of the loop, and the whole configuration of each kind of model's training."""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any, Literal

from asr.acoustic.encoder import EncoderOptions
from asr.acoustic.frontend import FrontendOptions
from asr.compute.device import Precision, check_precision
from asr.ctc.loss import Backend
from asr.errors import ConfigError
from asr.lm.rnn import NetworkOptions
from asr.lm.vocabulary import Unit, VocabularyOptions
from asr.options import check_options, option
from asr.text.normalization import TextOptions
from asr.training.augmentation import AugmentOptions


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How any model is trained: epochs, optimiser, schedule, checkpoints."""

    epochs: int = option(80, "passes over the training data")
    seed: int = option(0, "decides initial weights, batches, augmentation and dropout")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "AdamW, or plain gradient descent with Nesterov's momentum")
    learning_rate: float = option(2e-3, "peak learning rate")
    warmup_epochs: float = option(2.0, "epochs of linear warm-up from zero")
    schedule: Literal["cosine", "plateau"] = option(
        "cosine", "half a cosine, or half the rate after each epoch that is not the best"
    )
    final_learning_rate: float = option(0.01, "share of the peak rate that the decay ends at")
    weight_decay: float = option(0.01, "weight decay, for matrices only")
    clip_norm: float = option(5.0, "gradients are scaled down to this norm")
    patience_steps: int = option(20, "stop after so many steps in a row with a loss or gradient that is not finite")
    early_stop_epochs: int = option(0, "stop after so many epochs in a row without a better one; 0: never")
    average_best: int = option(5, "average the weights of so many of the best epochs")
    checkpoint_minutes: float = option(5.0, "minutes between checkpoints inside an epoch")
    precision: Precision = option(
        "auto", "format of the matrix products; auto: bfloat16 where it is faster; float16: GPUs only"
    )

    def __post_init__(self) -> None:
        check_options(self)
        check_precision(self.precision)
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, not {self.seed}")
        for name in ("epochs", "patience_steps", "average_best"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("warmup_epochs", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.early_stop_epochs < 0:
            raise ConfigError(f"early_stop_epochs must be 0 (never) or more, not {self.early_stop_epochs}")
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs must be less than the {self.epochs} epochs, not {self.warmup_epochs}")
        if not 0.0 <= self.final_learning_rate <= 1.0:
            raise ConfigError(f"final_learning_rate must be a share in 0..1, not {self.final_learning_rate}")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the utterances are and how they are batched."""

    train: tuple[str, ...] = option(
        help="training manifests (Lhotse CutSets), or folders of shards (Lhotse Shar), which can be URLs"
    )
    dev: tuple[str, ...] = option(help="the same, that choices are made on")
    batch_seconds: float = option(60.0, "seconds of sound in a batch, padding counted")
    join_probability: float = option(
        0.0, "chance that an utterance is followed by another in one recording; drawn each epoch"
    )
    max_seconds: float = option(30.0, "longer training utterances are left out, and counted")
    shards_together: int = option(4, "shards whose utterances are mixed; so many more are read ahead, into memory")
    unknown_characters: str = option("", "characters to leave out of transcripts, and count, instead of an error")
    noise: str = option("", "folder of background noises for augmentation")
    impulse_responses: str = option("", "folder of room impulse responses for augmentation")

    def __post_init__(self) -> None:
        for name in ("train", "dev"):
            if not getattr(self, name) or isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be a tuple of at least one manifest, not {getattr(self, name)!r}")
        if self.shards_together < 1:
            raise ConfigError(f"shards_together must be at least 1, not {self.shards_together}")
        if not 0.0 <= self.join_probability < 1.0:
            raise ConfigError(f"join_probability must be in [0, 1), not {self.join_probability}")
        if not 0 < self.max_seconds <= self.batch_seconds:
            raise ConfigError(
                f"max_seconds must be positive and at most batch_seconds ({self.batch_seconds}), not {self.max_seconds}"
            )


@dataclass(frozen=True, kw_only=True)
class AuxiliaryOptions:
    """A second CTC target, phones from a lexicon, on a middle layer; only in training, gone from the model folder."""

    lexicon: str = option("", "pronunciations, `WORD PH PH ...` a line; empty: no second target")
    layer: int = option(2, "recurrent layer that the phones are read from, 1 the first")
    weight: float = option(0.5, "share of the phones' loss in the sum with the characters'")

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < 1.0:
            raise ConfigError(f"weight must be in [0, 1), not {self.weight}")
        if self.layer < 1:
            raise ConfigError(f"layer must be at least 1, not {self.layer}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole training, as the run folder's config.json keeps it."""

    data: DataOptions
    text: TextOptions = field(default_factory=TextOptions)
    frontend: FrontendOptions = field(default_factory=FrontendOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    auxiliary: AuxiliaryOptions = field(default_factory=AuxiliaryOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    ctc_backend: Backend = option("auto", "CTC kernel on a GPU: PyTorch's, cuDNN's, or the faster one, measured")
    deterministic: bool = option(False, "the same losses from the same GPU, bit for bit, but slower")
    init: str = option("", "model folder to start from instead of random weights")
    init_alphabet: Literal["keep", "extend", "replace"] = option(
        "keep", "of the model to start from: as it is, with the texts' new characters, or only the texts'"
    )
    frozen_layers: int = option(0, "recurrent layers, from the first, that stay as in the model to start from")
    name: str = option("", "name of the model")
    description: str = option("", "what the model is good for, in a sentence")

    def __post_init__(self) -> None:
        check_options(self)
        if self.deterministic and self.ctc_backend == "native":
            raise ConfigError("deterministic needs ctc_backend auto or cudnn: the native kernel of CUDA is not")
        if not self.init and (self.init_alphabet != "keep" or self.frozen_layers):
            raise ConfigError("init_alphabet and frozen_layers need a model to start from, init")
        if not 0 <= self.frozen_layers <= self.encoder.num_layers:
            raise ConfigError(
                f"frozen_layers must be at most the encoder's {self.encoder.num_layers}, not {self.frozen_layers}"
            )
        if self.auxiliary.lexicon and self.auxiliary.layer > self.encoder.num_layers:
            raise ConfigError(
                f"auxiliary.layer must be one of the encoder's {self.encoder.num_layers} layers, "
                f"not {self.auxiliary.layer}"
            )
        for name, folder in (("noise_probability", "noise"), ("reverb_probability", "impulse_responses")):
            if getattr(self.augment, name) > 0 and not getattr(self.data, folder):
                raise ConfigError(f"augment.{name} needs a folder of sounds in data.{folder}, but there is none")


def _loop(name: str, default: Any) -> Any:
    """The field of that name of `LoopOptions`, with another default."""
    original: Field[Any] = LoopOptions.__dataclass_fields__[name]
    return field(default=default, metadata=original.metadata)


@dataclass(frozen=True, kw_only=True)
class LanguageLoopOptions(LoopOptions):
    """How a language model is trained: epochs, optimiser, schedule, checkpoints."""

    epochs: int = _loop("epochs", 10)
    warmup_epochs: float = _loop("warmup_epochs", 0.05)
    clip_norm: float = _loop("clip_norm", 1.0)
    early_stop_epochs: int = _loop("early_stop_epochs", 2)
    average_best: int = _loop("average_best", 1)


@dataclass(frozen=True, kw_only=True)
class TextDataOptions:
    """Where the text is and how it is batched."""

    train: tuple[str, ...] = option(help="texts, a sentence a line: plain, .gz or .xz; or manifests")
    dev: tuple[str, ...] = option(help="texts that choices are made on")
    batch_size: int = option(32, "rows of text that are read side by side")
    chunk_length: int = option(32, "tokens of each row in a step; the state is carried on, gradients are not")

    def __post_init__(self) -> None:
        for name in ("train", "dev"):
            if not getattr(self, name) or isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be a tuple of at least one text, not {getattr(self, name)!r}")
        for name in ("batch_size", "chunk_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LanguageTrainingConfig:
    """A whole training of a recurrent language model, as the run folder's config.json keeps it."""

    data: TextDataOptions
    text: TextOptions = field(default_factory=TextOptions)
    vocabulary: VocabularyOptions = field(default_factory=VocabularyOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    loop: LanguageLoopOptions = field(default_factory=LanguageLoopOptions)
    deterministic: bool = option(False, "the same losses from the same GPU, bit for bit, but slower")
    name: str = option("", "name of the model")
    description: str = option("", "what the model is good for, in a sentence")


@dataclass(frozen=True, kw_only=True)
class NgramTrainingConfig:
    """Everything that decides an n-gram model."""

    train: tuple[str, ...] = option(help="texts, a sentence a line: plain, .gz or .xz; or manifests")
    text: TextOptions = field(default_factory=TextOptions)
    unit: Unit = option("word", "what the n-grams are made of")
    order: int = option(3, "words or characters in the longest n-grams")
    prune: tuple[int, ...] = option((), "leave out n-grams that come so often at most, by length: 0,0,1,...")
    max_words: int = option(0, "know so many of the most frequent words; 0: all")

    def __post_init__(self) -> None:
        check_options(self)
        if not self.train or isinstance(self.train, str):
            raise ConfigError(f"train must be a tuple of at least one text, not {self.train!r}")
        if self.max_words < 0:
            raise ConfigError(f"max_words must be 0 (no limit) or a number of words, not {self.max_words}")
