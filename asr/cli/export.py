"""asr-export: write a model for another runtime."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr.cli.arguments import Parser
from asr.cli.command import run_command, write_result

PROG = "asr-export"

_EXAMPLES = """\
the folder:
  model.onnx (samples and their lengths in, log-probabilities of the labels and
  their lengths out), tokens.txt (labels and columns; <blk> is the blank),
  asr-decoding.json (the model's options of decoding) and its language models.
  Padding changes nothing: a waveform has the same log-probabilities alone and
  in a batch. asr itself does not need the folder: it computes its own models in
  onnxruntime as they are.

examples:
  asr-export an4 --onnx an4-onnx
  asr-transcribe talk.wav --model an4-onnx
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-export` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of `asr-export`."""
    parser = Parser(
        PROG,
        usage="asr-export MODEL --onnx DIR [--int8]",
        description="Write a model as ONNX, for onnxruntime.",
        examples=_EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="an embedded model or a model folder")
    parser.add_argument("--onnx", type=Path, required=True, metavar="DIR", help="write this folder")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="quantise the matrices of the encoder: faster, and a quarter of the size; half, for a Whisper encoder",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Export the model of the arguments; the exit status."""
    from asr.acoustic.export import export_onnx
    from asr.acoustic.folder import find_model

    export_onnx(find_model(args.model), args.onnx, int8=args.int8)
    write_result(f"{args.onnx}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
