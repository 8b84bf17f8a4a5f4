"""Time of pretrained encoders on one thread, as a share of real time, in each format of matrix products.

    python tests/benchmarks/bench_pretrained.py whisper-tiny.en whisper-base

Each is a folder with config.json and model.safetensors, or torchaudio:NAME. The input is 15 s of noise. Formats that
this processor cannot run an LSTM in are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from formats import runnable
from timing import machine, spread, take_turns

from asr.acoustic.pretrained import PretrainedEncoder, load_encoder
from asr.acoustic.shapes import SAMPLE_RATE
from asr.compute.device import autocast

SECONDS = 15
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="with config.json and model.safetensors, or torchaudio:NAME"
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine("torch"))
    encoders = {folder: load_encoder(folder)[0] for folder in args.folders}
    contenders = {
        f"{folder} {name}": encode(encoder, getattr(torch, name))
        for folder, encoder in encoders.items()
        for name in runnable(("float32", "bfloat16"), training=False)
    }
    for name, seconds in take_turns(contenders, rounds=args.rounds).items():
        print(f"{name}: real-time factor {spread([value / SECONDS for value in seconds], digits=4)}")


def encode(encoder: PretrainedEncoder, dtype: torch.dtype) -> Callable[[], None]:
    """A function that encodes the noise."""
    waveforms = 0.1 * torch.randn(1, SECONDS * SAMPLE_RATE)
    lengths = torch.tensor([waveforms.shape[1]])

    @torch.inference_mode()
    def run() -> None:
        with autocast(dtype, CPU):
            encoder(waveforms, lengths)

    return run


if __name__ == "__main__":
    main()
