"""Encoders that torchaudio downloads, by the names of its bundles: `torchaudio:WAV2VEC2_BASE`.

torchaudio has the same encoders as `transformers` under other names. Its HuBERT is a wav2vec 2.0 of the same shape.

Source: torchaudio.pipelines, torchaudio.models.wav2vec2 (BSD-2-Clause).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from asr.acoustic.folder import BUNDLE
from asr.acoustic.shapes import Wav2Vec2Shape
from asr.acoustic.wav2vec2 import Wav2Vec2Encoder, frozen_encoder
from asr.errors import ConfigError, DataError, InputError


def load_bundle(source: str, *, layer: int | None = None) -> tuple[Wav2Vec2Encoder, dict[str, str]]:
    """The encoder of a bundle, frozen, and its name, licence and checksum; downloads it if torchaudio has no copy.

    Args:
        source: `torchaudio:` and the name of a bundle.
        layer: leave out the layers above this one; None: take all.
    Raises:
        ConfigError: torchaudio or `transformers` is not installed, or the encoder has no such layer.
        InputError: there is no bundle of this name.
        DataError: it cannot be downloaded.
    """
    try:
        from torchaudio import pipelines
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # beside another release of torch
        raise ConfigError(f"{source} needs torchaudio: pip install 'asr[pretrained]' ({error})") from None
    names = [name for name in pipelines.__all__ if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)]
    name = source.removeprefix(BUNDLE)
    if name not in names:
        raise InputError(f"no encoder {source!r}: after {BUNDLE} goes one of {', '.join(names)}")
    bundle = getattr(pipelines, name)
    try:
        model = bundle.get_model()
    except (OSError, RuntimeError) as error:
        raise DataError(f"torchaudio cannot download it: {error}", path=source) from None
    shape, weights = converted(model)
    origin = {"name": source, "licence": licence(bundle.__doc__ or ""), "sha256": _checksum(weights)}
    return frozen_encoder(shape, weights, layer=layer), origin


def converted(model: Any) -> tuple[Wav2Vec2Shape, dict[str, Tensor]]:
    """The shape and the weights of a Wav2Vec2Model of torchaudio, for `frozen_encoder`."""
    normalize_waveform = getattr(model, "normalize_waveform", False)
    model = getattr(model, "model", model)  # of a bundle with a step before or behind it
    convolutions = model.feature_extractor.conv_layers
    transformer = model.encoder.transformer
    layers, positions = transformer.layers, transformer.pos_conv_embed.conv
    attention, feed_forward = layers[0].attention, layers[0].feed_forward
    wavlm = hasattr(attention, "num_buckets")
    buckets = {"num_buckets": attention.num_buckets, "max_bucket_distance": attention.max_distance} if wavlm else {}
    shape = Wav2Vec2Shape(
        model_type="wavlm" if wavlm else "wav2vec2",
        hidden_size=attention.embed_dim,
        num_hidden_layers=len(layers),
        num_attention_heads=attention.num_heads,
        intermediate_size=feed_forward.intermediate_dense.out_features,
        layer_norm_eps=layers[0].layer_norm.eps,
        feat_extract_norm="group" if isinstance(convolutions[0].layer_norm, nn.GroupNorm) else "layer",
        conv_dim=tuple(convolution.conv.out_channels for convolution in convolutions),
        conv_kernel=tuple(convolution.kernel_size for convolution in convolutions),
        conv_stride=tuple(convolution.stride for convolution in convolutions),
        conv_bias=convolutions[0].conv.bias is not None,
        num_conv_pos_embeddings=positions.kernel_size[0],
        num_conv_pos_embedding_groups=positions.groups,
        do_stable_layer_norm=layers[0].layer_norm_first,
        normalize_waveform=normalize_waveform,
        **buckets,
    )
    return shape, _renamed(model.state_dict(), stable=shape.do_stable_layer_norm)


def licence(documentation: str) -> str:
    """The licence in a bundle's documentation: "... under MIT License and redistributed with the same license"."""
    match = re.search(r"under \W*([\w.\- ]+?) (License|and redistributed)", " ".join(documentation.split()))
    return match[1] if match else "unknown"


def _renamed(state: Mapping[str, Tensor], *, stable: bool) -> dict[str, Tensor]:
    """Weights by the names of `Wav2Vec2Encoder`; those of a head are left out."""
    weights = {}
    for name, values in state.items():
        if not name.startswith(("feature_extractor.", "encoder.")):
            continue
        name = name.removeprefix("encoder.").removeprefix("transformer.")
        name = name.replace("conv.parametrizations.weight.original0", "conv.weight_g")
        name = name.replace("conv.parametrizations.weight.original1", "conv.weight_v")
        if name.startswith("layer_norm.") and not stable:
            name = f"input_norm.{name.removeprefix('layer_norm.')}"
        name = name.replace("attention.attention.", "attention.")
        stem, joined, part = name.partition("in_proj_")
        if joined:  # query, key and value
            for letter, third in zip("qkv", values.chunk(3), strict=True):
                weights[f"{stem}{letter}_proj.{part}"] = third
        else:
            weights[name] = values
    return {name: values.detach().float().contiguous() for name, values in weights.items()}


def _checksum(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the values in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()
