"""Model folders: `config.json` and `weights.safetensors`, complete or not at all, and nothing in them is unpickled.

A new folder is written under a temporary name and renamed. A folder with any fault is refused, with the reason.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from asr.errors import ConfigError, DataError, InputError
from asr.files.folders import replacing_folder
from asr.files.model_config import CONFIG_FILE, Kind, write_model_config
from asr.options import shown

WEIGHTS_FILE = "weights.safetensors"

STEPS = ".steps"  # suffix of the tensor with the step size of each row of an int8 tensor
INT8_STEPS = 127  # on either side of 0

_HEADER_BYTES = 1 << 24
_FLOATS = ("F32", "F16", "BF16", "F64")

Stored = Literal["float32", "float16", "int8"]


def write_model_folder(
    folder: str | os.PathLike[str],
    config: Any,
    weights: Mapping[str, np.ndarray],
    *,
    kind: Kind,
    files: Mapping[str, Path] | None = None,
) -> None:
    """Write a model folder completely or not at all; an old one of the same path is replaced.

    Args:
        folder: its path; missing parents are made.
        config: the dataclass for config.json.
        weights: from `stored_weights`.
        kind: of the model.
        files: other files or folders to copy into it, by their new names.
    Raises:
        ConfigError: the path holds something other than a model folder.
    """
    folder = Path(folder).resolve()
    _check_replaceable(folder)
    with replacing_folder(folder) as new:
        save_file(dict(weights), new / WEIGHTS_FILE)
        (new / WEIGHTS_FILE).chmod(0o644)  # safetensors makes files that only their owner can read
        write_model_config(new, config, kind=kind)
        for name, path in (files or {}).items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, new / name)


def stored_weights(
    state: Mapping[str, np.ndarray], stored: Stored, *, exact: Callable[[str], bool] = lambda name: False
) -> dict[str, np.ndarray]:
    """All tensors in the format of the file.

    Args:
        state: names and values of the tensors, float32.
        stored: "float32"; "float16", half the size; or "int8", a quarter of the size: each row of a matrix in 255 steps
            up to its largest weight, with the step sizes in another tensor, and vectors in float16.
        exact: whether the tensor of a name stays float32 in any case.
    Raises:
        InputError: a value is not finite, or too large for float16.
    """
    weights = {}
    for name, values in state.items():
        as_steps = stored == "int8" and values.ndim > 1 and not exact(name)
        dtype = np.dtype("float32" if stored == "float32" or as_steps or exact(name) else "float16")
        with np.errstate(over="ignore"):
            weights[name] = np.ascontiguousarray(values, dtype=dtype)
        if not np.isfinite(weights[name]).all():
            raise InputError(f"every weight must be finite in {dtype} to be saved, but tensor {name!r} is not")
        if as_steps:
            largest = np.abs(values.reshape(len(values), -1)).max(axis=1)
            steps = np.maximum(largest, np.finfo(np.float32).tiny) / np.float32(INT8_STEPS)
            weights[name] = np.rint(values / _by_rows(steps, values)).astype(np.int8)
            weights[name + STEPS] = steps
    return weights


def _by_rows(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One step for each row of the values, in a shape that broadcasts."""
    return steps.reshape(-1, *[1] * (values.ndim - 1))


def read_weights(folder: str | os.PathLike[str], *, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The weights of a model folder as float32, checked by name and shape; each array is a copy.

    Args:
        folder: its path.
        shapes: of the tensors that the configured model has, by name.
    Raises:
        DataError: the file is missing or damaged; a tensor is missing, extra or misshapen; or a value is not finite.
    """
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        raise DataError("the model's weights are missing", path=path)
    most = _HEADER_BYTES + 9 * sum(map(math.prod, shapes.values()))  # F64, or int8 with a step each
    if path.stat().st_size > most:
        raise DataError(f"the configured model has at most {most} bytes of weights, but this file has more", path=path)
    try:
        with safe_open(path, framework="np") as file:  # maps the file: only requested tensors are read
            _check_tensors({name: file.get_slice(name) for name in file.keys()}, shapes, path)  # noqa: SIM118
            return {name: _read_tensor(file, name, path) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise DataError(f"the model's weights are damaged or truncated: {error}", path=path) from None


def _check_tensors(slices: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Check before reading that the file has exactly the expected tensors. Raises: DataError."""
    steps = {name + STEPS for name, values in slices.items() if values.get_dtype() == "I8"}
    if missing := sorted(set(shapes) - set(slices)):
        raise DataError(f"tensor {missing[0]!r} is missing ({len(missing)} of {len(shapes)} are missing)", path=path)
    if extra := sorted(set(slices) - set(shapes) - steps):
        raise DataError(
            f"tensor {shown(extra[0])} does not belong to the configured model ({len(extra)} such tensors)", path=path
        )
    for name, expected in shapes.items():
        shape, dtype = slices[name].get_shape(), slices[name].get_dtype()
        if shape != list(expected):
            raise DataError(f"tensor {name!r} must have shape {expected}, not {tuple(shape)}", path=path)
        if dtype not in (*_FLOATS, "I8"):
            raise DataError(
                f"tensor {name!r} must hold {', '.join(_FLOATS)} or I8 numbers, not {shown(dtype)[1:-1]}", path=path
            )
        if dtype == "I8":
            sizes = slices.get(name + STEPS)
            if not shape or sizes is None or sizes.get_shape() != shape[:1] or sizes.get_dtype() not in _FLOATS:
                raise DataError(f"tensor {name!r} must have as many {STEPS} as rows", path=path)


def _read_tensor(file: Any, name: str, path: Path) -> np.ndarray:
    """One tensor as float32, copied from the mapped file."""
    values = _read_values(file, name, path)
    if file.get_slice(name).get_dtype() == "I8":
        values *= _by_rows(_read_values(file, name + STEPS, path), values)
    if not np.isfinite(values).all():
        raise DataError(f"tensor {name!r} holds values that are not finite", path=path)
    return values


def _read_values(file: Any, name: str, path: Path) -> np.ndarray:
    """The numbers of one tensor as float32, without a multiplication by steps."""
    if file.get_slice(name).get_dtype() != "BF16":
        with np.errstate(over="ignore"):
            return file.get_tensor(name).astype(np.float32)
    with open(path, "rb") as content:  # NumPy has no bfloat16: the upper half of a float32
        header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        begin, end = header[name]["data_offsets"]
        content.seek(begin, os.SEEK_CUR)
        halves = np.frombuffer(content.read(end - begin), dtype="<u2").reshape(header[name]["shape"])
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _check_replaceable(folder: Path) -> None:
    """Check that the folder is a model folder, empty or missing. Raises: ConfigError."""
    is_model = (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_model and not is_free:
        raise ConfigError(f"{folder} exists and is not a model folder, so it is not replaced: choose another folder")
