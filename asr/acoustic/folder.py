"""Folders of acoustic models: which one a name means, and the files in it that its options name; without torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from asr.decoding.options import DecodingOptions
from asr.errors import InputError
from asr.files.model_config import embedded_folders, out_of_run
from asr.options import replace_options

KIND: Final = "acoustic model"
DEFAULT_MODEL = "english"
_WHISPER = re.compile(r"(?:tiny|base|small|medium|large(?:-v\d)?)(?:-turbo)?(?:\.en)?|turbo")
BUNDLE = "torchaudio:"  # before the name of a bundle of torchaudio, a model or an encoder


def embedded_models() -> dict[str, Path]:
    """The models of the package: name to folder, sorted by name."""
    return embedded_folders(KIND)


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a model, given a folder, the name of an embedded one, or None for the default.

    The folder of a training stands for the model in it.

    Raises:
        InputError: it is neither a folder nor the name of an embedded model.
        DataError: it is the folder of a training that has not finished a model.
    """
    embedded = embedded_models()
    if model is None:
        model = DEFAULT_MODEL
    if str(model) in embedded:
        return embedded[str(model)]
    if Path(model).is_dir():
        return out_of_run(Path(model))
    names = ", ".join(embedded) or "none"
    others = "; Whisper's models are no CTC models" if _WHISPER.fullmatch(os.fspath(model)) else ""
    raise InputError(
        f"no model {os.fspath(model)!r}: give a model folder, or one of the embedded models: {names}{others}"
    )


def own_files(options: DecodingOptions, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The files and folders inside a model's folder that its options name, by these names."""
    names = sorted(set(options.files.values()))
    inside = (name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts)
    return {name: Path(folder) / name for name in inside if (Path(folder) / name).exists()}


def in_folder(options: DecodingOptions, folder: Path) -> DecodingOptions:
    """The options of a model with the paths of its own files, even missing ones; embedded models keep their names."""
    own, named = own_files(options, folder), embedded_folders("language model")
    paths = {name: str(folder / value) for name, value in options.files.items() if value in own or value not in named}
    return replace_options(options, **paths)


def out_of_folder(options: DecodingOptions, folder: Path) -> DecodingOptions:
    """The options with paths that are valid in any working directory: inside the folder relative to it, else absolute.

    Names of embedded models do not change. `in_folder` is the inverse.
    """
    folder = folder.resolve()
    named = embedded_folders("language model")
    paths = {
        name: Path(value).resolve()
        for name, value in options.files.items()
        if value not in named and Path(value).exists()
    }
    inside = {name: path.relative_to(folder) for name, path in paths.items() if folder in path.parents}
    return replace_options(options, **{name: str(path) for name, path in (paths | inside).items()})
