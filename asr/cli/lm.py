"""asr-lm: train language models, measure them, score and draw sentences, and adapt a recogniser to texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli.arguments import Parser, add_options, given_options, given_values, progress_bar
from asr.cli.command import Commands, noter, run_subcommand, say, say_next, set_threads, write_result
from asr.cli.train import add_run, check_data, configured_values, merged, train_in_folder
from asr.errors import ConfigError, DataError
from asr.files.texts import lines_with_ends
from asr.options import from_json, to_json

if TYPE_CHECKING:
    from asr.lm.perplexity import TextScore
    from asr.lm.scoring import Scorer
    from asr.training.config import LanguageTrainingConfig

PROG = "asr-lm"
_DEFAULT = "default: english-lm"
_NAMED = 8  # words in a message

_EXAMPLES = """\
commands (see asr-lm COMMAND --help):
  train         train a recurrent or an n-gram model on text
  perplexity    measure how well a model predicts a text
  score         print the log-probability of sentences
  sample        draw random sentences from a model
  adapt         teach a recogniser the words and phrases of your texts

examples:
  asr-lm score "the apple and pear salad" "the apple and pair salad"
  asr-lm sample --count 5 --temperature 0.8
  asr-lm perplexity held-out.txt.gz --lm runs/lm/model
  asr-lm train --run runs/lm --data.train text.txt --data.dev held-out.txt
  asr-lm adapt manual.md mails.txt --output models/mine
"""

_TRAIN_EXAMPLES = """\
the text:
  One sentence a line, plain, .gz or .xz; empty lines are skipped. The text
  options, which are saved in the model, normalise it. It may be larger than
  memory: the run folder needs one to four bytes for each token.

precedence of options:
  Flags override the --config file, which overrides the defaults. Every run
  folder has such a file, config.json. With --init, the model's vocabulary,
  text and network options replace the defaults.

the run folder:
  config.json, text/, log.jsonl, tensorboard/, checkpoints/, and at the end
  model/. The path of model/ is printed on standard output. Ctrl-C (once) saves
  a checkpoint. To continue, run the same command again, or
  asr-lm train --run DIR --resume.

examples:
  asr-lm train --run runs/lm --data.train a.txt,b.txt.xz --data.dev dev.txt
  asr-lm train --run runs/chars --data.train a.txt --data.dev dev.txt \\
               --vocabulary.unit character --network.embedding-size 64
  asr-lm train --run runs/lm --resume --nproc 2
  asr-lm train --run runs/mine --init english-lm --data.train mine.txt \\
               --data.dev dev.txt --loop.learning-rate 2e-4 --loop.epochs 2
  asr-lm train --kind ngram --train a.txt --order 5 --output lm.arpa.gz
"""

_NGRAM_EXAMPLES = """\
examples:
  asr-lm train --kind ngram --train a.txt,b.txt.xz --output lm.arpa.gz
  asr-lm train --kind ngram --train a.txt --order 5 --prune 0,0,1 \\
               --output lm.arpa.gz
"""

_PERPLEXITY_EXAMPLES = """\
how it is computed:
  Sentences are independent. The end of a sentence counts as a word and as a
  character. Perplexity per word is exp(-log P(text) / words), for any kind of
  token, so models of words, of characters and of n-grams are comparable. An
  unknown word has the probability of <unk>, which is higher than the
  probability of its spelling: compare the rate of unknown words too. Sentences
  with characters outside the vocabulary of a character model are left out.

examples:
  asr-lm perplexity held-out.txt --lm runs/lm/model
  asr-lm perplexity held-out.txt --lm lm.arpa.gz --case lower
"""

_SCORE_EXAMPLES = """\
output:
  One line for each sentence, in order: the natural logarithm of its
  probability, a tab, and the sentence. Empty sentences are scored too. With
  --tokens, a line for each token follows: a tab, the log-probability, a tab,
  and the token; for an unknown token, also a tab and <unk>. A sentence with
  characters outside the vocabulary of a character model has -inf. Sums over the
  other sentences are printed on standard error.

examples:
  asr-lm score "the apple and pear salad" "the apple and pair salad"
  asr-lm score --lm an4 "enter six two" "enter sicks too"
  asr-lm score --lm runs/lm/model --tokens "I can hear you"
  asr-lm score --lm lm.arpa.gz < sentences.txt | sort -rn
"""

_SHORT_TRAIN = (
    *("kind", "run", "config", "resume", "nproc", "data.train", "data.dev", "init", "vocabulary.unit", "loop.epochs"),
    *("train", "output", "order", "unit", "device"),
)
_SAMPLE_EXAMPLES = """\
examples:
  asr-lm sample --count 10
  asr-lm sample --lm runs/lm/model --prompt "she looked at" --top-k 50
"""

_ADAPT_EXAMPLES = """\
the texts:
  Plain text (.gz and .xz too), Markdown (.md), Word documents (.docx), or
  manifests; paragraphs or a sentence a line. A few pages help. Words with
  characters that the model cannot spell, such as digits, are reported; --numbers
  spell writes numbers in words.

what it does:
  The n-grams of the texts are interpolated with those of the model, with the
  weight that fits parts of the texts best, and every new word becomes known. No
  recording is needed and the acoustic model does not change. DIR is a model
  folder for all commands; its path is printed on standard output. With
  recordings of such texts, asr-evaluate DIR MANIFEST --tune tunes its weights.

examples:
  asr-lm adapt mails/*.txt manual.md --output models/mine
  asr-lm adapt reports/*.docx --output models/mine --model english --numbers spell
  asr-transcribe talk.wav --model models/mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-lm` with these arguments, or the arguments of the process."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["--"]:  # as in asr.cli.train
        del arguments[0]
    return run_subcommand(
        PROG,
        COMMANDS,
        arguments,
        description="Train, measure and sample language models, and adapt a recogniser to texts.",
        examples=_EXAMPLES,
    )


def make_train_parser(arguments: Sequence[str]) -> Parser:
    """The parser of `asr-lm train`, for the kind of model in the arguments."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--kind", default="rnn")
    ngram = early.parse_known_args(arguments)[0].kind == "ngram"
    from asr.training.config import LanguageTrainingConfig, NgramTrainingConfig

    parser = Parser(
        f"{PROG} train",
        usage="asr-lm train --run DIR [--config FILE] [--resume] [--GROUP.OPTION X...]\n"
        "       asr-lm train --kind ngram --train TEXT,... --output FILE [OPTION...]",
        description="Train an n-gram language model by modified Kneser-Ney smoothing."
        if ngram
        else "Train a recurrent language model, or resume an interrupted training.",
        examples=_NGRAM_EXAMPLES if ngram else _TRAIN_EXAMPLES,
        short=_SHORT_TRAIN,
    )
    parser.add_argument("--kind", choices=("rnn", "ngram"), default="rnn", help="kind of model; options depend on it")
    if ngram:
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FILE", help="write here: .arpa, .arpa.gz or .safetensors"
        )
        add_options(parser, NgramTrainingConfig, title="model")
        return parser
    add_run(parser)
    add_options(parser, LanguageTrainingConfig, title="model")
    return parser


def train(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    if args.kind == "ngram":
        from asr.training.config import NgramTrainingConfig
        from asr.training.ngram import train_ngram

        values = given_values(args, NgramTrainingConfig)
        if "train" not in values:
            raise ConfigError("the texts to train on must be given: --train TEXT,...")
        train_ngram(from_json(NgramTrainingConfig, values), args.output, note=noter(args, prog=f"{PROG} train"))
        write_result(f"{args.output}\n")
        return 0
    config = read_training_config(args)
    from asr.training.language import train_language_model

    return train_in_folder(partial(train_language_model, config), args, prog=f"{PROG} train")


def read_training_config(args: argparse.Namespace) -> LanguageTrainingConfig:
    """The configuration from flags, file, run folder and initial model."""
    from asr.training.config import LanguageTrainingConfig

    values = configured_values(args, LanguageTrainingConfig)
    if (init := values.get("init")) and isinstance(init, str):
        from asr.files.model_config import read_model_config
        from asr.lm.recurrent import KIND, LanguageModelConfig, find_language_model

        folder = find_language_model(init)
        model = read_model_config(folder, LanguageModelConfig, kind=KIND)
        parts = {part: to_json(getattr(model, part)) for part in ("text", "network")}
        values = merged(parts, {**values, "init": str(folder)})
    check_data(values, args.run, what="texts")
    return from_json(LanguageTrainingConfig, values)


def make_perplexity_parser(arguments: Sequence[str]) -> Parser:
    """The parser of `asr-lm perplexity`."""
    parser = Parser(
        f"{PROG} perplexity",
        usage="asr-lm perplexity TEXT... [--lm NAME|DIR|FILE] [OPTION...]",
        description="Print the perplexity of a language model on text files, per word and per character.",
        examples=_PERPLEXITY_EXAMPLES,
        short=("texts", "sentences", "lm", "kind", "tokens", "output", "device", "quiet"),
    )
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="text with one sentence a line: plain, .gz or .xz")
    _add_model(parser)
    return parser


def perplexity(args: argparse.Namespace) -> int:
    """Print perplexities; returns the exit status."""
    from asr.lm.corpus import read_texts
    from asr.lm.perplexity import TextScore
    from asr.lm.scoring import score_stream

    scorer = _load_scorer(args)
    for text in args.texts:
        total, impossible = TextScore(), 0
        lines = (line for line in read_texts(text) if line.strip())
        for _, score in progress_bar(args, score_stream(scorer, lines), unit="line"):
            if score.text and score.log_prob > -float("inf"):
                total += score.counts
            elif score.text:
                impossible += 1
        if not total.sentences:
            raise DataError("the text must have at least one sentence that the model can score", path=text)
        write_result("".join(f"{line}\n" for line in _figures(text, total, impossible)))
    return 0


def _figures(text: str, total: TextScore, impossible: int) -> Iterator[str]:
    yield f"text          {text}"
    yield f"sentences     {total.sentences}"
    yield f"words         {total.words}"
    yield f"perplexity    {total.word_perplexity:.2f} per word, {total.character_perplexity:.4f} per character"
    yield f"unknown       {total.unknown} tokens ({total.unknown_rate:.2%})"
    if impossible:
        yield f"left out      {impossible} sentences with unknown characters"


def make_score_parser(arguments: Sequence[str]) -> Parser:
    """The parser of `asr-lm score`."""
    parser = Parser(
        f"{PROG} score",
        usage="asr-lm score [SENTENCE...] [--lm NAME|DIR|FILE] [--tokens] [OPTION...]",
        description="Print the log-probability of sentences: the arguments, or the lines of standard input.",
        examples=_SCORE_EXAMPLES,
        short=("texts", "sentences", "lm", "kind", "tokens", "output", "device", "quiet"),
    )
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="(default: standard input, a sentence a line)")
    parser.add_argument("--tokens", action="store_true", help="print the log-probability of each token too")
    _add_model(parser)
    return parser


def score(args: argparse.Namespace) -> int:
    """Print scores; returns the exit status."""
    from asr.lm.perplexity import TextScore
    from asr.lm.scoring import score_stream

    total = TextScore()
    unknown: dict[str, None] = {}
    impossible = 0
    scorer = _load_scorer(args)
    for sentence, result in score_stream(scorer, args.sentences or _standard_input()):
        write_result(f"{result.log_prob:.6f}\t{_one_line(sentence)}\n")
        if args.tokens:
            for token, log_prob, known in zip(result.tokens, result.log_probs, result.known, strict=True):
                write_result(f"\t{log_prob:.6f}\t{token}" + ("\n" if known else "\t<unk>\n"))
        if result.log_prob > -float("inf"):
            total += result.counts
        else:
            impossible += 1
            unknown |= dict.fromkeys(
                token for token, known in zip(result.tokens, result.known, strict=True) if not known
            )
    if not args.quiet:
        say(
            f"{total.sentences} sentences, {total.words} words, {total.unknown} unknown: log-probability "
            f"{total.log_prob:.6f}, perplexity {total.word_perplexity:.4f} per word",
            prog=f"{PROG} score",
        )
    if impossible and not args.quiet:
        some = ", ".join(map(repr, list(unknown)[:8]))
        say(
            f"{impossible} sentences not counted, with unknown characters: {some}{' ...' if len(unknown) > 8 else ''}",
            prog=f"{PROG} score",
        )
    return 0


def _standard_input() -> Iterator[str]:
    """The lines of standard input, without their ends."""
    for line in lines_with_ends(sys.stdin.buffer, errors="backslashreplace"):
        yield line.rstrip("\r\n")


def _one_line(sentence: str) -> str:
    """The sentence with line ends inside it written as escapes."""
    return sentence.translate({ord("\n"): "\\n", ord("\r"): "\\r"})


def make_sample_parser(arguments: Sequence[str]) -> Parser:
    """The parser of `asr-lm sample`."""
    from asr.lm.sampling import SamplingOptions

    parser = Parser(
        f"{PROG} sample",
        usage="asr-lm sample [--count N] [--prompt TEXT] [--lm NAME|DIR] [OPTION...]",
        description="Draw random sentences from a recurrent language model, one a line.",
        examples=_SAMPLE_EXAMPLES,
    )
    parser.add_argument("--lm", metavar="NAME|DIR", help=f"an embedded language model or a model folder ({_DEFAULT})")
    add_options(parser, SamplingOptions, title="sampling")
    return parser


def sample(args: argparse.Namespace) -> int:
    """Print random sentences; returns the exit status."""
    from asr.compute.device import find_device
    from asr.lm.recurrent import find_language_model
    from asr.lm.rnn import LanguageModel
    from asr.lm.sampling import SamplingOptions
    from asr.lm.sampling import sample as draw

    options = given_options(args, SamplingOptions)
    set_threads(args)
    model = LanguageModel.load(find_language_model(args.lm)).to(find_device(args.device))
    for sentence in draw(model, options):
        write_result(f"{sentence}\n")
    return 0


def make_adapt_parser(arguments: Sequence[str]) -> Parser:
    """The parser of `asr-lm adapt`."""
    from asr.training.adaptation import AdaptationOptions

    parser = Parser(
        f"{PROG} adapt",
        usage="asr-lm adapt TEXT... --output DIR [--model NAME|DIR] [OPTION...]",
        description="Teach a recogniser the words and phrases of your texts, without training.",
        examples=_ADAPT_EXAMPLES,
    )
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="your texts")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="write this model folder")
    parser.add_argument("--model", metavar="NAME|DIR", help="the model to start from (default: english)")
    add_options(parser, AdaptationOptions, title="adaptation")
    return parser


def adapt(args: argparse.Namespace) -> int:
    """Adapt a model; returns the exit status."""
    from asr.training import adaptation

    prog = f"{PROG} adapt"
    options = given_options(args, adaptation.AdaptationOptions)
    note = noter(args, prog=prog)
    result = adaptation.adapt(args.texts, args.output, model=args.model, options=options, note=note)
    for words, what in (
        (result.new_words, "new words"),
        (result.not_spelled, "words that the model cannot spell, left out"),
    ):
        if words:
            more = ", ..." if len(words) > _NAMED else ""
            note(f"{len(words)} {what}: {', '.join(words[:_NAMED])}{more}")
    write_result(f"{args.output}\n")
    say_next(["asr-transcribe", "--model", args.output, "FILE"], args, prog=prog)
    return 0


def _add_model(parser: Parser) -> None:
    from asr.text.normalization import TextOptions

    parser.add_argument(
        "--lm",
        metavar="NAME|DIR|FILE",
        help=f"an embedded language model, a model folder, or the file of an n-gram model ({_DEFAULT})",
    )
    add_options(parser, TextOptions, title="for an n-gram model")


def _load_scorer(args: argparse.Namespace) -> Scorer:
    from asr.lm.scoring import load_scorer
    from asr.text.normalization import TextOptions

    text = from_json(TextOptions, values) if (values := given_values(args, TextOptions)) else None
    scorer = load_scorer(args.lm, text=text, device=args.device)
    set_threads(args)
    return scorer


COMMANDS: Commands = {
    "train": (make_train_parser, train),
    "perplexity": (make_perplexity_parser, perplexity),
    "score": (make_score_parser, score),
    "sample": (make_sample_parser, sample),
    "adapt": (make_adapt_parser, adapt),
}

if __name__ == "__main__":
    sys.exit(main())
