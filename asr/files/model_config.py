"""The config.json of model folders, and the models that come with the package; it loads fast, without torch.

The config.json of an acoustic model has no "kind"; the config.json of any other model has one.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from asr.errors import AsrError, DataError
from asr.files.reading import read_json
from asr.files.writing import write_whole
from asr.options import from_json, shown, to_json

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
EMBEDDED = Path(__file__).parents[1] / "models"  # the embedded models

Kind = Literal["acoustic model", "language model", "readable model"]
Config = TypeVar("Config")


def write_model_config(folder: str | os.PathLike[str], config: Any, *, kind: Kind) -> None:
    """Write the config.json of a model folder; arguments as for `write_model_folder`."""
    said = {} if kind == "acoustic model" else {"kind": kind}
    values = {"format_version": FORMAT_VERSION, **said, **to_json(config)}
    write_whole(Path(folder) / CONFIG_FILE, json.dumps(values, ensure_ascii=False, indent=2) + "\n")


def read_model_config(folder: str | os.PathLike[str], config_type: type[Config], *, kind: Kind) -> Config:
    """The config.json of a model folder.

    Raises:
        DataError: it is missing, not JSON, of a newer format or another kind, or has an unknown or wrong option.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_values(folder)
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "; install a newer version of asr" if newer else ""
        raise DataError(f"format_version must be {FORMAT_VERSION}, not {shown(version)}{advice}", path=path)
    if (stored_kind := values.pop("kind", "acoustic model")) != kind:
        raise DataError(f"the folder must hold a model of the kind {kind!r}, not {shown(stored_kind)}", path=path)
    try:
        return from_json(config_type, values)
    except AsrError as error:
        text = str(error)
        raise DataError(text if len(text) < 2000 else f"{text[:1000]} ...", path=path) from None


def embedded_folders(kind: Kind) -> dict[str, Path]:
    """The models of a kind that come with the package: name to folder, sorted by name."""
    paths = sorted(EMBEDDED.glob(f"*/{CONFIG_FILE}"))
    return {path.parent.name: path.parent for path in paths if holds(path.parent, kind)}


def holds(folder: str | os.PathLike[str], kind: Kind) -> bool:
    """Whether there is a model folder of that kind."""
    return (Path(folder) / CONFIG_FILE).is_file() and read_values(folder).get("kind", "acoustic model") == kind


def is_run(values: Mapping[str, Any]) -> bool:
    """Whether the values of a config.json are those of a run folder: the options of a training, and no format."""
    return "format_version" not in values and values.keys() >= {"data", "loop"}


def out_of_run(folder: Path) -> Path:
    """The model in the run folder of a training; any other folder itself.

    Raises:
        DataError: the training has not finished a model.
    """
    if not (folder / CONFIG_FILE).is_file() or not is_run(values := read_values(folder)):
        return folder
    if (folder / "model" / CONFIG_FILE).is_file():
        return folder / "model"
    command = resume_command(folder, values)
    raise DataError(f"this training has no finished model yet; to continue it: {command}", path=folder)


def resume_command(run: Path, values: Mapping[str, Any]) -> str:
    """The command that continues the training in a run folder, whose options are `values`."""
    command = "asr-lm train" if "vocabulary" in values else "asr-train"
    return f"{command} --run {shlex.quote(str(run))} --resume"


def read_values(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON values in the config.json of a model folder."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise DataError(f"not a model folder: it has no {CONFIG_FILE}", path=path.parent)
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DataError(f"the model's configuration cannot be read as JSON: {reason}", path=path) from None
    if not isinstance(values, dict):
        raise DataError("the model's configuration must be a JSON object", path=path)
    return values
