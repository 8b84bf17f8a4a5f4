"""Folders of Hugging Face's `AutoModelForCTC`: wav2vec 2.0, HuBERT, WavLM, MMS, Parakeet and others.

    waveforms ─▶ feature extractor ─▶ input_values, or input_features; attention_mask ─▶ model ─▶ logits

`transformers` computes everything, as its own users call it. Here are only the decisions that they have to make: which
token is the blank, how many frames of a batch belong to each utterance, and whether padding changes the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr.acoustic.foreign.model import ForeignModel, text_like
from asr.compute.device import autocast, find_device
from asr.compute.runtime import Precision, check_precision
from asr.errors import ConfigError, DataError
from asr.text.labels import Labels

# Families whose outputs for an utterance do not depend on the padding of a batch. Others have a convolution, or a norm,
# that sees padding.
EXACT_BATCHES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "parakeet_ctc")
UNUSED_WEIGHT = "masked_spec_embed"  # only for training; the models of Facebook lack it
_LONG = 1_600_000  # samples or feature frames, a multiple of every stride


class HuggingFaceNetwork:
    """A model of `transformers` with its feature extractor."""

    def __init__(self, model: Any, extractor: Any):
        self.model, self.extractor = model.eval(), extractor
        self.has_features = extractor.model_input_names[0] != "input_values"
        self._dtype = torch.float32

    @property
    def exact_batches(self) -> bool:
        """Whether an utterance has the same logits in every batch; not where a group norm sees the padding."""
        config = self.model.config
        group_norm = getattr(config, "feat_extract_norm", "") == "group"
        adapter = getattr(config, "add_adapter", False)
        return config.model_type in EXACT_BATCHES and not group_norm and not adapter

    @property
    def samples_per_frame(self) -> int:
        """Samples from one frame of the logits to the next, by the model's own formula of lengths."""
        frames = self._num_frames(torch.tensor([_LONG, 2 * _LONG]))
        stride = round(_LONG / int(frames[1] - frames[0]))
        if not self.has_features:
            return stride
        hop = getattr(self.extractor, "hop_length", self.extractor.sampling_rate // 100)
        return stride * hop * getattr(self.extractor, "stride", 1)

    def prepare(self, device: str, precision: Precision) -> tuple[torch.device, torch.dtype]:
        """See `CTCModel.prepare`; "auto" is float32 on a CPU, and bfloat16 on a GPU that has it."""
        found = find_device(device)
        check_precision(precision, found)
        self.model.to(found)
        has_bfloat16 = found.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        automatic = torch.bfloat16 if has_bfloat16 else torch.float32
        self._dtype = automatic if precision == "auto" else getattr(torch, precision)
        return found, self._dtype

    @torch.inference_mode()
    def outputs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits (T, V) of each waveform, float32."""
        rate = self.extractor.sampling_rate
        inputs = self.extractor(list(waveforms), sampling_rate=rate, padding=True, return_tensors="pt")
        if not self.has_features and len(waveforms) == 1:
            inputs.pop("attention_mask", None)
        device = self.model.device
        with autocast(self._dtype, device):
            logits = self.model(**inputs.to(device)).logits.float()
        counts = self._num_frames(self._input_lengths(inputs, waveforms)).tolist()
        return [one[:count].cpu().numpy() for one, count in zip(logits, counts, strict=True)]

    def _input_lengths(self, inputs: Any, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """(B,) samples, or feature frames, of each utterance."""
        if not self.has_features:
            return torch.tensor([len(waveform) for waveform in waveforms])
        if "attention_mask" in inputs:
            return inputs["attention_mask"].sum(dim=1).cpu()
        return torch.full((len(waveforms),), inputs[self.extractor.model_input_names[0]].shape[1])

    def _num_frames(self, lengths: torch.Tensor) -> torch.Tensor:
        """Frames of the logits for lengths of the inputs, by the model's own formula.

        Raises:
            DataError: it has none.
        """
        for owner in (self.model, getattr(self.model, "encoder", None)):
            for name in ("_get_feat_extract_output_lengths", "_get_subsampling_output_length"):
                if formula := getattr(owner, name, None):
                    return formula(lengths).long()
        raise DataError(f"models of type {self.model.config.model_type!r} do not say the length of their outputs")


def load_hugging_face(folder: Path) -> ForeignModel:
    """The model of a folder that `save_pretrained` wrote, or that was downloaded from Hugging Face; never downloads.

    Raises:
        ConfigError: transformers is not installed.
        DataError: transformers cannot read the folder; the message has its reason.
    """
    try:
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
    except ImportError:
        raise ConfigError(
            f"{folder} is a model of Hugging Face, which needs transformers: pip install 'asr[pretrained]'"
        ) from None
    try:
        with _quiet():
            model, report = AutoModelForCTC.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # each part of transformers has errors of its own
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"this model of Hugging Face cannot be read: {reason}", path=folder) from None
    if missing := sorted(name for name in report["missing_keys"] if not name.endswith(UNUSED_WEIGHT)):
        raise DataError(f"weight {missing[0]!r} is missing ({len(missing)} are missing)", path=folder)
    network, labels = HuggingFaceNetwork(model, extractor), _labels(tokenizer, model.config, folder)
    return ForeignModel(
        name=folder.resolve().name,
        network=network,
        labels=labels,
        sample_rate=extractor.sampling_rate,
        samples_per_frame=network.samples_per_frame,
        text=text_like(labels.alphabet),
        exact_batches=network.exact_batches,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no notes of transformers on stderr."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _labels(tokenizer: Any, config: Any, folder: Path) -> Labels:
    """The labels of the model's columns; a column without a token is never spoken, the pad token is the blank."""
    if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
        raise DataError(
            f"pad_token_id, the blank, must be a column, 0 .. {config.vocab_size - 1}, not {config.pad_token_id}",
            path=folder / "config.json",
        )
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    labels = [tokens.get(column, f"<unused{column}>") for column in range(config.vocab_size)]
    delimiter = getattr(tokenizer, "word_delimiter_token", None)
    labels = ["|" if label == delimiter else label for label in labels]
    return Labels(labels, blank=config.pad_token_id)
