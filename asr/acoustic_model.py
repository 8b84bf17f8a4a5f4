"""The acoustic model: frontend, encoder and alphabet as one thing, and its folder on disk.

A model folder holds `config.json` (format version, options of every part, alphabet, provenance) and
`weights.safetensors`. It is written beside its place and renamed, and nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asr.encoder import Encoder, EncoderOptions
from asr.errors import AsrError, ConfigError, DataError, InputError
from asr.frontend import Frontend, FrontendOptions
from asr.options import from_json, to_json
from asr.text import Alphabet, TextOptions

FORMAT_VERSION = 1
DEFAULT_MODEL = "an4"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything about a model but its weights: the content of config.json.

    Args:
        characters: the alphabet's, label 1 first.
        text: how transcripts were normalised before they became labels.
        frontend: what the features are.
        encoder: shape of the recurrent stack.
        name: what `asr.load` calls it.
        description: what it is good for, in a sentence, for `asr-transcribe --list-models`.
        provenance: data, licence, seed, versions and measured error rates, as JSON values.
    Raises:
        InputError: the characters are no alphabet.
    """

    characters: tuple[str, ...]
    text: TextOptions = field(default_factory=TextOptions)
    frontend: FrontendOptions = field(default_factory=FrontendOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    name: str = ""
    description: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Alphabet(self.characters)


class AcousticModel(nn.Module):
    """Waveforms to log-probabilities of the labels; what a model folder holds.

    Args:
        config: what the parts are.
        initialize: give the encoder random weights; without, it has none (they are on torch's meta device) until
            `load_state_dict(..., assign=True)`, which is faster and leaves the random state alone.
    """

    def __init__(self, config: ModelConfig, *, initialize: bool = True):
        super().__init__()
        self.config = config
        self.alphabet = Alphabet(config.characters)
        self.frontend = Frontend(config.frontend)
        with torch.device("cpu" if initialize else "meta"):
            self.encoder = Encoder(
                config.encoder, num_features=config.frontend.num_features, num_labels=self.alphabet.size
            )

    @property
    def sample_rate(self) -> int:
        """Samples per second that `forward` expects."""
        return self.config.frontend.sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples from one frame of log_probs to the next; times are frames x this, divided once when printed."""
        return self.config.frontend.hop_length * self.config.encoder.time_reduction

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of log_probs to the next."""
        return self.samples_per_frame / self.sample_rate

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for so many samples."""
        return self.config.encoder.output_length(self.config.frontend.num_frames(num_samples))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every label at every frame.

        Args:
            waveforms: (B, N) float32 in [-1, 1] at `sample_rate`.
            lengths: (B,) int64 samples.
        Returns:
            log_probs (B, T', V) float32, natural log, label 0 is Φ; lengths (B,) int64.
        """
        features, feature_lengths = self.frontend(waveforms, lengths)
        return self.encoder(features, feature_lengths)

    def save(self, folder: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write the model folder, complete or not at all; an older one in its place is replaced.

        Args:
            folder: where; its parent is made.
            half: store float16 weights, half the size; they are float32 again when loaded.
        Raises:
            InputError: a weight is not finite, or too large for float16.
            ConfigError: there is something else than a model folder in that place.
        """
        folder = Path(folder).resolve()
        _check_replaceable(folder)
        weights = self._stored_weights(torch.float16 if half else torch.float32)
        config = {"format_version": FORMAT_VERSION, **to_json(self.config)}
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            temporary.chmod(0o755)  # mkdtemp's folders are closed to everyone else
            save_file(weights, temporary / WEIGHTS_FILE)
            (temporary / WEIGHTS_FILE).chmod(0o644)  # safetensors closes its files to everyone else, too
            (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
            _replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _stored_weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """All tensors on the CPU in `dtype`; the frontend's statistics, which are few and exact, in float32."""
        weights = {}
        for name, tensor in self.state_dict().items():
            kept = torch.float32 if name.startswith("frontend.") else dtype
            weights[name] = tensor.detach().to("cpu", kept).contiguous()
            if not weights[name].isfinite().all():
                raise InputError(
                    f"every weight must be finite in {str(kept).removeprefix('torch.')} to be saved, "
                    f"but tensor {name!r} is not"
                )
        return weights

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> AcousticModel:
        """The model in `folder`, in evaluation mode on the CPU.

        Raises:
            DataError: no model there, a newer format, an unknown or wrong option, a missing or extra tensor, a wrong
                shape, a damaged file; the message says which.
        """
        folder = Path(folder)
        model = cls(read_config(folder), initialize=False)
        model.load_state_dict(_read_weights(folder / WEIGHTS_FILE, expected=model.state_dict()), assign=True)
        return model.eval()


def read_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The config.json of a model folder.

    Raises:
        DataError: it is missing, not JSON, of a newer format, or has an unknown or wrong option.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise DataError(f"not a model folder: it has no {CONFIG_FILE}", path=folder)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"the model's configuration cannot be read as JSON: {error}", path=path) from None
    if not isinstance(values, dict):
        raise DataError("the model's configuration must be a JSON object", path=path)
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "; install a newer version of asr" if newer else ""
        raise DataError(f"format_version must be {FORMAT_VERSION}, not {version!r}{advice}", path=path)
    try:
        return from_json(ModelConfig, values)
    except AsrError as error:
        raise DataError(str(error), path=path) from None


def _read_weights(path: Path, *, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32, checked against `expected` by name and shape."""
    if not path.is_file():
        raise DataError("the model's weights are missing", path=path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"the model's weights are damaged or truncated: {error}", path=path) from None
    if missing := sorted(set(expected) - set(weights)):
        raise DataError(f"tensor {missing[0]!r} is missing ({len(missing)} of {len(expected)} are)", path=path)
    if extra := sorted(set(weights) - set(expected)):
        raise DataError(f"tensor {extra[0]!r} does not belong to the configured model ({len(extra)} do not)", path=path)
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(expected[name].shape)}, not {tuple(tensor.shape)}"
            raise DataError(f"tensor {name!r} must have shape {shapes}", path=path)
        weights[name] = tensor.to(torch.float32, copy=True)  # a copy: what was read lies in the mapped file
        if not weights[name].isfinite().all():
            raise DataError(f"tensor {name!r} holds values that are not finite", path=path)
    return weights


def _check_replaceable(folder: Path) -> None:
    """Raises ConfigError if something stands in this place that is neither a model folder nor an empty one."""
    is_model = (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_model and not is_free:
        raise ConfigError(f"{folder} exists and is not a model folder; it is left as it is: choose another place")


def _replace_folder(new: Path, folder: Path) -> None:
    """Puts the folder `new` in the place of `folder`, which may exist; both on one file system."""
    if not folder.exists():
        new.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    old = folder.rename(aside / folder.name)
    try:
        new.rename(folder)
    except BaseException:  # Ctrl-C as well: there is a moment without a model in its place
        old.rename(folder)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def pad_waveforms(waveforms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(B, N) float32, zeros behind each waveform, and lengths (B,) int64."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return padded, lengths


def embedded_models() -> dict[str, Path]:
    """The models that come with the package: name to folder, sorted by name."""
    folders = Path(__file__).parent.joinpath("models")
    return {path.parent.name: path.parent for path in sorted(folders.glob(f"*/{CONFIG_FILE}"))}


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a model: one given as such, an embedded one by its name, or None for the default.

    Raises:
        InputError: it is neither a folder nor the name of an embedded model.
    """
    embedded = embedded_models()
    if model is None:
        model = DEFAULT_MODEL
    if str(model) in embedded:
        return embedded[str(model)]
    if Path(model).is_dir():
        return Path(model)
    names = ", ".join(embedded) or "none"
    raise InputError(f"no model {os.fspath(model)!r}: give a model folder, or one of the embedded models: {names}")
