"""Options on disk: frozen dataclasses to plain JSON values and back, with every unknown key or wrong value named."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import ConfigError

Options = TypeVar("Options")


def to_json(options: Any) -> Any:
    """The dataclass `options` as dicts, lists, numbers and strings that `json` writes and `from_json` reads."""
    if dataclasses.is_dataclass(options):
        return {entry.name: to_json(getattr(options, entry.name)) for entry in dataclasses.fields(options)}
    if isinstance(options, list | tuple):
        return [to_json(entry) for entry in options]
    return str(options) if isinstance(options, Path) else options


def from_json(kind: type[Options], values: Any, *, where: str = "") -> Options:
    """An instance of the dataclass `kind` from what `json.loads` gave; missing keys take their defaults.

    Args:
        kind: a dataclass whose fields are numbers, strings, literals, optional values, tuples or other dataclasses.
        values: a mapping of field names.
        where: where the values stand, for the messages: "model/config.json: encoder".
    Raises:
        ConfigError: an unknown or missing key, or a value of another type, is named; so is what `__post_init__` says.
    """
    place = f"{where}: " if where else ""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}expected a mapping of options, not {values!r}")
    hints = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"{place}unknown option {key!r}; known are {', '.join(sorted(fields))}")
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{place}option {name!r} is missing")
    inner = f"{where}.{{}}" if where else "{}"
    converted = {name: _convert(hints[name], value, where=inner.format(name)) for name, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from None


def first_difference(before: Any, after: Any, *, where: str = "") -> str:
    """Where two results of `to_json` differ, with both values; empty if nowhere."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{where}.{key}" if where else key
            if difference := first_difference(before.get(key), after.get(key), where=inner):
                return difference
        return ""
    return "" if before == after else f"{where} was {before!r}, now {after!r}"


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the annotation `hint` wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, where=where)  # type: ignore[arg-type]
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _convert(hint, value, where=where)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{where} must hold {len(arguments)} values, not {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_convert(kind, entry, where=where) for kind, entry in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, dict):  # free-form, such as a model's provenance
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, float, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{where} must be {getattr(origin or hint, '__name__', hint)}, not {value!r}")
