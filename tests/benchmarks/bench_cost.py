"""The cost of training on a second of audio, on any machine: operations and memory of the recipes' encoders.

    python tests/benchmarks/bench_cost.py

weights    of the encoder, in millions; a checkpoint has four bytes per weight, and eight for the optimiser's moments
operations multiplications and additions of matrix products and convolutions, forward and backward, counted by torch's
           FlopCounterMode, in billions per second of audio
saved      bytes that autograd stores for the backward pass in float32 on the CPU, in millions per second of audio

An epoch of H hours takes at least 3600 H x operations / (operations of the machine per second). Recurrent layers rarely
come close to this bound, because each frame waits for the frame before.
"""

from __future__ import annotations

import warnings

import torch
from timing import machine
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asr.acoustic.encoder import Encoder
from asr.acoustic.options import EncoderOptions, FrontendOptions
from recipes.librispeech import run as librispeech

NUM_LABELS = 29
SECONDS, UTTERANCES = 10, 4


def main() -> None:
    warnings.filterwarnings("ignore", message="TF32 acceleration")  # about Intel's GPUs
    print(f"{machine('torch')}; operations and saved: per second of audio")
    encoders = {"asr-train's defaults": EncoderOptions()} | {
        f"librispeech --hours {hours}": encoder for hours, encoder in librispeech.ENCODERS.items()
    }
    print(f"{'':22} {'weights':>8} {'operations':>11} {'saved':>9}")
    for name, options in encoders.items():
        weights, operations, saved = cost(options)
        print(f"{name:22} {weights / 1e6:7.1f}M {operations / 1e9:10.1f}G {saved / 1e6:6.1f} MB")


def cost(options: EncoderOptions) -> tuple[int, float, float]:
    """The number of weights, and operations and saved bytes per second of audio."""
    frontend = FrontendOptions()
    frames = frontend.num_frames(SECONDS * frontend.sample_rate)
    features = torch.randn(UTTERANCES, frames, frontend.num_features)
    lengths = torch.full((UTTERANCES,), frames)
    encoder = Encoder(options, num_features=frontend.num_features, num_labels=NUM_LABELS)
    weight_storages = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    saved_bytes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weight_storages:
            saved_bytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_probs, _ = encoder(features, lengths)
    log_probs.sum().backward()  # the saved tensors are freed here
    # The counter cannot count oneDNN's layers, each a single operation; without oneDNN it counts their products.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        encoder(features, lengths)[0].sum().backward()
    num_seconds = UTTERANCES * SECONDS
    num_weights = sum(parameter.numel() for parameter in encoder.parameters())
    return num_weights, counter.get_total_flops() / num_seconds, sum(saved_bytes.values()) / num_seconds


if __name__ == "__main__":
    main()
