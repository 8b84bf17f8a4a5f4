"""The English model of marks and capitals: from books and everyday sentences to a folder of four megabytes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from asr.cli.arguments import Parser, at_least
from asr.cli.command import noter, run_command, set_threads, write_result
from asr.corpora.overlap import Withheld
from asr.files.writing import write_whole
from asr.readable.features import ReadableConfig
from recipes.english_lm.run import transcripts
from recipes.readable_en.texts import (
    Text,
    count_forms,
    gram_table,
    is_held_out,
    mixed_forms,
    read_lines,
    shuffled,
    to_line,
    to_text,
    vocabulary,
)
from recipes.readable_en.training import Batch, Encoder, batches, f1_of, mark_scores, train, tuned_bias

PROG = "recipes/readable_en/run.py"
NAME = "readable-en"
SEED = 1
FIELDS = ("words", "marks", "cases", "starts")
DEV, TEST = ("novels_dev", "everyday_dev"), ("novels_test", "everyday_test")
SETS = ("novels", "everyday", *DEV, *TEST)
CORPUS = (
    "English books out of copyright; Common Voice and Tatoeba sentences, dialogues, speeches; embeddings of english-lm"
)
LICENCE = (
    "public domain (books, speeches), CC0 (Common Voice), CC BY 4.0 (NLU-Evaluation-Data, Taskmaster-4), 3.0 "
    "(CLINC150), 2.0 FR (Tatoeba), the terms of the ANC (MASC)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python -m recipes.readable_en.run --text DIR [--withhold FILE...] [OPTION...]",
        description="Train the English model that writes marks and capitals.",
        examples="After a kill, the same command goes on from the last minute.\n",
    )
    parser.add_argument("--text", type=Path, required=True, metavar="DIR", help="the folder of texts")
    parser.add_argument("--withhold", type=Path, nargs="*", default=[], metavar="FILE", help="texts of later tests")
    parser.add_argument("--output", type=Path, default=Path("runs/readable_en"), metavar="DIR", help="runs/readable_en")
    parser.add_argument("--batches", type=at_least(1), default=24000, metavar="N", help="of training (default: 24000)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the stages in order; each resumes the work of an earlier call."""
    note = noter(args, prog=PROG)
    set_threads(args)
    args.output.mkdir(parents=True, exist_ok=True)
    data = prepare(args.text, args.withhold, args.output / "data.npz", note=note)
    texts = {name: Text(*(data[f"{name}.{field}"] for field in FIELDS)) for name in SETS}
    distinct = data["distinct"].tolist()
    config = ReadableConfig(
        entries=tuple(data["entries"].tolist()),
        mixed=dict(data["mixed"].tolist()),
        name=NAME,
        description="marks and capitals of English text, from books and everyday sentences",
        provenance={"corpus": CORPUS, "licence": LICENCE, "seed": SEED, "batches": args.batches},
    )
    own = np.array([config.numbers.get(word, 0) for word in distinct])
    encoder = Encoder(own, gram_table(distinct, config.network.buckets))

    def epoch(rng: np.random.Generator) -> Iterator[Batch]:
        return alternate(
            batches(texts["novels"], rng, augment=True),
            batches(shuffled(texts["everyday"], rng), rng, augment=True),
            rng,
        )

    checkpoint = args.output / "checkpoint.pt"
    network = train(config, encoder, epoch, checkpoint, num_steps=args.batches, seed=SEED, note=note)
    log_probs, marks = map(
        np.concatenate, zip(*(mark_scores(network, encoder, texts[name]) for name in DEV), strict=True)
    )
    with torch.no_grad():
        network.marks.bias.add_(torch.tensor(tuned_bias(log_probs, marks), dtype=torch.float32))
    network.save(args.output / NAME)
    for name in (*DEV, *TEST):
        log_probs, marks = mark_scores(network, encoder, texts[name])
        scores = "  ".join(f"{mark} {score:.3f}" for mark, score in f1_of(log_probs.argmax(1), marks).items())
        write_result(f"{name:14}  F1  {scores}\n")
    return 0


def prepare(
    folder: Path, withhold: Sequence[Path], path: Path, *, note: Callable[[str], None]
) -> Mapping[str, np.ndarray]:
    """The texts of all sets as arrays, from a file that the first call writes."""
    if not path.exists():
        withheld, nothing = Withheld(chain.from_iterable(map(transcripts, withhold))), Withheld([])
        everyday = list(read_lines(folder / "common_voice_sentences.txt.xz", sentences=True, withheld=withheld))
        held_out = [line for number, line in enumerate(everyday) if is_held_out(number)]
        lines = {
            "novels": list(read_lines(folder / "novels.txt.xz", sentences=False, withheld=withheld)),
            "everyday": [line for number, line in enumerate(everyday) if not is_held_out(number)],
            "novels_dev": list(read_lines(folder / "novels_dev.txt.xz", sentences=False, withheld=nothing)),
            "everyday_dev": held_out[::2],
            "novels_test": list(read_lines(folder / "novels_test.txt.xz", sentences=False, withheld=nothing)),
            "everyday_test": held_out[1::2],
        }
        for name in TEST:
            write_whole(path.parent / f"{name}.txt", "".join(f"{to_line(line)}\n" for line in lines[name]))
        forms = count_forms(chain(lines["novels"], lines["everyday"]))
        numbers: dict[str, int] = {}
        texts = {name: to_text(lines[name], forms, numbers) for name in SETS}
        note("texts: " + ", ".join(f"{name} {len(text.words)} words" for name, text in texts.items()))
        arrays = {f"{name}.{field}": getattr(text, field) for name, text in texts.items() for field in FIELDS}
        mixed = np.array(list(mixed_forms(forms).items()))
        np.savez(path, distinct=np.array(list(numbers)), entries=np.array(vocabulary(forms)), mixed=mixed, **arrays)
    return np.load(path)


def alternate(first: Iterator[Batch], second: Iterator[Batch], rng: np.random.Generator) -> Iterator[Batch]:
    """The batches of both in random order, those of the second for a fifth, until one ends."""
    while True:
        batch = next(second if rng.random() < 0.2 else first, None)
        if batch is None:
            return
        yield batch


if __name__ == "__main__":
    sys.exit(main())
