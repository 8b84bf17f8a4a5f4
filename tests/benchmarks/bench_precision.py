"""Speed and WER of the formats of matrix products, float32, bfloat16 and int8, on one thread of a CPU.

    python tests/benchmarks/bench_precision.py --manifest runs/an4/data/test.jsonl.gz
    python tests/benchmarks/bench_precision.py --manifest test.jsonl.gz --model runs/mine/model --limit 100

int8 is torch's dynamic quantisation of the recurrent and linear layers: weights in int8, activations quantised at run
time. bfloat16 is left out if the processor cannot run an LSTM in it. All decode greedily. WER has its 95 % interval;
times are medians over rounds in which the formats take turns.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from formats import runnable
from timing import machine, ratios, spread, take_turns
from torch import nn

import asr
from asr.data.manifest import read_manifest
from asr.evaluation.error_rates import Evaluation, evaluate

GREEDY = {"beam_width": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="utterances to transcribe (a Lhotse CutSet)")
    parser.add_argument("--model", default="an4", help="(default: an4)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N utterances (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine("torch"))
    utterances = read_manifest(args.manifest)[: args.limit]
    recognizers = {
        name: asr.load(args.model, device="cpu", precision=name, decoding=GREEDY)
        for name in runnable(("float32", "bfloat16"), training=False)
    }
    recognizers["int8"] = quantized(recognizers["float32"])
    evaluations: dict[str, Evaluation] = {}

    def contender(name: str) -> Callable[[], None]:
        def run() -> None:
            evaluations[name] = evaluate(recognizers[name], utterances)

        return run

    seconds = take_turns({name: contender(name) for name in recognizers}, rounds=args.rounds)
    sound = sum(utterance.duration_seconds for utterance in utterances)
    print(f"{len(utterances)} utterances, {sound / 60:.1f} minutes")
    for name, evaluation in evaluations.items():
        low, high = evaluation.wer.interval or (0.0, 1.0)
        print(
            f"{name:8}  real-time factor {spread([value / sound for value in seconds[name]], digits=4)}, "
            f"{spread(ratios(seconds, 'float32', name))} times as fast as float32, "
            f"WER {evaluation.wer.counts.rate:.2%} ({low:.2%} to {high:.2%})"
        )


def quantized(recognizer: asr.Recognizer) -> asr.Recognizer:
    """The recogniser with the weights of its recurrent layers in int8."""
    other = copy.deepcopy(recognizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.ao.quantization.quantize_dynamic(
            other.model.encoder, {nn.LSTM, nn.GRU, nn.Linear}, dtype=torch.qint8, inplace=True
        )
    return other


if __name__ == "__main__":
    main()
