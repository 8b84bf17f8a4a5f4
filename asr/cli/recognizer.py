"""The recogniser of a command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from asr.cli.arguments import Parser, add_options, at_least, given_values
from asr.cli.command import set_threads
from asr.compute.runtime import Precision, Runtime
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError
from asr.options import from_json, replace_options
from asr.recognition.many_recordings import TranscribeOptions

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer


def add_recognizer_flags(parser: Parser, decoding: DecodingOptions | None = None) -> None:
    """Add the flags that `load_recognizer` reads; help shows the options of `decoding` as defaults."""
    add_computing_flags(parser)
    add_options(parser, DecodingOptions, title="decoding", defaults=decoding)


def shown_decoding(arguments: Sequence[str], model: str | None) -> DecodingOptions | None:
    """The decoding options of a model if the arguments ask for help and the model exists; else None."""
    if not {"-h", "--help", "--help-all"} & set(arguments):
        return None
    from asr.acoustic.folder import find_model
    from asr.files.model_config import read_values

    try:
        folder = find_model(model)
        options = from_json(DecodingOptions, read_values(folder).get("decoding", {}))
    except AsrError:
        return None
    own = {name: value for name, value in options.files.items() if (folder / value).exists()}
    return replace_options(options, **{name: f"{value} in the model's folder" for name, value in own.items()})


def add_computing_flags(parser: Parser) -> None:
    """Add the flags of `load_recognizer` that are not about decoding."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--batch-size",
        type=at_least(1),
        default=TranscribeOptions.batch_size,
        metavar="N",
        help="process at most N pieces of sound in one batch, and 96 s of them (default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=get_args(Precision),
        default=TranscribeOptions.precision,
        help="format of matrix products; auto: float32, or in torch bfloat16 where it is faster; float16: GPUs only "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        default=TranscribeOptions.runtime,
        help="compute a model of ours in onnxruntime (onnx) or in torch; auto: torch on a GPU, for another precision "
        "than float32, and for models that onnx lacks (default: %(default)s)",
    )


def load_recognizer(
    args: argparse.Namespace, model: str | None, *, decoding: DecodingOptions | None = None
) -> Recognizer:
    """The recogniser with a model and the options of the arguments, or with the decoding options `decoding`."""
    from asr.recognition.recognizer import load

    set_threads(args)
    decoding_options = decoding or given_values(args, DecodingOptions)
    return load(
        model,
        device=args.device,
        precision=args.precision,
        runtime=args.runtime,
        batch_size=args.batch_size,
        decoding=decoding_options,
    )
