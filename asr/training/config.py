"""The options of a training: of the epoch loop, and the whole configuration for each kind of model."""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any, Literal

from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.compute.runtime import Precision, check_precision
from asr.ctc.loss import Backend
from asr.errors import ConfigError
from asr.lm.recurrent import NetworkOptions
from asr.lm.vocabulary import Unit, VocabularyOptions
from asr.options import check_options, option
from asr.text.normalization import TextOptions
from asr.training.augmentation import AugmentOptions


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How any model is trained: epochs, optimiser, schedule, checkpoints."""

    epochs: int = option(80, "train for N passes over the data", least=1)
    seed: int = option(0, "seed of initial weights, batches, augmentation and dropout", least=0)
    optimizer: Literal["adamw", "sgd"] = option("adamw", "AdamW, or gradient descent with Nesterov momentum")
    learning_rate: float = option(2e-3, "peak learning rate", above=0)
    warmup_epochs: float = option(
        2.0, "raise the rate linearly from zero for N epochs; for half of all epochs if there are not more", least=0
    )
    schedule: Literal["cosine", "plateau"] = option(
        "cosine", "decay the rate by half a cosine, or halve it after each epoch that is not the best"
    )
    final_learning_rate: float = option(0.01, "end the decay at this share of the peak rate", least=0, most=1)
    weight_decay: float = option(0.01, "weight decay, of matrices only", least=0)
    clip_norm: float = option(5.0, "scale gradients down to this norm", above=0)
    patience_steps: int = option(20, "stop after N steps in a row whose loss or gradient is not finite", least=1)
    early_stop_epochs: int = option(0, "stop after N epochs in a row without improvement; 0: never", least=0)
    average_best: int = option(5, "average the weights of the N best epochs", least=1)
    checkpoint_minutes: float = option(5.0, "save a checkpoint every N minutes inside an epoch", above=0)
    precision: Precision = option(
        "auto", "format of matrix products; auto: bfloat16 where it is faster; float16: GPUs only"
    )

    def __post_init__(self) -> None:
        check_options(self)
        check_precision(self.precision)

    @property
    def rising_epochs(self) -> float:
        """Length of the warm-up: `warmup_epochs`, or half of all epochs if the warm-up would last to the end."""
        return self.warmup_epochs if self.warmup_epochs < self.epochs else self.epochs / 2


def _check_files(options: Any, *names: str, what: str) -> None:
    """Raises: ConfigError: an option does not name at least one file of that kind."""
    for name in names:
        if not (value := getattr(options, name)) or isinstance(value, str):
            raise ConfigError(f"{name} must be a tuple of at least one {what}, not {value!r}", name)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the utterances are and how they are batched."""

    train: tuple[str, ...] = option(
        help="training manifests (Lhotse CutSets), or folders or URLs of shards (Lhotse Shar)"
    )
    dev: tuple[str, ...] = option(help="development data in the same form, to choose the best epochs")
    batch_seconds: float = option(60.0, "seconds of sound in a batch, padding included")
    join_probability: float = option(
        0.0, "probability that an utterance is joined with another one; drawn each epoch", least=0, below=1
    )
    chunked: float = option(
        0.0, "share of batches in chunks of random lengths, as in live recognition; 0: none", least=0, most=1
    )
    max_seconds: float = option(30.0, "leave out longer training utterances, and count them", above=0)
    shards_together: int = option(4, "mix the utterances of N shards, and prefetch N more into memory", least=1)
    feature_cache: str | None = option(
        None, "keep the features of frontend.pretrained in this folder; each utterance goes through the encoder once"
    )
    feature_variants: int = option(
        3, "augmented variants of each utterance in the cache, the first without augmentation; one an epoch", least=1
    )
    feature_cache_gigabytes: float = option(50.0, "size of the cache at most; the rest is computed each time", above=0)
    unknown_characters: str = option("", "leave these characters out of transcripts, and count them")
    noise: str = option("", "folder of background noises for augmentation")
    impulse_responses: str = option("", "folder of room impulse responses for augmentation")

    def __post_init__(self) -> None:
        check_options(self)
        _check_files(self, "train", "dev", what="manifest")
        if not self.max_seconds <= self.batch_seconds:
            message = f"max_seconds must be at most batch_seconds ({self.batch_seconds}), not {self.max_seconds}"
            raise ConfigError(message, "max_seconds", "batch_seconds")


@dataclass(frozen=True, kw_only=True)
class AuxiliaryOptions:
    """Further CTC targets on middle layers: phones from a lexicon, and the characters; only in training."""

    lexicon: str = option("", "pronunciations, `WORD PH PH ...` a line; empty: no second target")
    layer: int = option(2, "predict the phones from this recurrent layer, counted from 1", least=1)
    weight: float = option(0.5, "share of the phone loss in the total loss", least=0, below=1)
    character_layer: int = option(
        0, "predict the characters from this recurrent layer, too (intermediate CTC); 0: do not", least=0
    )
    character_weight: float = option(0.3, "share of that layer in the loss of the characters", least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """Training of the last layers of a pretrained encoder."""

    layers: int = option(0, "train the last N layers of the pretrained encoder; 0: none", least=0)
    learning_rate: float = option(1e-4, "their peak learning rate", above=0)
    after_epochs: int = option(0, "leave them as they are in the first N epochs", least=0)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All options of a training, which config.json of the run folder stores."""

    data: DataOptions
    text: TextOptions = field(default_factory=TextOptions)
    frontend: FrontendOptions = field(default_factory=FrontendOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    auxiliary: AuxiliaryOptions = field(default_factory=AuxiliaryOptions)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    ctc_backend: Backend = option("auto", "CTC kernel on a GPU: PyTorch's, cuDNN's, or the faster one, measured")
    deterministic: bool = option(False, "compute the same losses on the same GPU, bit for bit, but slower")
    init: str = option("", "start from this model folder instead of random weights")
    init_alphabet: Literal["keep", "extend", "replace"] = option(
        "keep",
        "keep the initial model's alphabet, extend it by new characters of the texts, or take the texts' alphabet",
    )
    frozen_layers: int = option(0, "keep the first N recurrent layers of the initial model as they are", least=0)
    name: str = option("", "name of the model")
    description: str = option("", "purpose of the model, in a sentence")

    def __post_init__(self) -> None:
        check_options(self)
        if self.data.feature_cache and not self.frontend.has_encoder:
            raise ConfigError(
                "data.feature_cache needs frontend.pretrained", "data.feature_cache", "frontend.pretrained"
            )
        if self.data.feature_cache and self.augment.background_probability:
            message = "augment.background_probability must be 0 with data.feature_cache, which keeps utterances alone"
            raise ConfigError(message, "augment.background_probability", "data.feature_cache")
        if self.deterministic and self.ctc_backend == "native":
            message = "deterministic needs ctc_backend auto or cudnn: the native kernel of CUDA is not"
            raise ConfigError(message, "deterministic", "ctc_backend")
        if not self.init and (self.init_alphabet != "keep" or self.frozen_layers):
            message = "init_alphabet and frozen_layers need a model to start from, init"
            raise ConfigError(message, "init_alphabet", "frozen_layers", "init")
        if self.frozen_layers > self.encoder.num_layers:
            message = f"frozen_layers must be at most the encoder's {self.encoder.num_layers}, not {self.frozen_layers}"
            raise ConfigError(message, "frozen_layers")
        if self.auxiliary.lexicon and self.auxiliary.layer > self.encoder.num_layers:
            raise ConfigError(
                f"auxiliary.layer must be one of the encoder's {self.encoder.num_layers} layers, "
                f"not {self.auxiliary.layer}",
                "auxiliary.layer",
            )
        if self.auxiliary.character_layer >= self.encoder.num_layers:
            raise ConfigError(
                f"auxiliary.character_layer must be less than the encoder's {self.encoder.num_layers} layers, "
                f"not {self.auxiliary.character_layer}",
                "auxiliary.character_layer",
            )
        if self.tuning.layers and not self.frontend.has_encoder:
            raise ConfigError("tuning.layers needs frontend.pretrained", "tuning.layers", "frontend.pretrained")
        for name, folder in (("noise_probability", "noise"), ("reverb_probability", "impulse_responses")):
            if getattr(self.augment, name) > 0 and not getattr(self.data, folder):
                message = f"augment.{name} needs a folder of sounds in data.{folder}, but there is none"
                raise ConfigError(message, f"augment.{name}", f"data.{folder}")


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
    dev: tuple[str, ...] = option(help="texts for development: the best epochs are chosen on them")
    batch_size: int = option(32, "read N rows of text side by side", least=1)
    chunk_length: int = option(
        32, "tokens of each row in a step; the state is carried over, gradients are not", least=1
    )

    def __post_init__(self) -> None:
        check_options(self)
        _check_files(self, "train", "dev", what="text")


@dataclass(frozen=True, kw_only=True)
class LanguageTrainingConfig:
    """All options of the training of a recurrent language model, which config.json of the run folder stores."""

    data: TextDataOptions
    text: TextOptions = field(default_factory=TextOptions)
    vocabulary: VocabularyOptions = field(default_factory=VocabularyOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    loop: LanguageLoopOptions = field(default_factory=LanguageLoopOptions)
    init: str = option("", "start from this model folder, with its vocabulary, instead of random weights")
    deterministic: bool = option(False, "compute the same losses on the same GPU, bit for bit, but slower")
    name: str = option("", "name of the model")
    description: str = option("", "purpose of the model, in a sentence")

    def __post_init__(self) -> None:
        if self.init and self.vocabulary != VocabularyOptions():
            raise ConfigError(
                "a training from a model has its vocabulary: leave out vocabulary.*", "vocabulary", "init"
            )


@dataclass(frozen=True, kw_only=True)
class NgramTrainingConfig:
    """All options of an n-gram model."""

    train: tuple[str, ...] = option(help="texts, a sentence a line: plain, .gz or .xz; or manifests")
    text: TextOptions = field(default_factory=TextOptions)
    unit: Unit = option("word", "make n-grams of words or of characters")
    order: int = option(3, "words or characters in the longest n-grams")
    prune: tuple[int, ...] = option((), "leave out n-grams seen at most this often, by length: 0,0,1,...")
    max_words: int = option(0, "keep the N most frequent words; 0: all", least=0)

    def __post_init__(self) -> None:
        check_options(self)
        _check_files(self, "train", what="text")
