"""Options on disk: what is written is read back, and what is wrong is named with its place."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from asr.errors import ConfigError
from asr.options import check_options, differences, from_json, group, option, replace_options, to_json


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
        ({"name": "x", "part": {"size": 1.5}}, "part.size must be a whole number, not 1.5"),
        ({"name": "x", "part": {"size": True}}, "part.size must be a whole number, not True"),
        ({"name": "x", "part": {"rate": "1"}}, "part.rate must be a number, not '1'"),
        ({"name": "x", "part": {"rate": True}}, "part.rate must be a number, not True"),
        ({"name": "x", "part": {"rate": math.nan}}, "part.rate must be a number, not nan"),
        ({"name": "x", "part": {"kind": "c"}}, "part.kind must be one of a, b, not 'c'"),
        ({"name": 1}, "name must be text, not 1"),
        ({"name": None}, "name must be text, not None"),
        ({"name": "x", "flag": 1}, "flag must be true or false, not 1"),
        ({"name": "x", "limit": "many"}, "limit must be a whole number, not 'many'"),
        ({"name": "x", "folder": 1}, "folder must be a path, not 1"),
        ({"name": "x", "strides": 2}, "strides must be a list, not 2"),
        ({"name": "x", "strides": [1, "2"]}, "strides must be a whole number, not '2'"),
        ({"name": "x", "span": [1.0]}, r"span must hold 2 values, not \[1.0\]"),
        ({"name": "x", "free": []}, r"free must be an object, not \[\]"),
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
    lines = [f"{name} was {old!r}, now {new!r}" for name, (old, new) in differences(before, after).items()]
    assert (lines[0] if lines else "") == difference


@dataclass(frozen=True, kw_only=True)
class Bounded:
    size: int = option(3, least=1, most=9)
    shares: tuple[float, ...] = option((), least=0, most=1)

    def __post_init__(self) -> None:
        check_options(self)


def test_bounds_are_those_of_the_declaration() -> None:
    assert Bounded(size=9, shares=(0, 1.0)).size == 9
    for values, message in (
        ({"size": 0}, "size must be between 1 and 9, not 0"),
        ({"size": 10**9}, "size must be between 1 and 9, not 1000000000"),
        ({"shares": (0.5, -1)}, "shares must be between 0 and 1, not -1"),
        ({"shares": (math.inf,)}, "shares must be between 0 and 1, not inf"),
        ({"shares": (math.nan,)}, "shares must be between 0 and 1, not nan"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            Bounded(**values)


@dataclass(frozen=True, kw_only=True)
class Sorted:
    bounded: Bounded = group(Bounded(size=5))
    path: str | None = option(None)
    whole: Bounded = field(default_factory=Bounded)

    def __post_init__(self) -> None:
        if self.path and self.bounded.size < 4:
            raise ConfigError(f"path needs a size of 4, not 'size a/path size' {self.bounded.size}", "path", "size")


def test_options_of_a_group_are_named_without_it() -> None:
    options = Sorted(bounded=Bounded(size=7, shares=(0.5,)))
    assert to_json(options) == {"size": 7, "shares": [0.5], "path": None, "whole": {"size": 3, "shares": []}}
    assert from_json(Sorted, to_json(options)) == options
    assert from_json(Sorted, {"shares": [0.5]}) == Sorted(bounded=Bounded(size=5, shares=(0.5,)))
    assert replace_options(Sorted(), size=4, path="x") == Sorted(bounded=Bounded(size=4), path="x")
    assert replace_options(options, shares=()) == Sorted(bounded=Bounded(size=7))
    with pytest.raises(ConfigError, match="unknown option 'bounded'; known are path, shares, size, whole"):
        replace_options(options, bounded={})


def test_nothing_was_an_empty_text_in_folders_of_before() -> None:
    assert from_json(Sorted, {"path": ""}) == Sorted()


@pytest.mark.parametrize(
    ("values", "message", "flag"),
    [
        ({"size": 0}, "size must be between 1 and 9, not 0", "--size must be between 1 and 9, not 0"),
        ({"size": "0"}, "size must be a whole number, not '0'", "--size must be a whole number, not '0'"),
        ({"whole": {"size": 0}}, "whole.size must be between 1 and 9, not 0", "--whole.size must be between"),
        (
            {"path": "x", "size": 1},
            "path needs a size of 4, not 'size a/path size' 1",
            "--path needs a --size of 4, not 'size a/path size' 1",
        ),
        ({"oops": 1}, "unknown option 'oops'; known are path, shares, size, whole", "unknown option 'oops'; known"),
    ],
)
def test_a_message_names_options_or_flags(values: Any, message: str, flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Sorted, values)
    assert str(caught.value) == message
    flags = {name: f"--{name}" for name in ("size", "path", "whole.size", "whole")}
    assert str(caught.value.renamed(flags)).startswith(flag)
    assert str(pickle.loads(pickle.dumps(caught.value)).renamed(flags)).startswith(flag)


@pytest.mark.parametrize(
    ("message", "renamed"),
    [
        (
            "numbers needs a package: pip install 'asr[numbers]'",
            "--numbers needs a package: pip install 'asr[numbers]'",
        ),
        ("numbers needs asr[numbers] and numbers[0]", "--numbers needs asr[numbers] and --numbers[0]"),
        ("numbers: 'the numbers of \\' numbers here'", "--numbers: 'the numbers of \\' numbers here'"),
        ('numbers: "it\'s numbers here"', '--numbers: "it\'s numbers here"'),
        ("numbers: 'it's numbers here' numbers", "--numbers: 'it's numbers here' --numbers"),
        ("Ann's folder's numbers, users' numbers", "Ann's folder's --numbers, users' --numbers"),
        ("not ('numbers', 'x numbers y'): numbers", "not ('numbers', 'x numbers y'): --numbers"),
    ],
)
def test_what_is_quoted_or_in_brackets_keeps_its_words(message: str, renamed: str) -> None:
    assert str(ConfigError(message, "numbers").renamed({"numbers": "--numbers"})) == renamed


@pytest.mark.parametrize("values", [{"part": {"rate": 10**400}}, {"limit": 10**400}, {"strides": [1, -(10**400)]}])
def test_numbers_that_no_float_holds_are_refused_and_not_told_in_full(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a number between -2\^53 and 2\^53, not") as caught:
        from_json(Whole, {"name": "x", **values})
    assert len(str(caught.value)) < 200


def test_texts_are_no_longer_than_paths() -> None:
    for values in ({"name": "x" * 5000}, {"name": "x", "folder": "x" * 5000}):
        with pytest.raises(ConfigError, match=r"(name|folder) must have 4096 characters at most, not 5000"):
            from_json(Whole, values)


def test_long_and_deep_values_are_not_told_in_full() -> None:
    deep: list[Any] = []
    for _ in range(800):
        deep = [deep]
    for value in ("x" * 10**6, ["x"] * 10**6, deep):
        for values in ({"part": value}, {"flag": value}, {"part": {"kind": value}}, {"name": "x", "limit": value}):
            with pytest.raises(ConfigError) as caught:
                from_json(Whole, {"name": "x", **values})
            assert len(str(caught.value)) < 1000
