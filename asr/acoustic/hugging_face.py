"""Encoders in folders of Hugging Face's layout: the shape in config.json, the weights in model.safetensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from asr.errors import DataError
from asr.files.reading import read_json
from asr.options import from_json, shown

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
PICKLED_FILE = "pytorch_model.bin"  # of older models
Shape = TypeVar("Shape")


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON values in a folder's config.json.

    Raises:
        DataError: there is no such file, or it is not a JSON object.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be used: {error}", path=path) from None
    if not isinstance(values, dict):
        raise DataError(f"must be a JSON object, not {shown(values)}", path=path)
    return values


def shape_from(kind: type[Shape], values: Mapping[str, Any], *, path: Path) -> Shape:
    """A dataclass with the values of config.json that it has fields for.

    Raises:
        DataError: one of them is out of its limits; `path` is for the message.
    """
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    try:
        return from_json(kind, {name: value for name, value in values.items() if name in known})
    except ValueError as error:
        raise DataError(f"cannot be used: {error}", path=path) from None


def read_tensors(
    folder: str | os.PathLike[str],
    *,
    expected: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    optional: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Tensors of a folder's model.safetensors as float32, of the shapes of `expected`.

    Args:
        folder: its path.
        expected: name to a tensor of the right shape, which may be on the meta device.
        names: name to the names that the file may have for it.
        optional: further tensors, of any shape; those that are not in the file are left out.
    Raises:
        DataError: there is no such file, it is damaged, or a tensor is missing or of another shape.
    """
    path = Path(folder) / WEIGHTS_FILE
    if not path.exists() and path.with_name(PICKLED_FILE).exists():
        raise DataError(
            f"must have {WEIGHTS_FILE}, but has only {PICKLED_FILE}, which can execute code when it is read: if you "
            "trust it, AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) of transformers converts it",
            path=folder,
        )
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            weights = {}
            for name in (*expected, *optional):
                stored = next((stored for stored in names[name] if stored in there), None)
                if stored is None and name in expected:
                    raise DataError(f"lacks the tensor {name!r}", path=path)
                if stored is None:
                    continue
                shape = tuple(file.get_slice(stored).get_shape())
                if name in expected and shape != tuple(expected[name].shape):
                    raise DataError(f"tensor {name!r} must be {tuple(expected[name].shape)}, not {shape}", path=path)
                # A copy, because the file is mapped into memory, and may be written anew.
                weights[name] = file.get_tensor(stored).to(torch.float32, copy=True)
            return weights
    except (OSError, SafetensorError) as error:
        raise DataError(f"must be a whole safetensors file: {error}", path=path) from None
