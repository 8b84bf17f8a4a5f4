"""General English language models of words, characters and n-grams, measured on books and on homophones."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from asr.cli.arguments import Parser, at_least, show_progress
from asr.cli.command import INTERRUPTED, noter, run_command, say, set_threads, write_result
from asr.cli.train import add_processes
from asr.corpora import homophones
from asr.corpora.homophones import Pair
from asr.corpora.lm_text import write_lm_text
from asr.corpora.overlap import Withheld
from asr.corpora.pronunciations import read_cmudict
from asr.data.manifest import is_manifest, read_manifest
from asr.errors import DataError, InputError
from asr.lm.corpus import read_sentences
from asr.lm.ngram import NgramModel
from asr.lm.perplexity import SentenceScore, TextScore
from asr.lm.recurrent import NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.lm.scoring import NgramScorer, Scorer, score_stream
from asr.lm.vocabulary import VocabularyOptions
from asr.text.normalization import TextOptions, normalize
from asr.training.config import LanguageLoopOptions, LanguageTrainingConfig, NgramTrainingConfig, TextDataOptions
from asr.training.language import train_language_model
from asr.training.loop import Interrupted
from asr.training.ngram import train_ngram

PROG = "recipes/english_lm/run.py"
NAME = "english-lm"
TEXT = TextOptions()
CHARACTERS = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LEARNED = ("novels", "eltec", "standard_ebooks", "common_voice_sentences")
DEV, TEST = "novels_dev", "novels_test"
MAX_WORDS = 40_000
WEIGHTS = [tenths / 10 for tenths in range(1, 10)]  # weight of the n-gram model in a mixture

EXAMPLES = """\
The text folder holds novels, eltec, standard_ebooks (all three made by
recipes.english_lm.texts), novels_dev, novels_test, common_voice_sentences and
cmudict, each .txt.xz. Sentences that share eight words with a --withhold
file or with the held-out books are left out: manifests (.jsonl.gz), tables with
a column `transcript` (.tsv), or plain texts.

After Ctrl-C or any kill, the same command resumes; only the last minutes are
lost. Texts are written to OUTPUT/data, runs to OUTPUT/words and
OUTPUT/characters, and the model, in half precision, to OUTPUT/english-lm.
Existing results are reused: other texts or --withhold files need another OUTPUT.

examples:
  python -m recipes.english_lm.run --text corpora/text --withhold test.tsv
  python -m recipes.english_lm.run --text corpora/text --models words ngram
"""


@dataclass(frozen=True)
class Result:
    """The scores of a model on held-out text and homophones."""

    name: str
    dev: TextScore
    test: TextScore
    right: int
    pairs: int


def configuration(data: Path, *, unit: str, epochs: int) -> LanguageTrainingConfig:
    """The choices of this recipe; their costs and effects are in its README.md."""
    words = unit == "word"
    return LanguageTrainingConfig(
        data=TextDataOptions(
            train=(str(data / "train.txt"),),
            dev=(str(data / "dev.txt"),),
            batch_size=64,
            chunk_length=32 if words else 128,
        ),
        text=TEXT,
        vocabulary=VocabularyOptions(unit="word" if words else "character", max_size=MAX_WORDS),
        network=NetworkOptions(hidden_size=640, embedding_size=256, divisor=2)
        if words
        else NetworkOptions(hidden_size=512, embedding_size=64),
        loop=LanguageLoopOptions(epochs=epochs, learning_rate=2e-3, warmup_epochs=0.02),
        name=NAME,
        description="general English, from books and everyday sentences; capitals without punctuation",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english_lm.run --text DIR [--withhold FILE...] [OPTION...]",
        description="Train general English language models and compare them.",
        examples=EXAMPLES,
    )
    parser.add_argument("--text", type=Path, required=True, metavar="DIR", help="the folder of texts")
    parser.add_argument("--withhold", type=Path, nargs="*", default=[], metavar="FILE", help="texts of later tests")
    parser.add_argument("--output", type=Path, default=Path("runs/english_lm"), metavar="DIR", help="runs/english_lm")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=("ngram", "words", "characters"),
        default=("ngram", "words"),
        metavar="MODEL",
        help="ngram, words, characters (default: ngram words)",
    )
    parser.add_argument(
        "--epochs",
        type=at_least(1),
        default=2,
        metavar="N",
        help="of the words; of the characters always 1 (default: 2)",
    )
    add_processes(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the stages in order; each resumes the work of an earlier call."""
    note = noter(args, prog=PROG)
    data = args.output / "data"
    prepare(args.text, args.withhold, data, note=note)
    pairs = homophones.read_pairs(data / "homophones.tsv")
    scorers: dict[str, Scorer] = {}
    for model in args.models:
        start = time.monotonic()
        try:
            scorers[model] = train(model, args, note)
        except Interrupted as interrupted:
            say(interrupted, prog=PROG)
            return INTERRUPTED
        note(f"{model}: ready after {(time.monotonic() - start) / 3600:.2f} hours of this call")
    results = [measure(name, [scorer], data, pairs) for name, scorer in scorers.items()]
    if {"ngram", "words"} <= scorers.keys():
        results.append(measure("words + ngram", [scorers["words"], scorers["ngram"]], data, pairs))
    if isinstance(model := scorers.get("words"), LanguageModel):
        model.config = replace(model.config, provenance={**model.config.provenance, **provenance(results)})
        model.save(args.output / NAME, stored="float16")
    write_result("".join(f"{line}\n" for line in table(results)))
    return 0


def prepare(texts: Path, withhold: Sequence[Path], data: Path, *, note: Callable[[str], None]) -> None:
    """Write train.txt, dev.txt, test.txt and homophones.tsv to the folder `data`."""
    held_out = [texts / f"{name}.txt.xz" for name in (DEV, TEST)]
    learned = [texts / f"{name}.txt.xz" for name in LEARNED]
    nothing = Withheld([])
    for name, source in zip(("dev.txt", "test.txt"), held_out, strict=True):
        if not (data / name).exists():
            write_lm_text([source], data / name, withheld=nothing, options=TEXT, characters=CHARACTERS, note=note)
    if not (data / "train.txt").exists():
        test_texts = chain(read_sentences(held_out, TEXT), chain.from_iterable(map(transcripts, withhold)))
        write_lm_text(
            learned,
            data / "train.txt",
            withheld=Withheld(test_texts),
            options=TEXT,
            characters=CHARACTERS,
            note=note,
        )
    if not (data / "homophones.tsv").exists():
        homophones.prepare(
            held_out=held_out,
            texts=learned,
            dictionary=read_cmudict(texts / "cmudict.txt.xz"),
            options=TEXT,
            destination=data / "homophones.tsv",
        )


def transcripts(path: Path) -> Iterator[str]:
    """The normalised texts of a manifest, of the column `transcript` of a table, or of a text file.

    Raises:
        DataError: the file cannot be read, or the table has no such column.
    """
    if is_manifest(path):
        yield from (normalize(utterance.text, TEXT) for utterance in read_manifest(path))
    elif path.suffix == ".tsv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if "transcript" not in (rows.fieldnames or ()):
                raise DataError("the table must have a column transcript, but has none", path=path, line=1)
            for row in rows:
                yield normalize(row["transcript"], TEXT)
    else:
        yield from read_sentences([path], TEXT)


def train(model: str, args: argparse.Namespace, note: Callable[[str], None]) -> Scorer:
    """One of the models, trained now or by an earlier call."""
    data = args.output / "data"
    if model == "ngram":
        path = args.output / "ngram.arpa.gz"
        if not path.exists():
            ngram = NgramTrainingConfig(train=(str(data / "train.txt"),), order=5, max_words=MAX_WORDS)
            train_ngram(ngram, path, note=note)
        return NgramScorer(NgramModel.read(path), TEXT)
    folder = args.output / model
    if (folder / "model").exists():
        return LanguageModel.load(folder / "model")
    set_threads(args)
    config = configuration(data, unit=model.removesuffix("s"), epochs=args.epochs if model == "words" else 1)
    progress = show_progress(args)
    return train_language_model(config, folder, device=args.device, note=note, progress=progress, processes=args.nproc)


def measure(name: str, scorers: Sequence[Scorer], data: Path, pairs: Sequence[Pair]) -> Result:
    """The scores of a model, or of a mixture of two with the weight that is best on dev."""

    def scores(sentences: Iterable[str]) -> list[list[SentenceScore]]:
        sentences = list(sentences)
        return [[score for _, score in score_stream(scorer, sentences)] for scorer in scorers]

    def mixed(parts: list[list[SentenceScore]], weight: float) -> list[SentenceScore]:
        if len(parts) == 1:
            return parts[0]
        return [interpolate(one, other, weight=weight) for one, other in zip(*parts, strict=True)]

    def total(scores: Iterable[SentenceScore]) -> TextScore:
        return sum((score.counts for score in scores), TextScore())

    dev = scores(read_sentences([data / "dev.txt"], TEXT))
    weight = max(WEIGHTS if len(scorers) > 1 else [0.0], key=lambda weight: total(mixed(dev, weight)).log_prob)
    test = scores(read_sentences([data / "test.txt"], TEXT))
    right, wrong = (mixed(scores(getattr(pair, side) for pair in pairs), weight) for side in ("right", "wrong"))
    return Result(
        name=f"{name} ({weight:g} of the last)" if len(scorers) > 1 else name,
        dev=total(mixed(dev, weight)),
        test=total(mixed(test, weight)),
        right=sum(one.log_prob > other.log_prob for one, other in zip(right, wrong, strict=True)),
        pairs=len(pairs),
    )


def interpolate(one: SentenceScore, other: SentenceScore, *, weight: float) -> SentenceScore:
    """The score of the mixture of two models, token by token: log((1 - weight) p_one + weight p_other).

    Args:
        one, other: scores of the same sentence by models with the same tokens; for a true mixture also the same
            vocabulary.
        weight: of the other model, in 0 .. 1.
    Raises:
        InputError: the tokens are not the same, or the weight is out of range.
    """
    if not 0.0 <= weight <= 1.0:
        raise InputError(f"the weight of a model in a mixture must be in 0 .. 1, not {weight}")
    if one.tokens != other.tokens:
        raise InputError(f"two models must have the same tokens to be mixed, but have {one.tokens} and {other.tokens}")
    with np.errstate(divide="ignore"):
        shares = np.log([1.0 - weight, weight])
    log_probs = np.logaddexp(shares[0] + one.log_probs, shares[1] + other.log_probs)
    return replace(one, log_probs=log_probs)


def table(results: Sequence[Result]) -> Iterator[str]:
    """A table of the scores, one row per model."""
    yield f"{'':28}{'dev ppl':>9}{'test ppl':>10}{'per char':>10}{'<unk>':>8}{'homophones':>14}"
    for result in results:
        yield (
            f"{result.name:28}{result.dev.word_perplexity:9.1f}{result.test.word_perplexity:10.1f}"
            f"{result.test.character_perplexity:10.4f}{result.test.unknown_rate:8.2%}"
            f"{result.right / result.pairs:8.1%} of {result.pairs}"
        )


def provenance(results: Sequence[Result]) -> dict[str, object]:
    """The provenance of the model: texts, licences and scores."""
    return {
        "corpus": "English books out of copyright, many of them from ELTeC and Standard Ebooks; Common Voice and "
        "Tatoeba sentences, dialogues and speeches",
        "licence": "public domain (books, speeches), CC0 (Standard Ebooks, Common Voice), CC BY 4.0 (ELTeC, "
        "NLU-Evaluation-Data, Taskmaster-4), 3.0 (CLINC150), 2.0 FR (Tatoeba), the terms of the ANC (MASC)",
        "results": {
            result.name: {
                "dev perplexity": round(result.dev.word_perplexity, 2),
                "test perplexity": round(result.test.word_perplexity, 2),
                "homophones": round(result.right / result.pairs, 4),
            }
            for result in results
        },
    }


if __name__ == "__main__":
    sys.exit(main())
