"""Small models of other toolkits with random weights, written as their users have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "'")
PIECES = ("<blk>", "<unk>", "▁the", "s", "▁", "a", "b", "▁sea")
NEMO_PIECES = ("<unk>", "▁the", "s", "▁", "a", "b", "▁sea")  # the blank is the column after them
STRIDE = 320  # samples a frame in wav2vec 2.0
_WAV2VEC2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": len(LETTERS),
    "pad_token_id": 0,
}


def write_wav2vec2(folder: Path, *, family: str = "Wav2Vec2", norm: str = "group", normalize: bool = True) -> Any:
    """A folder of `transformers` with a small model of the family, whose frames have different best labels.

    Returns:
        The model.
    """
    import transformers

    torch.manual_seed(0)
    options = _WAV2VEC2 | ({"num_ctc_classes": len(LETTERS)} if family == "UniSpeech" else {})
    options |= {"conv_dim": (16,) * 13} if family == "SEW" else {}
    config = getattr(transformers, f"{family}Config")(feat_extract_norm=norm, **options)
    model = getattr(transformers, f"{family}ForCTC")(config).eval()
    model.lm_head.weight.data *= 50  # otherwise all frames are alike
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_vocabulary(folder / "vocab.json", LETTERS)
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=norm == "layer")
    extractor.save_pretrained(folder)
    return model


def write_vocabulary(path: Path, labels: Sequence[str]) -> None:
    """A vocab.json: the column of each label."""
    path.write_text(json.dumps({label: column for column, label in enumerate(labels)}))


def write_tokens(path: Path, labels: Sequence[str]) -> None:
    """A tokens.txt: a label and its column in each line."""
    path.write_text("".join(f"{label} {column}\n" for column, label in enumerate(labels)), encoding="utf-8")


class Subsampled(nn.Module):
    """A convolution of stride 4 and a recurrent layer: (B, T, M) and (B,) to log-probabilities and their lengths.

    icefall's `OnnxModel` and WeNet's, of which sherpa-onnx's scripts make ONNX files, have these inputs and outputs;
    the true networks need k2 and other heavy packages.
    """

    def __init__(self, num_labels: int, num_mel_bins: int = 80):
        super().__init__()
        self.convolution = nn.Conv1d(num_mel_bins, 24, kernel_size=9, stride=4)
        self.recurrent = nn.GRU(24, 24, batch_first=True)
        self.output = nn.Linear(24, num_labels)
        self.output.weight.data *= 5

    def forward(self, x: torch.Tensor, x_lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        contrast = (x - 0.9 * x.mean(dim=2, keepdim=True)).transpose(1, 2)  # mostly what differs between frames
        hidden, _ = self.recurrent(self.convolution(contrast).transpose(1, 2))
        return self.output(hidden).log_softmax(dim=-1), torch.div(x_lens - 9, 4, rounding_mode="floor") + 1


class NemoLike(nn.Module):
    """Features (B, M, T) and lengths to log-probabilities of 80 ms: inputs and output of NeMo's `model.export`.

    The true network needs NeMo, which has a hundred dependencies.
    """

    def __init__(self, num_labels: int, num_mel_bins: int = 80, *, width: int = 24):
        super().__init__()
        widths = (num_mel_bins, width, width)
        self.layers = nn.ModuleList([nn.Conv1d(inputs, width, 3, stride=2, padding=1) for inputs in widths])
        self.output = nn.Conv1d(width, num_labels, 1)
        self.output.weight.data *= 5

    def forward(self, audio_signal: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        hidden = audio_signal
        for layer in self.layers:  # each masks its input, as NeMo's do
            hidden = layer(hidden * (torch.arange(hidden.shape[2])[None] < length[:, None])[:, None])
            length = torch.div(length + 1, 2, rounding_mode="floor")
        return self.output(hidden).transpose(1, 2).log_softmax(dim=-1)


def export(
    model: nn.Module,
    path: Path,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    *,
    time_axis: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an ONNX file with dynamic axes and metadata, as the scripts of these toolkits do."""
    import onnx

    axes: dict[str, Any] = {
        name: {0: "N", **({time_axis: "T"} if values.ndim > 1 else {})} for name, values in inputs.items()
    }
    axes |= {name: {0: "N", **({1: "T"} if number == 0 else {})} for number, name in enumerate(outputs)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model.eval(),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    document = onnx.load(str(path))
    for key, value in (metadata or {}).items():
        entry = document.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(document, str(path))


def write_subsampled(folder: Path, *, lengths: str = "log_probs_len", **metadata: Any) -> Subsampled:
    """A folder of sherpa-onnx with a `Subsampled`, by default as icefall exports a Zipformer; the network."""
    torch.manual_seed(0)
    network = Subsampled(len(PIECES))
    inputs = {"x": torch.zeros(1, 100, 80), "x_lens": torch.tensor([100])}
    metadata = metadata or {"model_type": "zipformer2_ctc"}
    export(network, folder / "model.onnx", inputs, ["log_probs", lengths], metadata=metadata)
    write_tokens(folder / "tokens.txt", PIECES)
    return network


def waveforms(rng: np.random.Generator, *lengths: int) -> list[np.ndarray]:
    """Tones of these lengths, another pitch every 0.1 s, with noise: a network has different frames."""
    sounds = []
    for length in lengths:
        pitch = np.repeat(rng.uniform(200, 6000, -(-length // 1600)), 1600)[:length]
        tones = 0.3 * np.sin(np.cumsum(2 * np.pi * pitch / 16_000))
        sounds.append((tones + rng.normal(0, 0.2, length)).astype(np.float32))
    return sounds
