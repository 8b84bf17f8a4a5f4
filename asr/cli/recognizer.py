"""The recogniser that a command line asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli.arguments import Parser, add_options, at_least, given_values
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError
from asr.options import from_json, replace_options

if TYPE_CHECKING:  # torch takes two seconds to load, which --help and a wrong flag must not
    from asr.recognition.recognizer import Recognizer

# Those of `asr.load`, which a test compares: to read them there would load torch.
DEFAULT_MODEL = "english"
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
BATCH_SIZE = 16


def add_recognizer_flags(parser: Parser, decoding: DecodingOptions | None = None) -> None:
    """Adds the flags that `load_recognizer` reads; help shows the options of `decoding` as defaults."""
    add_computing_flags(parser)
    add_options(parser, DecodingOptions, title="decoding", defaults=decoding)


def shown_decoding(arguments: Sequence[str], model: str | None) -> DecodingOptions | None:
    """The decoding options of a model if the arguments ask for help, and there is such a model."""
    if not {"-h", "--help"} & set(arguments):
        return None
    from asr.files.model_config import embedded_folders, read_values

    try:
        folder = embedded_folders("acoustic model").get(model or DEFAULT_MODEL, Path(model or DEFAULT_MODEL))
        options = from_json(DecodingOptions, read_values(folder).get("decoding", {}))
    except AsrError:
        return None
    own = {name: value for name, value in options.files.items() if (folder / value).exists()}
    return replace_options(options, **{name: f"{value} in the model's folder" for name, value in own.items()})


def add_computing_flags(parser: Parser) -> None:
    """Adds those of them that do not say how to decode."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--batch-size",
        type=at_least(1),
        default=BATCH_SIZE,
        metavar="N",
        help="compute N stretches of sound, of at most 22 s each, together (default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="format of matrix products; auto: bfloat16 where it is faster; float16: GPUs only (default: %(default)s)",
    )


def load_recognizer(
    args: argparse.Namespace, model: str | None, *, decoding: DecodingOptions | None = None
) -> Recognizer:
    """The recogniser with that model and the options that the arguments give, or that `decoding` is.

    Raises:
        ConfigError, InputError, DataError: as `asr.load`.
    """
    chosen = decoding or given_values(args, DecodingOptions)
    import torch

    from asr.recognition.recognizer import load

    if args.threads:
        torch.set_num_threads(args.threads)
    return load(model, device=args.device, precision=args.precision, batch_size=args.batch_size, decoding=chosen)


def settle(args: argparse.Namespace, model: str | None) -> argparse.Namespace:
    """The arguments with what --precision auto comes to here: to be chosen once, and not by each process for itself.

    Raises:
        InputError, DataError: there is no such device or model.
    """
    from functools import partial

    from asr.acoustic.model import find_model, read_config
    from asr.compute.cells import make_cell
    from asr.compute.device import choose_precision, find_device

    cell = partial(make_cell, read_config(find_model(model)).encoder.cell)
    dtype = choose_precision(args.precision, find_device(args.device), make_cell=cell, training=False)
    return argparse.Namespace(**{**vars(args), "precision": str(dtype).removeprefix("torch.")})


def load_in_process(args: argparse.Namespace, model: str | None, number: int) -> Recognizer:
    """`load_recognizer` in process `number` of args.nproc, with its part of the threads, or a GPU of its own."""
    import torch

    if args.device in ("auto", "cuda") and (count := torch.cuda.device_count()) > 1:
        args.device = f"cuda:{number % count}"
    args.threads = args.threads or max(1, torch.get_num_threads() // args.nproc)
    return load_recognizer(args, model)
