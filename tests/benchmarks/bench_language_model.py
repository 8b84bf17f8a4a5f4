"""Training of a word language model against a bare nn.LSTM with the same steps: words per second, and ratios.

    python tests/benchmarks/bench_language_model.py
    python tests/benchmarks/bench_language_model.py --threads 1 --precisions bfloat16 --hidden-size 1024

ours     LanguageTask in `fit`: tokens read from disk, state carried over, tied embeddings, log written
untied   the same with separate embeddings
bare     nn.Embedding, nn.LSTM, nn.Linear and nn.AdaptiveLogSoftmaxWithLoss on chunks in memory, state carried over

All use AdamW with clipped gradients, the same chunks, and the same number format. The words of the text have a Zipf
distribution.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from formats import runnable
from timing import machine, ratios, spread, take_turns
from torch import nn

from asr.compute.device import autocast
from asr.lm.recurrent import NetworkOptions
from asr.lm.vocabulary import VocabularyOptions
from asr.training.config import LanguageLoopOptions, LanguageTrainingConfig, TextDataOptions
from asr.training.language_task import prepare_language_task
from asr.training.log import TrainingLog
from asr.training.optimizer import make_optimizer, update
from asr.training.text import Chunk

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=40_000, help="words in the vocabulary (default: 40000)")
    parser.add_argument("--hidden-size", type=int, default=640, help="(default: 640)")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], help="(default: both)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--steps", type=int, default=4, help="steps in a round (default: 4)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    args = parser.parse_args()

    print(machine("torch"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "text.txt", num_words=args.vocabulary)
        for precision in runnable(args.precisions, training=True):
            config = configuration(folder / "text.txt", args, precision)
            tokens = config.data.batch_size * config.data.chunk_length * args.steps
            for threads in args.threads:
                torch.set_num_threads(threads)
                untied = replace(config, network=replace(config.network, tied=False))
                contenders = {
                    "ours": ours(config, folder / f"{precision}-{threads}", args.steps),
                    "untied": ours(untied, folder / f"{precision}-{threads}-untied", args.steps),
                    "bare": bare(config, folder / f"{precision}-{threads}-bare", args.steps),
                }
                seconds = take_turns(contenders, rounds=args.rounds)
                rates = {name: [tokens / value for value in values] for name, values in seconds.items()}
                print(
                    f"{precision:8} {threads} thread{'s' * (threads > 1):1} words/s: "
                    + ", ".join(f"{name} {spread(values, digits=0)}" for name, values in rates.items())
                    + f"; ours / bare {spread(ratios(seconds, 'bare', 'ours'))}",
                    flush=True,
                )


def write_text(path: Path, *, num_words: int) -> None:
    """Write a million words; the n-th occurs 1 / n times as often as the first, and each occurs twice at least."""
    rng = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, num_words + 1)
    sample = rng.choice(num_words, 1_000_000 - 2 * num_words, p=shares / shares.sum())
    words = rng.permutation(np.concatenate([sample, np.arange(num_words), np.arange(num_words)]))
    path.write_text("\n".join(" ".join(f"w{word}" for word in line) for line in np.array_split(words, 60_000)))


def configuration(text: Path, args: argparse.Namespace, precision: str) -> LanguageTrainingConfig:
    dev = text.with_name("dev.txt")
    dev.write_text("w1 w2\n")
    return LanguageTrainingConfig(
        data=TextDataOptions(train=(str(text),), dev=(str(dev),), batch_size=64),
        vocabulary=VocabularyOptions(max_size=args.vocabulary),
        network=NetworkOptions(hidden_size=args.hidden_size, divisor=2),
        loop=LanguageLoopOptions(precision=precision),  # type: ignore[arg-type]
    )


def ours(config: LanguageTrainingConfig, folder: Path, steps: int) -> Callable[[], None]:
    task = prepare_language_task(config, folder, device=CPU, note=lambda _: None)
    task.modules.train()
    optimizer = make_optimizer(task.modules, config.loop)

    def run() -> None:
        with closing(TrainingLog(folder)) as log:
            for step, chunk in enumerate(islice(task.batches(0, start=0), steps)):
                result = task.loss(chunk, generator=torch.Generator())
                norm = update(task.modules, optimizer, result.loss, rate=1e-3, clip_norm=config.loop.clip_norm)
                log.write("step", step=step, **result.figures, gradient_norm=norm)

    return run


def bare(config: LanguageTrainingConfig, folder: Path, steps: int) -> Callable[[], None]:
    task = prepare_language_task(config, folder, device=CPU, note=lambda _: None)
    chunks: list[Chunk] = list(islice(task.batches(0, start=0), steps))
    size, network = task.model.vocabulary.size, config.network
    cutoffs = [cutoff for cutoff in network.cutoffs if cutoff < size]
    embedding = nn.Embedding(size, network.embedding_size)
    lstm = nn.LSTM(network.embedding_size, network.hidden_size, batch_first=True)
    projection = nn.Linear(network.hidden_size, network.embedding_size)
    softmax = nn.AdaptiveLogSoftmaxWithLoss(network.embedding_size, size, cutoffs, div_value=network.divisor)
    dropout = partial(nn.functional.dropout, p=network.dropout)
    parameters = [weight for part in (embedding, lstm, projection, softmax) for weight in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    precision = getattr(torch, config.loop.precision)

    def run() -> None:
        state = None
        for chunk in chunks:
            with autocast(precision, CPU):
                hidden, state = lstm(dropout(embedding(chunk.inputs)), state)
                hidden = projection(dropout(hidden))
            loss = softmax(hidden.float().flatten(0, 1), chunk.targets.flatten()).loss
            state = tuple(part.detach().float() for part in state)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config.loop.clip_norm)
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
