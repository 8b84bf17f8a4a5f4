"""Options on disk: what is written is read back, and what is wrong is named with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from asr.errors import ConfigError
from asr.options import first_difference, from_json, to_json


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 3
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size must be at least 1, not {self.size}")


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    part: Part = field(default_factory=Part)
    strides: tuple[int, ...] = (2, 1)
    span: tuple[float, float] = (0.0, 1.0)
    flag: bool = False
    limit: int | None = None
    folder: Path = Path("here")
    free: Mapping[str, Any] = field(default_factory=dict)


EVERYTHING = Whole(
    name="x",
    part=Part(size=7, rate=0.25, kind="b"),
    strides=(3,),
    span=(-1.0, 2.5),
    flag=True,
    limit=9,
    folder=Path("a/b"),
    free={"seed": 1, "rates": [0.5, None]},
)


@pytest.mark.parametrize("options", [EVERYTHING, Whole(name="y")])
def test_what_json_writes_is_read_back(options: Whole) -> None:
    assert from_json(Whole, json.loads(json.dumps(to_json(options)))) == options


def test_the_json_is_plain() -> None:
    assert to_json(EVERYTHING) == {
        "name": "x",
        "part": {"size": 7, "rate": 0.25, "kind": "b"},
        "strides": [3],
        "span": [-1.0, 2.5],
        "flag": True,
        "limit": 9,
        "folder": "a/b",
        "free": {"seed": 1, "rates": [0.5, None]},
    }


def test_missing_keys_take_their_defaults_and_whole_numbers_will_do_for_floats() -> None:
    options = from_json(Whole, {"name": "z", "part": {"rate": 2}, "limit": None})
    assert options == Whole(name="z", part=Part(rate=2.0))
    assert isinstance(options.part.rate, float)


def test_infinity_is_a_float() -> None:
    assert from_json(Part, {"rate": math.inf}).rate == math.inf


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"the configuration must be an object of options, not \[\]"),
        ({}, "option 'name' is missing"),
        ({"nmae": "x"}, "unknown option 'nmae'; known are flag, folder, free, limit, name, part, span, strides"),
        ({"name": "x", "part": {"sice": 1}}, "part: unknown option 'sice'; known are kind, rate, size"),
        ({"name": "x", "part": 3}, "part must be an object of options, not 3"),
        ({"name": "x", "part": {"size": 0}}, "part: size must be at least 1, not 0"),
        ({"name": "x", "part": {"size": 1.5}}, "part.size must be int, not 1.5"),
        ({"name": "x", "part": {"size": True}}, "part.size must be int, not True"),
        ({"name": "x", "part": {"rate": "1"}}, "part.rate must be float, not '1'"),
        ({"name": "x", "part": {"rate": True}}, "part.rate must be float, not True"),
        ({"name": "x", "part": {"rate": math.nan}}, "part.rate must be float, not nan"),
        ({"name": "x", "part": {"kind": "c"}}, "part.kind must be one of a, b, not 'c'"),
        ({"name": 1}, "name must be str, not 1"),
        ({"name": None}, "name must be str, not None"),
        ({"name": "x", "flag": 1}, "flag must be bool, not 1"),
        ({"name": "x", "limit": "many"}, "limit must be int, not 'many'"),
        ({"name": "x", "folder": 1}, "folder must be Path, not 1"),
        ({"name": "x", "strides": 2}, "strides must be tuple, not 2"),
        ({"name": "x", "strides": [1, "2"]}, "strides must be int, not '2'"),
        ({"name": "x", "span": [1.0]}, r"span must hold 2 values, not \[1.0\]"),
        ({"name": "x", "free": []}, r"free must be Mapping, not \[\]"),
    ],
)
def test_what_is_wrong_is_named(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        from_json(Whole, values)
    with pytest.raises(ConfigError, match=rf"^a\{{b\}}/config\.json: {message}$"):
        from_json(Whole, values, where="a{b}/config.json")


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}, ""),
        ({"a": 4}, {"a": 4.0}, ""),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}, "b.d was 3, now 4"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a was [1, 2], now [1, 3]"),
        ({"a": {"b": 1}}, {"a": {}}, "a.b was 1, now None"),
        ({}, {"a": False}, "a was None, now False"),
        ({"a": {"b": 1}}, {"a": 2}, "a was {'b': 1}, now 2"),
    ],
)
def test_the_first_difference_is_named_with_both_values(before: Any, after: Any, difference: str) -> None:
    assert first_difference(before, after) == difference
