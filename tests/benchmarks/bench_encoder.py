"""Our recurrent layer against torch's packed and unpacked bidirectional layers: milliseconds per step, and ratios.

    python tests/benchmarks/bench_encoder.py
    python tests/benchmarks/bench_encoder.py --cells gru peephole-lstm --threads 1 --precisions float32

ours      RecurrentLayer: two one-directional layers over padded sequences, the second one reversed within each length
packed    torch's bidirectional layer over packed sequences, with packing and unpacking: also exact
unpacked  torch's bidirectional layer over the padding: wrong for ragged batches, but a bound on the speed

All have the same weights, and the outputs of ours and packed must agree. torch has no peephole LSTM, so ours is timed
against nn.LSTM. The batch is like one of a middle layer: its lengths fall evenly from the longest to the shortest, by
default as in a minute of AN4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from formats import runnable
from timing import machine, ratios, spread, take_turns
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.acoustic.encoder import RecurrentLayer, reversal, valid
from asr.acoustic.options import EncoderOptions
from asr.compute.device import autocast
from asr.compute.recurrence import Cell

PEERS: dict[Cell, Callable[..., nn.Module]] = {
    "rnn-tanh": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "peephole-lstm": nn.LSTM,
}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm"], choices=PEERS, help="(default: lstm)")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], help="(default: both)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--batch", type=int, default=20, help="sequences in the batch (default: 20)")
    parser.add_argument("--longest", type=int, default=80, help="frames of the longest (default: 80)")
    parser.add_argument("--shortest", type=int, default=56, help="frames of the shortest (default: 56)")
    parser.add_argument(
        "--width", type=int, default=256, help="width of the input and of each direction (default: 256)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="(default: 15)")
    args = parser.parse_args()

    torch.manual_seed(0)
    lengths = torch.linspace(args.longest, args.shortest, args.batch).long()
    inputs = torch.randn(args.batch, args.longest, args.width)
    print(machine("torch"))
    print(
        f"batch {args.batch}, {args.longest}..{args.shortest} frames, width {args.width}; "
        f"median (range) of {args.rounds}"
    )
    for cell in args.cells:
        layers = make_layers(cell, args.width, lengths)
        if cell != "peephole-lstm":
            check_equal(layers["ours"], layers["packed"], inputs, lengths)
        for precision in runnable(args.precisions, training=True):
            for threads in args.threads:
                torch.set_num_threads(threads)
                for mode, step in (("train", training_step), ("infer", inference)):
                    contenders = {
                        name: step(layer, inputs, getattr(torch, precision)) for name, layer in layers.items()
                    }
                    seconds = take_turns(contenders, rounds=args.rounds, warmup=3)
                    print(
                        f"{cell:13} {precision:8} {threads} thread{'s' * (threads > 1):1} {mode}: "
                        f"ours {spread(seconds['ours'], unit='ms', scale=1e3, digits=1)}; "
                        f"packed / ours {spread(ratios(seconds, 'packed', 'ours'))}, "
                        f"unpacked / ours {spread(ratios(seconds, 'unpacked', 'ours'))}",
                        flush=True,
                    )


def make_layers(cell: Cell, width: int, lengths: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """The contenders, (B, T, D) -> (B, T, 2 D), with the same weights if they have the same cells."""
    options = EncoderOptions(
        cell=cell, hidden_size=width, merge="concat", residual=False, layer_norm=False, dropout=0.0
    )
    layer = RecurrentLayer(width, options)
    peer = PEERS[cell](width, width, batch_first=True, bidirectional=True)
    if cell != "peephole-lstm":
        assert layer.backward_cell is not None
        forward, backward = layer.forward_cell.state_dict(), layer.backward_cell.state_dict()
        peer.load_state_dict(forward | {f"{name}_reverse": weights for name, weights in backward.items()})

    def ours(inputs: Tensor) -> Tensor:
        return layer(inputs, reversal(lengths, inputs.shape[1]))

    def packed(inputs: Tensor) -> Tensor:
        outputs, _ = peer(pack_padded_sequence(inputs, lengths, batch_first=True))
        return pad_packed_sequence(outputs, batch_first=True)[0]

    def unpacked(inputs: Tensor) -> Tensor:
        return peer(inputs)[0]

    return {"ours": ours, "packed": packed, "unpacked": unpacked}


@torch.inference_mode()
def check_equal(
    ours: Callable[[Tensor], Tensor], packed: Callable[[Tensor], Tensor], inputs: Tensor, lengths: Tensor
) -> None:
    """Stop the benchmark if the outputs of the contenders differ."""
    own = valid(lengths, inputs.shape[1])
    torch.testing.assert_close(ours(inputs)[own], packed(inputs)[own], rtol=1e-4, atol=1e-5)


def training_step(layer: Callable[[Tensor], Tensor], inputs: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """A forward and backward pass with gradients of inputs and weights, as in the middle of a deep encoder."""
    leaf = inputs.clone().requires_grad_()

    def run() -> None:
        with autocast(dtype, CPU):
            outputs = layer(leaf)
        outputs.float().sum().backward()

    return run


def inference(layer: Callable[[Tensor], Tensor], inputs: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        with autocast(dtype, CPU):
            layer(inputs)

    return run


if __name__ == "__main__":
    main()
