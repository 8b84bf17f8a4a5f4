"""Options: fields of frozen dataclasses with their limits, and their conversion to JSON values and back.

A dataclass may have fields that are dataclasses. The name of an option in them includes the field, `loop.epochs`, in
JSON, in flags and in messages. A field made by `group` only sorts options; their names do not include it: `beam_width`.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from asr.errors import ConfigError

Options = TypeVar("Options")

LARGEST_INTEGER: Final = 2**53  # a float represents all integers up to it; compiled code has no room for more
LONGEST_TEXT: Final = 4096  # the longest path
_KINDS: Final[Mapping[Any, str]] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list", Mapping: "an object",
    Path: "a path",
}  # fmt: skip
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxtuple = _REPR.maxlist = _REPR.maxdict = 9


def to_json(options: Any) -> Any:
    """The dataclass `options` as dicts, lists, numbers and strings that `json` writes and `from_json` reads."""
    if dataclasses.is_dataclass(options):
        values: dict[str, Any] = {}
        for entry in dataclasses.fields(options):
            value = to_json(getattr(options, entry.name))
            values |= value if entry.metadata.get("group") else {entry.name: value}
        return values
    if isinstance(options, list | tuple):
        return [to_json(entry) for entry in options]
    return str(options) if isinstance(options, Path) else options


def from_json(kind: type[Options], values: Any, *, where: str = "") -> Options:
    """An instance of the dataclass `kind` from the result of `json.loads`; missing keys have their defaults.

    Args:
        kind: a dataclass whose fields are numbers, strings, literals, optional values, tuples or other dataclasses.
        values: a mapping of field names.
        where: source of the values, for messages: the name of a file.
    Raises:
        ConfigError: a key is unknown or missing, or a value has another type, or `__post_init__` refuses it.
    """
    try:
        return _instance(kind, values, name="")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") if where else error from None


def replace_options(options: Options, /, **values: Any) -> Options:
    """The options with other values, by their names in JSON; checked as in `from_json`."""
    return _instance(type(options), values, name="", before=options)


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    file: bool = False,
) -> Any:
    """A field of an option dataclass: its default, its help text and its limits, which define its flag and its check.

    Args:
        default: the value if none is given; without it the option is required.
        help: what the option does, in the imperative; a field without help has no flag.
        least, most: lowest and highest value allowed, of the number or of each number of a tuple.
        above, below: values that it must be above or below.
        file: it names a file or a folder.
    """
    limits = {"least": least, "most": most, "above": above, "below": below}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits, "file": file})


def group(default: Any) -> Any:
    """A field for a dataclass of further options, whose names do not include the field."""
    return dataclasses.field(default=default, metadata={"group": True})


type_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)  # which is slow


def flat_fields(kind: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of the dataclass `kind` by name; a group is replaced by its fields."""
    hints = type_hints(kind)
    entries: dict[str, dataclasses.Field[Any]] = {}
    for entry in dataclasses.fields(kind):
        entries |= flat_fields(hints[entry.name]) if entry.metadata.get("group") else {entry.name: entry}
    return entries


def check_options(options: Any) -> None:
    """Check the fields of the dataclass `options` by their declarations; call it in `__post_init__`.

    A `Literal` must be one of its choices, an int a whole number, and each number within the limits of its `option`.
    None is within all limits.

    Raises:
        ConfigError: one does not; the message has its name, and its choices or limits.
    """
    hints = type_hints(type(options))
    for entry in dataclasses.fields(options):
        value, hint = getattr(options, entry.name), hints[entry.name]
        if typing.get_origin(hint) is typing.Literal:
            _convert(hint, value, name=entry.name)
        if hint in (int, int | None) and value is not None and type(value) is not int:
            raise ConfigError(f"{entry.name} must be a whole number, not {shown(value)}", entry.name)
        if limits := entry.metadata.get("limits"):
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None:
                    check_limits(entry.name, number, **limits)


def check_limits(
    name: str,
    number: float,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Check that the number of the option `name` is within limits, the same as in `option`.

    Raises:
        ConfigError: it does not.
    """
    if least <= number <= most and (above < number or above == -math.inf) and (number < below or below == math.inf):
        return
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    digits = {word: f"{limit:.15g}" if type(limit) is float else limit for word, limit in limits.items()}
    stated = [f"{word} {digits[word]}" for word, limit in limits.items() if math.isfinite(limit)]
    if math.isfinite(least) and math.isfinite(most):
        stated = [f"between {digits['at least']} and {digits['at most']}"]
    raise ConfigError(f"{name} must be {' and '.join(stated)}, not {shown(number)}", name)


def differences(before: Any, after: Any, *, where: str = "") -> dict[str, tuple[Any, Any]]:
    """The options that differ in two results of `to_json`, each with both values; None for one that is missing."""
    if isinstance(before, dict) and isinstance(after, dict):
        unequal: dict[str, tuple[Any, Any]] = {}
        for key in [*before, *(key for key in after if key not in before)]:
            unequal |= differences(before.get(key), after.get(key), where=f"{where}.{key}" if where else key)
        return unequal
    return {} if before == after else {where: (before, after)}


def shown(value: Any) -> str:
    """The value as text, shortened for messages."""
    return _REPR.repr(value)


def _instance(kind: type[Options], values: Any, *, name: str, before: Options | None = None) -> Options:
    """The dataclass `kind` from the mapping `values` of the option `name`; empty for the whole configuration.

    Missing options are taken from the instance `before`, or have their defaults.
    """
    subject, prefix = (f"{name}: ", f"{name}.") if name else ("", "")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name or 'the configuration'} must be an object of options, not {shown(values)}")
    hints, known = type_hints(kind), flat_fields(kind)
    for key in values:
        if key not in known:
            raise ConfigError(f"{subject}unknown option {shown(key)}; known are {', '.join(sorted(known))}")
    converted: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        key, hint = entry.name, hints[entry.name]
        if entry.metadata.get("group"):
            inner = {inside: values[inside] for inside in flat_fields(hint) if inside in values}
            old = entry.default if before is None else getattr(before, key)
            converted[key] = _instance(hint, inner, name=name, before=old) if inner else old
        elif key in values:
            converted[key] = _convert(hint, values[key], name=prefix + key)
        elif before is None and entry.default is entry.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{subject}option {key!r} is missing")
    try:
        return kind(**converted) if before is None else dataclasses.replace(before, **converted)  # type: ignore[type-var]
    except ConfigError as error:
        if error.options:
            raise error.renamed({option: prefix + option for option in error.options}) from None
        raise ConfigError(f"{subject}{error}") from None


def _convert(hint: Any, value: Any, *, name: str) -> Any:
    """`value` converted to the type `hint`."""
    if type(value).__module__ == "numpy" and not value.shape:  # a number of NumPy
        value = value.item()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _instance(hint, value, name=name)  # type: ignore[arg-type]
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{name} must be one of {', '.join(map(str, arguments))}, not {shown(value)}", name)
    if origin in (typing.Union, types.UnionType):
        if value is None or (value == "" and str in arguments):  # folders of earlier versions have "" for None
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))  # only `X | None` is supported
        return _convert(hint, value, name=name)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{name} must hold {len(arguments)} values, not {shown(value)}", name)
        texts = arguments[-1] is Ellipsis and arguments[0] is str and all(type(entry) is str for entry in value)
        if texts and max(map(len, value), default=0) <= LONGEST_TEXT:
            return tuple(value)  # a vocabulary is long
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_convert(kind, entry, name=name) for kind, entry in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, dict):  # free-form, such as a model's provenance
        return value
    if hint in (str, Path) and isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ConfigError(f"{name} must have {LONGEST_TEXT} characters at most, not {len(value)}", name)
    if type(value) is int and hint in (int, float) and abs(value) > LARGEST_INTEGER:
        raise ConfigError(f"{name} must be a number between -2^53 and 2^53, not {shown(value)}", name)
    if hint is float and (type(value) is int or isinstance(value, float)) and not math.isnan(value):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{name} must be {_KINDS.get(origin or hint, hint)}, not {shown(value)}", name)
