"""The encoders of wav2vec 2.0, HuBERT and WavLM, pretrained on far more speech, as a feature frontend.

    samples ─▶ mean 0, deviation 1 ─▶ convolutions ─▶ projection ─▶ + convolution ─▶ layer 1 … layer N
    16 kHz     (some models)          7, to 20 ms                   (positions)      attention, MLP

The modules are those of `transformers`, put together from the shape in a model's config.json; here are only the order
in which they are called, and the care for padding. An utterance is the same alone and in a batch: waveforms go through
the convolutions one after the other, because the base models have a group norm in there, whose mean and deviation are
those of the whole input, padding included. Then zeros follow an utterance, as they do when it is alone, and no frame
attends to padding.

Sources: Baevski et al. 2020, "wav2vec 2.0"; Hsu et al. 2021, "HuBERT"; Chen et al. 2022, "WavLM".
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic.hugging_face import CONFIG_FILE, read_config, read_tensors, shape_from
from asr.acoustic.padding import attended_frames, without_padding
from asr.acoustic.shapes import Wav2Vec2Shape
from asr.errors import ConfigError, DataError
from asr.files.reading import read_json
from asr.options import check_limits, shown, to_json

PREPROCESSOR_FILE = "preprocessor_config.json"
# By model_type in config.json: the names of their classes begin so.
MODELS = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
VARIANCE_FLOOR = 1e-7  # added to the variance of a waveform, as transformers does
POSITIONS = "pos_conv_embed.conv.weight"
MAGNITUDES, DIRECTIONS = f"{POSITIONS}_g", f"{POSITIONS}_v"


class Wav2Vec2Encoder(nn.Module):
    """Waveforms to the hidden states of an encoder; parameters are named as in Hugging Face's weights.

    Raises:
        ConfigError: `transformers` is not installed.
    """

    def __init__(self, shape: Wav2Vec2Shape):
        super().__init__()
        self.shape = shape
        model = _make_model(shape)
        width, kernel = shape.hidden_size, shape.num_conv_pos_embeddings
        self.feature_extractor = model.feature_extractor
        self.feature_projection = model.feature_projection
        self.pos_conv_embed = model.encoder.pos_conv_embed
        # A plain convolution in place of one whose weight is a product: it is never trained here.
        self.pos_conv_embed.conv = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=shape.num_conv_pos_embedding_groups
        )
        # Models with post-norm layers have this norm before the first layer, the others behind the last one.
        stable = shape.do_stable_layer_norm
        self.input_norm = nn.Identity() if stable else model.encoder.layer_norm
        self.layers = model.encoder.layers
        self.layer_norm = model.encoder.layer_norm if stable and shape.normalize_output else nn.Identity()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the last layer, and its lengths.

        Args:
            waveforms: (B, N) float in [-1, 1] at 16 kHz; samples past an utterance's length are ignored.
            lengths: (B,) int64 samples; on the CPU, a GPU is not waited for.
        Returns:
            hidden (B, T, D), zero from an utterance's length on; lengths (B,) int64, by `Wav2Vec2Shape.num_frames`.
        """
        frame_lengths = self.shape.num_frames(lengths)
        *_, hidden = self.layer_outputs(self.embedded(waveforms, lengths), frame_lengths)
        return without_padding(hidden, frame_lengths), frame_lengths

    def embedded(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """The input (B, T, D) of the first layer; frames past an utterance's length are undefined. See `forward`."""
        rows = [
            self._convolved(waveform[:length]) for waveform, length in zip(waveforms, lengths.tolist(), strict=True)
        ]
        hidden = _first(self.feature_projection(pad_sequence(rows, batch_first=True)))
        hidden = without_padding(hidden, self.shape.num_frames(lengths))
        return self.input_norm(hidden + self.pos_conv_embed(hidden))

    def _convolved(self, waveform: Tensor) -> Tensor:
        """One utterance (N,) as frames (T, C); one frame of zeros are the frames of a waveform that is too short."""
        if not self.shape.num_frames(len(waveform)):
            return waveform.new_zeros(1, self.shape.conv_dim[-1], dtype=torch.float32)
        values = waveform.float()
        if self.shape.normalize_waveform:
            variance, mean = torch.var_mean(values, correction=0)
            values = (values - mean) / (variance + VARIANCE_FLOOR).sqrt()
        values = values[None, None]
        for layer in self.feature_extractor.conv_layers:
            values = layer(values)
        return values[0].T.float()

    def layer_outputs(self, hidden: Tensor, lengths: Tensor, *, layers: slice = slice(None)) -> Iterator[Tensor]:
        """The output (B, T, D) of each of some layers, one after the other; that of the last layer is normalised.

        Args:
            hidden: (B, T, D), the input of the first of these layers.
            lengths: (B,) int64 frames; frames past them are not attended to.
        """
        attended = attended_frames(lengths, hidden)
        batch, frames, _ = hidden.shape
        if self.shape.model_type == "wavlm":
            # All layers add the first layer's learnt function of the distance of two frames.
            bias = self.layers[0].attention.compute_bias(frames, frames).repeat(batch, 1, 1)  # (B * H, T, T)
            mask = None if attended is None else attended[:, 0, 0].long()
            arguments = {"attention_mask": mask, "position_bias": bias}
        else:
            mask = None if attended is None else attended.expand(batch, 1, frames, frames)
            arguments = {"attention_mask": mask}
        for layer in self.layers[layers]:
            hidden = _first(layer(hidden, **arguments))
            yield self.layer_norm(hidden) if layer is self.layers[-1] else hidden


def load_wav2vec2(folder: str | os.PathLike[str], *, layer: int | None = None) -> Wav2Vec2Encoder:
    """The encoder in a folder of Hugging Face's layout (config.json, model.safetensors), frozen, in evaluation mode.

    Weights are float32 in memory; those of a head are left out. The waveform is normalised if `do_normalize` in
    preprocessor_config.json says so; without such a file, if the convolutions have layer norms.

    Args:
        folder: its path.
        layer: leave out the layers above this one, and the normalisation behind the last layer; None: take all.
    Raises:
        DataError: a file is missing or damaged, of another kind of model, or weights and shape do not fit.
        ConfigError: the encoder has no such layer, or `transformers` is not installed.
    """
    values, path = read_config(folder), Path(folder) / CONFIG_FILE
    if values.get("model_type") not in MODELS:
        raise DataError(f"must be a model of {', '.join(MODELS)}, not {shown(values.get('model_type'))}", path=path)
    for name in ("add_adapter", "adapter_attn_dim", "conv_pos_batch_norm"):
        if values.get(name):
            raise DataError(f"must be of an encoder without {name}, which is {shown(values[name])}", path=path)
    shape = shape_from(Wav2Vec2Shape, values, path=path)
    shape = replace(shape, normalize_waveform=_normalizes(Path(folder), shape))
    expected = _empty_encoder(shape).state_dict()
    weight = expected.pop(POSITIONS)
    expected |= {MAGNITUDES: weight[:1, :1], DIRECTIONS: weight}
    names = {name: _stored_names(name, prefix=f"{shape.model_type}.") for name in expected}
    return frozen_encoder(shape, read_tensors(folder, expected=expected, names=names), layer=layer)


def frozen_encoder(shape: Wav2Vec2Shape, weights: Mapping[str, Tensor], *, layer: int | None) -> Wav2Vec2Encoder:
    """An encoder, or its first layers, frozen and in evaluation mode.

    Args:
        shape: of the whole encoder.
        weights: by the names of `Wav2Vec2Encoder`; in place of `POSITIONS`, its magnitudes and directions.
        layer: see `load_wav2vec2`.
    """
    if layer is not None:
        check_limits("pretrained_layer", layer, least=1, most=shape.num_hidden_layers)
        whole = layer == shape.num_hidden_layers
        shape = replace(shape, num_hidden_layers=layer, normalize_output=whole)
    # Weight normalisation: a length for each position of the kernel, times a direction.
    directions = weights[DIRECTIONS]
    lengths = torch.linalg.vector_norm(directions, dim=(0, 1), keepdim=True)
    weights = {**weights, POSITIONS: directions * (weights[MAGNITUDES] / lengths)}
    encoder = _empty_encoder(shape)
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()}, assign=True)
    return encoder.eval().requires_grad_(False)


def _empty_encoder(shape: Wav2Vec2Shape) -> Wav2Vec2Encoder:
    with torch.device("meta"):
        return Wav2Vec2Encoder(shape)


def _make_model(shape: Wav2Vec2Shape) -> Any:
    """A model of `transformers` with random weights, without dropout, whose modules become those of the encoder."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"an encoder of the type {shape.model_type} needs transformers: pip install 'asr[pretrained]' ({error})"
        ) from None
    name = MODELS[shape.model_type]
    if shape.model_type == "wavlm":  # its attention has two masks of different types
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
    config = getattr(transformers, f"{name}Config")(
        **to_json(shape),
        **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0),
        **dict.fromkeys(("layerdrop", "mask_time_prob", "mask_feature_prob"), 0.0),
        attn_implementation="eager" if shape.model_type == "wavlm" else "sdpa",
    )
    return getattr(transformers, f"{name}Model")(config)


def _normalizes(folder: Path, shape: Wav2Vec2Shape) -> bool:
    """Whether the encoder expects waveforms with mean 0 and deviation 1."""
    path = folder / PREPROCESSOR_FILE
    if not path.exists():
        return shape.feat_extract_norm == "layer"
    try:
        value = read_json(path)["do_normalize"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"must be a JSON object with do_normalize: {error!r}", path=path) from None
    if not isinstance(value, bool):
        raise DataError(f"do_normalize must be true or false, not {shown(value)}", path=path)
    return value


def _stored_names(name: str, *, prefix: str) -> tuple[str, ...]:
    """The names that Hugging Face's files have for a weight; those of a model with a head have a prefix."""
    if not name.startswith("feature_"):
        name = "encoder." + name.replace("input_norm.", "layer_norm.")
    stem, dot, last = name.rpartition(".")
    newer = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return tuple(f"{start}{stem}{dot}{end}" for start in (prefix, "") for end in (last, newer.get(last, last)))


def _first(value: Any) -> Tensor:
    """The first of a tuple, or the value itself: models and releases of `transformers` differ in it."""
    return value[0] if isinstance(value, tuple) else value
