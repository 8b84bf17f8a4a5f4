"""asr-data prepare: a public corpus, downloaded or at hand, as manifests."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from asr.cli.arguments import Parser, add_options, given_options, show_progress
from asr.cli.command import write_result
from asr.errors import ConfigError

PROG = "asr-data prepare"

_EXAMPLES = """\
what is written:
  A manifest (a Lhotse CutSet) for each split; their names and paths go to
  standard output. Audio files stay where they are. Downloads go to
  OUTPUT/corpus, are checked and resumed, and are unpacked whole or not at all:
  after an interruption, the same command goes on.

examples:
  asr-data prepare yesno
  asr-data prepare fsdd --held-out theo --output data/fsdd-theo
  asr-data prepare librispeech --parts train-clean-100,dev-clean,test-clean
  asr-data prepare commonvoice --source cv-corpus-20.0-2024-12-06/pt
  asr-data prepare kaldi --source kaldi/egs/mine/s5/data --output data/mine
  asr-data prepare librispeech --help    says what the corpus is
"""


def make_prepare_parser(arguments: Sequence[str]) -> Parser:
    """The command line of `asr-data prepare`; a corpus that is named first brings its own options and description."""
    names = corpus_names()
    module = _module(arguments[0]) if arguments and arguments[0] in names else None
    about = "" if module is None else f"{(module.__doc__ or '').strip()}\n\n"
    parser = Parser(
        PROG,
        usage="asr-data prepare CORPUS [--source PATH] [--output DIR] [OPTION...]",
        description="Make the manifests of a public corpus.",
        examples=about + _EXAMPLES,
    )
    parser.add_argument("corpus", metavar="CORPUS", help=", ".join(names) or "(none can be imported)")
    where = "the corpus as published: a folder or archive (default: download it)"
    parser.add_argument("--source", type=Path, metavar="PATH", help=where)
    parser.add_argument("--output", type=Path, metavar="DIR", help="to write to (default: data/CORPUS)")
    if module is not None and hasattr(module, "Options"):
        add_options(parser, module.Options, title=f"options of {arguments[0]}")
    return parser


def prepare(args: argparse.Namespace) -> int:
    """Prepares as the arguments say; the exit status.

    Raises:
        ConfigError: there is no such corpus.
    """
    names = corpus_names()
    if args.corpus not in names:
        raise ConfigError(f"the corpus must be one of {', '.join(names) or '(there are none)'}; got {args.corpus!r}")
    module = _module(args.corpus)
    made = module.prepare(
        source=args.source,
        output=args.output or Path("data") / args.corpus,
        progress=show_progress(args),
        **({"options": given_options(args, module.Options)} if hasattr(module, "Options") else {}),
    )
    write_result("".join(f"{name}\t{path}\n" for name, path in made.items()))
    return 0


def corpus_names() -> tuple[str, ...]:
    """The corpora that can be prepared: `data_prep` stands above this package, and may not be installed."""
    try:
        return importlib.import_module("data_prep").CORPORA
    except ModuleNotFoundError:
        return ()


def _module(corpus: str) -> ModuleType:
    return importlib.import_module(f"data_prep.{corpus}")
