"""The recogniser of a command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from asr.cli.arguments import Parser, add_options, at_least, given_values
from asr.decoding.options import DecodingOptions
from asr.recognition.many_recordings import TranscribeOptions

if TYPE_CHECKING:  # torch takes two seconds to load
    from asr.recognition.recognizer import Recognizer

PRECISIONS = ("auto", "float32", "bfloat16", "float16")  # a test compares them with `asr.load`, which loads torch


def add_recognizer_flags(parser: Parser) -> None:
    """Add the flags that `load_recognizer` reads."""
    add_computing_flags(parser)
    add_options(parser, DecodingOptions, title="decoding")


def add_computing_flags(parser: Parser) -> None:
    """Add the flags of `load_recognizer` that are not about decoding."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--batch-size",
        type=at_least(1),
        default=TranscribeOptions.batch_size,
        metavar="N",
        help="pieces of sound, at most 22 s each, that are computed together (default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="format of the matrix products; auto: bfloat16 where it is faster; float16: GPUs only "
        "(default: %(default)s)",
    )


def load_recognizer(
    args: argparse.Namespace, model: str | None, *, decoding: DecodingOptions | None = None
) -> Recognizer:
    """The recogniser with a model and the options of the arguments, or with the decoding options `decoding`.

    Raises:
        ConfigError, InputError, DataError: as `asr.load`.
    """
    import torch

    from asr.recognition.recognizer import load

    if args.threads:
        torch.set_num_threads(args.threads)
    decoding_options = decoding or given_values(args, DecodingOptions)
    return load(
        model,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
        decoding=decoding_options,
    )
