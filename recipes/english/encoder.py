"""Make the folder for `--pretrained` from downloaded weights of a Whisper model, after checking them.

    python -m recipes.english.encoder whisper_base_1.whl whisper_base_2.whl encoders/whisper-base
    python -m recipes.english.encoder base.pt encoders/whisper-base

Sources:
    model.safetensors, base.pt, model.bin     from Hugging Face, from OpenAI, of CTranslate2 (faster-whisper)
    wheels, and folders                       with model.bin, or with its parts model.bin.part1, model.bin.part2, …

The tensors of the encoder must be those of a model in `ENCODERS`, whichever file they come from.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from torch import Tensor

from asr.acoustic.hugging_face import WEIGHTS_FILE
from asr.acoustic.whisper import POSITIONS
from asr.acoustic.whisper_weights import convert, read_encoder
from asr.cli.arguments import Parser
from asr.cli.command import run_command, write_result
from asr.errors import DataError
from asr.files.writing import FULL

PROG = "recipes.english.encoder"
LICENCE = "mit"  # of all models of OpenAI's Whisper

# By `fingerprint`. The packages of two makers have the same tensors of whisper-base.
ENCODERS = {
    "8c99e47a3c8a239029a9b1d40ea75fcc415fd4e111a00eb6a2978f4b8b1e773e": "openai/whisper-base",
    "a5888a57b5564c07eba5d2592b6b53a5209d4a0e231b8f9a13e247511caf167e": "openai/whisper-tiny.en",
}

_PART = re.compile(r"(?:.*/)?model\.bin(?:\.part([1-9]\d?))?")


class Part(NamedTuple):
    """A file that is, alone or joined with others, a model.bin."""

    number: int
    source: Path
    name: str  # within the source, if this is a wheel


def make_encoder(sources: Sequence[Path], folder: Path) -> str:
    """Check weights, and write their encoder as a folder in the layout of Hugging Face; the model's name.

    Args:
        sources: one file of weights; or wheels and folders that together hold a model.bin, whole or in parts.
        folder: to write; it must be new.
    Raises:
        DataError: the sources hold no weights, a part is missing or there twice, or the encoder is none of `ENCODERS`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        weights = _weights_file(sources, Path(temporary))
        checksum = fingerprint(read_encoder(weights)[0])
        if checksum not in ENCODERS:
            names = " or ".join(ENCODERS.values())
            message = f"must hold the encoder of {names}, but its tensors have another SHA-256, {checksum}"
            raise DataError(message, path=_listed(sources))
        convert(weights, folder, name=ENCODERS[checksum], licence=LICENCE)
    return ENCODERS[checksum]


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, shapes and float16 values of tensors, in the order of their names.

    Positions are left out: they are computed.
    """
    digest = hashlib.sha256()
    for name in sorted(weights.keys() - {POSITIONS}):
        tensor = weights[name].half().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _weights_file(sources: Sequence[Path], temporary: Path) -> Path:
    """The only source if it is a file of weights; else the parts in all sources, joined in a new file."""
    if len(sources) == 1 and (whole := _whole_file(sources[0])):
        return whole
    parts = sorted(part for source in sources for part in _parts(source))
    if not parts:
        raise DataError("must hold a model.bin, whole or in parts, but there is none", path=_listed(sources))
    numbers = [part.number for part in parts]
    if numbers != [0] and numbers != list(range(1, len(parts) + 1)):
        names = ", ".join(f"{part.source}: {part.name}" for part in parts)
        raise DataError(f"there must be one model.bin, or each of its parts once, from 1 on, but there are {names}")
    joined = temporary / "model.bin"
    with joined.open("wb") as output:
        for part in parts:
            with _opened(part) as content:
                shutil.copyfileobj(content, output)
    return joined


def _whole_file(source: Path) -> Path | None:
    """The file of weights that a source is, or that it holds in the layout of Hugging Face."""
    if source.is_dir():
        return source / WEIGHTS_FILE if (source / WEIGHTS_FILE).is_file() else None
    return None if source.suffix == ".whl" else source


def _parts(source: Path) -> list[Part]:
    """The files of a wheel or a folder that are a model.bin or its parts."""
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("model.bin*") if path.is_file()]
    else:
        with _wheel(source) as wheel:
            names = wheel.namelist()
    return [Part(int(match[1] or 0), source, name) for name in names if (match := _PART.fullmatch(name))]


@contextmanager
def _opened(part: Part) -> Iterator[IO[bytes]]:
    if part.source.is_dir():
        with (part.source / part.name).open("rb") as content:
            yield content
    else:
        with _wheel(part.source) as wheel, wheel.open(part.name) as content:
            yield content


@contextmanager
def _wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """Raises: DataError: it is no wheel, or it is damaged."""
    try:
        with zipfile.ZipFile(path) as wheel:
            yield wheel
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # of the file that its content is written to
            raise
        raise DataError(f"must be a whole wheel: {error}", path=path) from None


def _listed(sources: Sequence[Path]) -> str:
    return ", ".join(map(str, sources))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        PROG,
        usage=f"python -m {PROG} SOURCE... FOLDER",
        description="Make the folder for --pretrained from downloaded weights of a Whisper model, after checking them.",
        examples="\n".join((__doc__ or "").splitlines()[2:4]),
    )
    add = parser.add_argument
    add(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="a file of weights, or wheels and folders with its parts",
    )
    add("folder", type=Path, metavar="FOLDER", help="folder to write; it must be new")
    return parser


def run(args: argparse.Namespace) -> int:
    """Make one folder."""
    name = make_encoder(args.sources, args.folder)
    write_result(f"{args.folder}: the encoder of {name}, licence {LICENCE.upper()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
