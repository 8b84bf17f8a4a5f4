from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal, get_type_hints

import pytest

import asr
from asr.cli.arguments import Parser, add_options, at_least, disable_progress, given_options, given_values
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.options import from_json, to_json
from asr.recognition.many_recordings import TranscribeOptions
from asr.training.config import DataOptions, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    """What is inside."""

    weight: float = field(default=0.5, metadata={"help": "share of 100 %"})
    sizes: tuple[int, ...] = field(default=(2, 1), metadata={"help": "sizes"})


@dataclass(frozen=True, kw_only=True)
class Outer:
    """What is outside."""

    must_be: str = field(metadata={"help": "has no default"})
    cell: Literal["gru", "lstm"] = field(default="lstm", metadata={"help": "kind of cell"})
    deep: bool = field(default=True, metadata={"help": "whether deep"})
    width: int | None = field(default=None, metadata={"help": "width"})
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ConfigError("width must not be 13")


def make_parser() -> Parser:
    parser = Parser("prog", usage="prog [OPTION...]", description="Does it.", examples="examples:\n  prog")
    add_options(parser, Outer, title="outer")
    return parser


def test_flags_give_values_of_their_types():
    line = "--must-be x --cell gru --no-deep --width 3 --inner.weight 1 --inner.sizes 3,4,5"
    args = make_parser().parse(line.split())
    expected = Outer(must_be="x", cell="gru", deep=False, width=3, inner=Inner(weight=1.0, sizes=(3, 4, 5)))
    assert given_options(args, Outer) == expected


def test_only_what_was_given_is_a_value():
    assert given_values(make_parser().parse([]), Outer) == {}
    args = make_parser().parse(["--inner.weight=0.25", "--deep"])
    assert given_values(args, Outer) == {"deep": True, "inner": {"weight": 0.25}}


def test_the_word_none_is_no_value():
    args = make_parser().parse(["--width", "none", "--inner.sizes", "none"])
    assert given_values(args, Outer) == {"width": None, "inner": {"sizes": ()}}


def test_options_of_a_group_have_flags_without_dots():
    parser = Parser("prog", usage="", description="", examples="")
    mine = DecodingOptions.of(beam_width=4, lm="a.arpa", hotwords=("A", "B"))
    add_options(parser, DecodingOptions, title="decoding", defaults=mine)
    values = given_values(
        parser.parse(["--rescore-lm", "none", "--beam-width", "8", "--hotwords", "X,Y"]), DecodingOptions
    )
    assert values == {"rescore_lm": None, "beam_width": 8, "hotwords": ("X", "Y")}
    text = " ".join(parser.format_help().split())
    assert "prefixes; 1: decode greedily (default: 4)" in text
    assert "safetensors (default: a.arpa)" in text and "(6) (default: A,B)" in text


def test_an_options_own_check_is_kept():
    with pytest.raises(ConfigError, match="width must not be 13"):
        given_options(make_parser().parse(["--must-be", "x", "--width", "13"]), Outer)


def test_help_has_the_defaults_the_choices_and_the_groups():
    text = " ".join(make_parser().format_help().split())
    assert "--inner.weight NUMBER share of 100 % (default: 0.5)" in text
    assert "--inner.sizes N,... sizes (default: 2,1)" in text
    assert "--cell {gru,lstm} kind of cell (default: lstm)" in text
    assert "--deep, --no-deep whether deep (default: yes)" in text
    assert "--must-be TEXT has no default (required)" in text
    assert "--width N width" in text
    assert "inner: What is inside." in text
    assert text.endswith("examples: prog")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--inner.weigth 1", "unknown argument '--inner.weigth': did you mean --inner.weight? (see prog --help)"),
        ("--cel gru", "unknown argument '--cel': did you mean --cell? (see prog --help)"),  # no silent abbreviation
        ("--zzz", "unknown argument '--zzz' (see prog --help)"),
        ("--cell rnn", "argument --cell: invalid choice: 'rnn'"),
        ("--inner.sizes 1,x", "argument --inner.sizes: must be whole numbers with commas between them, not '1,x'"),
        ("--inner.weight x", "argument --inner.weight: invalid float value: 'x'"),
        ("--threads 0", "argument --threads: must be at least 1, not 0"),
        ("--threads two", "argument --threads: must be a whole number, not 'two'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(line, message, capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse(line.split())
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"prog: error: {message}")
    assert printed.err.count("\n") == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"


@pytest.mark.parametrize(
    ("line", "disable"),
    [("", None), ("--quiet", True), ("--progress", False), ("--no-progress", True), ("--quiet --progress", False)],
)
def test_progress(line, disable):
    assert disable_progress(make_parser().parse(line.split())) is disable


def test_at_least_takes_its_bound():
    assert at_least(3)("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="must be at least 3, not 2"):
        at_least(3)("2")


def leaves(kind: type, prefix: str = "") -> dict[str, object]:
    """Dotted name and default of every field that is not itself options."""
    found: dict[str, object] = {}
    hints = get_type_hints(kind)
    for entry in fields(kind):
        if is_dataclass(hints[entry.name]):
            found |= leaves(hints[entry.name], f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = entry
    return found


def test_every_field_of_a_training_has_a_flag_that_takes_its_default():
    parser = Parser("prog", usage="", description="", examples="")
    add_options(parser, TrainingConfig, title="training")
    config = TrainingConfig(data=DataOptions(train=("a",), dev=("b", "c")))
    line = []
    for name in leaves(TrainingConfig):
        if name in ("frontend.whisper", "frontend.wav2vec2"):  # the trainer sets it, from frontend.pretrained
            continue
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            line.append(flag if value else f"--no-{flag[2:]}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else value
            line.append(f"{flag}={text}")
    values = given_values(parser.parse(line), TrainingConfig)
    assert from_json(TrainingConfig, values) == config
    assert values.keys() == to_json(config).keys()


def test_flags_of_the_recognizer_have_its_defaults():
    parameters = inspect.signature(asr.load).parameters
    assert parameters["batch_size"].default == TranscribeOptions.batch_size
    assert parameters["precision"].default == TranscribeOptions.precision
    assert parameters["runtime"].default == TranscribeOptions.runtime
    assert parameters["device"].default == make_parser().parse([]).device
