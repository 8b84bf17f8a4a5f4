"""torchaudio's pretrained CTC models, by name: `torchaudio:WAV2VEC2_ASR_BASE_960H`; downloaded at the first use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from asr.acoustic.folder import BUNDLE
from asr.acoustic.foreign.model import ForeignModel, text_like
from asr.compute.device import autocast, find_device
from asr.compute.runtime import Precision, check_precision
from asr.errors import ConfigError, DataError, InputError
from asr.text.labels import Labels


class BundleNetwork:
    """A `torchaudio.models.Wav2Vec2Model` with an output for each label."""

    def __init__(self, model: Any, *, normalized: bool):
        self.model, self.normalized = model.eval(), normalized
        self._dtype = torch.float32

    @property
    def has_group_norm(self) -> bool:
        """Whether a group norm sees the padding of a batch: in the base models, not in the large ones."""
        return any(isinstance(module, torch.nn.GroupNorm) for module in self.model.feature_extractor.modules())

    @property
    def samples_per_frame(self) -> int:
        """The product of the strides of the convolutions."""
        return math.prod(layer.conv.stride[0] for layer in self.model.feature_extractor.conv_layers)

    def prepare(self, device: str, precision: Precision) -> tuple[torch.device, torch.dtype]:
        """See `CTCModel.prepare`; "auto" is float32."""
        found = find_device(device)
        check_precision(precision, found)
        self.model.to(found)
        self._dtype = torch.float32 if precision == "auto" else getattr(torch, precision)
        return found, self._dtype

    @torch.inference_mode()
    def outputs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits (T, V) of each waveform, float32."""
        device = next(self.model.parameters()).device
        tensors = [torch.from_numpy(waveform).to(device) for waveform in waveforms]
        if self.normalized:
            tensors = [torch.nn.functional.layer_norm(tensor, tensor.shape) for tensor in tensors]
        padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        lengths = torch.tensor([len(tensor) for tensor in tensors], device=device)
        with autocast(self._dtype, device):
            logits, frames = self.model(padded, lengths if len(tensors) > 1 else None)
        counts = [logits.shape[1]] if frames is None else frames.tolist()
        return [one[:count].float().cpu().numpy() for one, count in zip(logits, counts, strict=True)]


def load_bundle(name: str) -> ForeignModel:
    """The model of a bundle of `torchaudio.pipelines`, by its name there.

    Raises:
        ConfigError: torchaudio is not installed.
        InputError: there is no bundle of that name with labels.
        DataError: its weights cannot be downloaded.
    """
    try:
        from torchaudio import pipelines
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # beside another release of torch
        raise ConfigError(
            f"{BUNDLE}{name} needs torchaudio of the same release as torch: pip install 'asr[pretrained]' ({error})"
        ) from None
    bundle_type = pipelines.Wav2Vec2ASRBundle
    names = [other for other in dir(pipelines) if isinstance(getattr(pipelines, other), bundle_type)]
    if name not in names:
        raise InputError(f"torchaudio has no CTC model {name!r}; it has {', '.join(names)}")
    bundle = getattr(pipelines, name)
    try:
        model = bundle.get_model()
    except (OSError, RuntimeError) as error:
        raise DataError(f"the weights cannot be downloaded: {error}", path=f"{BUNDLE}{name}") from None
    star = {"star": None} if isinstance(bundle, pipelines.Wav2Vec2FABundle) else {}  # a label for any sound
    return make_model(name, model, bundle.get_labels(**star), sample_rate=bundle.sample_rate)


def make_model(name: str, model: Any, labels: Sequence[str], *, sample_rate: int) -> ForeignModel:
    """A model of torchaudio with the labels of its bundle, the first of which is the blank.

    A bundle wraps a model that takes normalised samples; its outputs are logits, not log-probabilities.
    """
    inner = getattr(model, "model", model)
    network = BundleNetwork(inner, normalized=getattr(model, "normalize_waveform", False))
    own_labels = Labels(["<pad>", *labels[1:]], blank=0)
    return ForeignModel(
        name=name,
        network=network,
        labels=own_labels,
        sample_rate=sample_rate,
        samples_per_frame=network.samples_per_frame,
        text=text_like(own_labels.alphabet),
        exact_batches=not network.has_group_norm,
    )
