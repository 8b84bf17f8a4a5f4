"""asr-data prepare: make manifests of a public corpus, and download it if needed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.cli.arguments import Parser, add_options, given_options, show_progress
from asr.cli.command import write_result
from asr.corpora import (
    aishell,
    an4,
    commonvoice,
    fsdd,
    kaldi,
    librispeech,
    ljspeech,
    mini_librispeech,
    mls,
    speechcommands,
    tedlium3,
    thchs30,
    timit,
    vctk,
    yesno,
)
from asr.errors import ConfigError

PROG = "asr-data prepare"
_MODULES = (
    *(aishell, an4, commonvoice, fsdd, kaldi, librispeech, ljspeech, mini_librispeech, mls, speechcommands, tedlium3),
    *(thchs30, timit, vctk, yesno),
)
CORPORA = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
"""Modules with a function `prepare(*, source, output, progress)`, and optionally a class `Options`."""

_EXAMPLES = """\
results:
  A manifest (a Lhotse CutSet) for each split; their names and paths are written
  to standard output. Audio files are used in place. Downloads are written to
  OUTPUT/corpus and checked. After an interruption, the same command resumes.

examples:
  asr-data prepare yesno
  asr-data prepare fsdd --held-out theo --output data/fsdd-theo
  asr-data prepare librispeech --parts train-clean-100,dev-clean,test-clean
  asr-data prepare commonvoice --source cv-corpus-20.0-2024-12-06/pt
  asr-data prepare kaldi --source kaldi/egs/mine/s5/data --output data/mine
  asr-data prepare librispeech --help    describes the corpus
"""


def make_prepare_parser(arguments: Sequence[str]) -> Parser:
    """The command line of `asr-data prepare`; a corpus as first argument adds its options and description."""
    module = CORPORA.get(arguments[0]) if arguments else None
    about = "" if module is None else f"{(module.__doc__ or '').strip()}\n\n"
    parser = Parser(
        PROG,
        usage="asr-data prepare CORPUS [--source PATH] [--output DIR] [OPTION...]",
        description="Make the manifests of a public corpus.",
        examples=about + _EXAMPLES,
    )
    parser.add_argument("corpus", metavar="CORPUS", help=", ".join(CORPORA))
    where = "the corpus as published: a folder or archive (default: download it)"
    parser.add_argument("--source", type=Path, metavar="PATH", help=where)
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the manifests here (default: data/CORPUS)")
    if module is not None and hasattr(module, "Options"):
        add_options(parser, module.Options, title=f"options of {arguments[0]}")
    return parser


def prepare(args: argparse.Namespace) -> int:
    """Prepare a corpus; the exit status."""
    if args.corpus not in CORPORA:
        raise ConfigError(f"the corpus must be one of {', '.join(CORPORA)}; got {args.corpus!r}")
    module: Any = CORPORA[args.corpus]
    manifests = module.prepare(
        source=args.source,
        output=args.output or Path("data") / args.corpus,
        progress=show_progress(args),
        **({"options": given_options(args, module.Options)} if hasattr(module, "Options") else {}),
    )
    write_result("".join(f"{name}\t{path}\n" for name, path in manifests.items()))
    return 0
