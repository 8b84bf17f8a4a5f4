"""What a second of audio costs in training, whatever the machine: operations and memory of the recipes' encoders.

    python tests/benchmarks/bench_cost.py

weights    of the encoder, in millions; a checkpoint has four bytes for each, and eight for the optimiser's two moments
operations multiplications and additions, forward and back, of matrix products and convolutions, counted by torch's
           FlopCounterMode, in billions for a second of audio
saved      bytes that autograd keeps for the backward pass in float32, on the CPU, in millions for a second of audio

An epoch of H hours takes at least 3600 H x operations / (what the machine does in a second); recurrent layers, where
each frame waits for the one before, seldom come near.
"""

from __future__ import annotations

import warnings

import torch
from timing import machine
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asr.acoustic.encoder import Encoder, EncoderOptions
from asr.acoustic.frontend import FrontendOptions
from recipes.librispeech import run as librispeech

NUM_LABELS = 29
SECONDS, UTTERANCES = 10, 4


def main() -> None:
    warnings.filterwarnings("ignore", message="TF32 acceleration")  # of Intel's GPUs, by torch.backends.mkldnn.flags
    print(f"{machine('torch')}; operations and saved: for a second of audio")
    encoders = {"asr-train's defaults": EncoderOptions()} | {
        f"librispeech --hours {hours}": encoder for hours, encoder in librispeech.ENCODERS.items()
    }
    print(f"{'':22} {'weights':>8} {'operations':>11} {'saved':>9}")
    for name, options in encoders.items():
        weights, operations, saved = cost(options)
        print(f"{name:22} {weights / 1e6:7.1f}M {operations / 1e9:10.1f}G {saved / 1e6:6.1f} MB")


def cost(options: EncoderOptions) -> tuple[int, float, float]:
    """Weights, and operations and bytes for a second of audio."""
    frontend = FrontendOptions()
    frames = frontend.num_frames(SECONDS * frontend.sample_rate)
    features = torch.randn(UTTERANCES, frames, frontend.num_features)
    lengths = torch.full((UTTERANCES,), frames)
    encoder = Encoder(options, num_features=frontend.num_features, num_labels=NUM_LABELS)
    weight_storages = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weight_storages:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_probs, _ = encoder(features, lengths)
    log_probs.sum().backward()  # until here all of it is held
    # oneDNN's layers are one operation each, which the counter does not know: without them it sees their products.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        encoder(features, lengths)[0].sum().backward()
    heard = UTTERANCES * SECONDS
    num_weights = sum(parameter.numel() for parameter in encoder.parameters())
    return num_weights, counter.get_total_flops() / heard, sum(kept.values()) / heard


if __name__ == "__main__":
    main()
