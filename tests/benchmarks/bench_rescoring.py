"""The cost of rescoring hypotheses with a recurrent language model, against the acoustic model, on one thread.

    python tests/benchmarks/bench_rescoring.py --data runs/an4/data
    python tests/benchmarks/bench_rescoring.py --data runs/an4/data --lm runs/words/model --counts 10 100

acoustic  the test set transcribed greedily, in the batches of `asr-transcribe`
rescore   its n-best lists scored by the language model as one prefix tree, with the same format of matrix products:
          milliseconds, milliseconds per hypothesis, and the ratio to the acoustic time
padded    the same texts in padded batches, sorted by length: the ratio to the time of the tree
near      the hypotheses of n = 100 within `rescore_within` of the best one: the ones that decoding rescores by default

--data is the folder with the manifests of recipes/an4. The scores of the tree must agree with the padded ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import machine, ratios, spread, take_turns

import asr
from asr.compute.device import autocast
from asr.data.manifest import read_manifest
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import find_language_model
from asr.lm.rnn import LanguageModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with test.jsonl.gz")
    parser.add_argument("--model", default="an4", help="acoustic model (default: an4)")
    parser.add_argument("--lm", help="language model (default: the one in the acoustic model's folder)")
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[10, 100, 500],
        help="lengths n of the n-best lists (default: 10 100 500)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = asr.load(args.model, device="cpu", decoding={"beam_width": 1})
    print(f"{machine('torch', 'numpy')}; {recognizer.dtype}")
    own = asr.load(args.model, device="cpu").decoder.options.rescoring.rescore_lm
    model = LanguageModel.load(find_language_model(args.lm or own))
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"language model of {model.config.unit}s, {model.vocabulary.size} tokens, {weights:.2f} M weights")
    sounds = [item.audio for item in read_manifest(args.data / "test.jsonl.gz")]
    emissions = [recognizer.log_probs(sound) for sound in sounds]
    for count in args.counts:
        options = asr.DecodingOptions.of(beam_width=max(count, 2), num_best=count)
        decoder = asr.Decoder(recognizer.model.alphabet, options)
        texts = [item.text for emission in emissions for item in decoder.decode(emission).hypotheses]
        difference = float(np.abs(score_together(model, texts) - model.score_batch(texts)).max())
        assert difference < 1e-3, difference
        report(f"n = {count}", recognizer, sounds, model, texts, rounds=args.rounds)
    options = asr.DecodingOptions.of(beam_width=100, num_best=100)
    decoder = asr.Decoder(recognizer.model.alphabet, options)
    near = []
    for emission in emissions:
        hypotheses = decoder.decode(emission).hypotheses
        least = hypotheses[0].score - options.rescoring.rescore_within
        near += [item.text for item in hypotheses if item.score >= least]
    report("near", recognizer, sounds, model, near, rounds=args.rounds)


def report(
    name: str, recognizer: asr.Recognizer, sounds: list[Path], model: LanguageModel, texts: list[str], *, rounds: int
) -> None:
    """Print the times of one set of hypotheses."""

    def inside(score: Callable[[], object]) -> None:
        with autocast(recognizer.dtype, recognizer.device):
            score()

    contenders: dict[str, Callable[[], object]] = {
        "acoustic": lambda: list(recognizer.transcribe_many(sounds)),
        "rescore": lambda: inside(lambda: score_together(model, texts)),
        "padded": lambda: inside(lambda: model.score_batch(texts)),
    }
    seconds = take_turns(contenders, rounds=rounds)
    print(
        f"{name:8} {len(texts)} hypotheses: acoustic {spread(seconds['acoustic'], scale=1000, unit='ms', digits=0)}, "
        f"rescore {spread(seconds['rescore'], scale=1000, unit='ms', digits=0)}, "
        f"{1000 * float(np.median(seconds['rescore'])) / len(texts):.3f} ms each, "
        f"{spread(ratios(seconds, 'rescore', 'acoustic'))} of the acoustic pass; "
        f"padded {spread(ratios(seconds, 'padded', 'rescore'))} times the rescoring",
        flush=True,
    )


if __name__ == "__main__":
    main()
