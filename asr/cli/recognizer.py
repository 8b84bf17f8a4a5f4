"""The recogniser that a command line asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from asr.cli.arguments import Parser, add_options, at_least, given_values
from asr.decoding import DecodingOptions

if TYPE_CHECKING:  # torch takes two seconds to load, which --help and a wrong flag must not
    from asr.recognizer import Recognizer

# Those of `asr.load`, which a test compares: to read them there would load torch.
PRECISIONS = ("auto", "float32", "bfloat16")
BATCH_SIZE = 16


def add_recognizer_flags(parser: Parser) -> None:
    """Adds the flags that `load_recognizer` reads."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--batch-size",
        type=at_least(1),
        default=BATCH_SIZE,
        metavar="N",
        help="stretches of sound, at most 22 s each, that are computed together (default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="format of the matrix products; auto: bfloat16 where it is faster (default: %(default)s)",
    )
    add_options(parser, DecodingOptions, title="decoding")


def load_recognizer(args: argparse.Namespace, model: str | None) -> Recognizer:
    """The recogniser with that model and the options that the arguments give.

    Raises:
        ConfigError, InputError, DataError: as `asr.load`.
    """
    decoding = given_values(args, DecodingOptions)
    import torch

    from asr.recognizer import load

    if args.threads:
        torch.set_num_threads(args.threads)
    return load(model, device=args.device, precision=args.precision, batch_size=args.batch_size, decoding=decoding)
