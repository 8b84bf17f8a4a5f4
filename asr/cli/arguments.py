"""Command-line flags, made from the frozen option dataclasses: a name, a default and a help text are written once.

beam_width: int = option(1, "...")                             ->   --beam-width N   ... (default: 1)
TrainingConfig.encoder.hidden_size                             ->   --encoder.hidden-size N

The word `none` sets an optional value to None, and an option of several values to no values.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import asr
from asr.audio.source import MAX_INPUT_BYTES
from asr.errors import visible
from asr.options import from_json

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """A parser with the flags of every command, and with errors of one line.

    Args:
        prog, usage, description: as for argparse.
        examples: the end of the help; that of --help begins at the line `examples:`.
        short: names of the arguments that --help shows; --help-all shows all. Without names, both show all.
        foreign: flags of another program that users may type, as --output_dir, and what to write in their place.
    """

    def __init__(
        self,
        prog: str,
        *,
        usage: str,
        description: str,
        examples: str,
        short: Sequence[str] = (),
        foreign: Mapping[str, str] = MappingProxyType({}),
    ):
        super().__init__(
            prog=prog,
            usage=usage,
            description=textwrap.fill(description, 79),
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.short, self.foreign = short, foreign
        what = "what most people need; --help-all shows all options" if short else "this help"
        self.add_argument("-h", "--help", action=_ShowHelp, nargs=0, default=argparse.SUPPRESS, help=f"show {what}")
        self.add_argument(
            "--help-all",
            action=_ShowHelp,
            nargs=0,
            default=argparse.SUPPRESS,
            help="show this help" if short else argparse.SUPPRESS,
        )
        group = self.add_argument_group("options of every command")
        group.add_argument("--version", action="version", version=f"asr {asr.__version__}")
        group.add_argument("--quiet", action="store_true", help="show no progress, notes or warnings, only errors")
        group.add_argument(
            "--progress",
            action=argparse.BooleanOptionalAction,
            help="show a progress bar on stderr (default: on a terminal)",
        )
        group.add_argument("--debug", action="store_true", help="show the traceback of an error, and all warnings")
        group.add_argument(
            "--device",
            default="auto",
            help="compute on cpu, cuda, cuda:1 ...; auto: on CUDA if there is one (default: auto)",
        )
        group.add_argument(
            "--threads", type=at_least(1), metavar="N", help="use N processor threads (default: as the runtime chooses)"
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The arguments, the flag of each as `flags`, and what was typed, as `arguments`.

        Unknown flags are an error that proposes others; True or False after a flag that takes no value is an
        error that says so.
        """
        self._refuse_values(arguments)
        parsed, unknown = self.parse_known_args(arguments)
        if unknown:
            flags = [word for word in unknown if word.startswith("-")] or unknown[:1]
            self.error("; ".join(f"unknown argument {flag!r}{self._advice(flag.partition('=')[0])}" for flag in flags))
        parsed.flags = {
            action.dest: next(flag for flag in action.option_strings if flag.startswith("--"))
            for action in self._actions
            if action.option_strings
        }
        parsed.arguments = list(arguments)
        return parsed

    def _refuse_values(self, arguments: Sequence[str]) -> None:
        """Exit with an error if True or False, as other programs want it, follows a flag that takes no value."""
        words = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
        for word, following in zip(words, [*words, ""][1:], strict=True):
            flag, mark, value = word.partition("=")
            value = value if mark else following
            action = self._option_string_actions.get(flag)
            if action is None or action.nargs != 0 or value.lower() not in ("true", "false"):
                continue
            is_no = flag.startswith("--no-")
            opposite = next((other for other in action.option_strings if other.startswith("--no-") != is_no), None)
            if value.lower() == "true":
                advice = f"write {flag} alone"
            else:
                advice = f"write {opposite}" if opposite else "leave it out"
            self.error(f"{flag} takes no value, but got {value!r}: {advice}")

    def _advice(self, flag: str) -> str:
        """What to write in place of an unknown flag, as the end of a sentence."""
        if advice := self.foreign.get("--" + flag[2:].replace("-", "_")):
            return f": {advice}"
        near = get_close_matches(flag, self._option_string_actions, n=1)
        return f": did you mean {near[0]}?" if near else ""

    def format_short_help(self) -> str:
        """The help of the arguments `short`."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(self.description)
        formatter.start_section("options")
        shown = [action for action in self._actions if action.dest in self.short]
        formatter.add_arguments(sorted(shown, key=lambda action: self.short.index(action.dest)))
        formatter.end_section()
        assert self.epilog is not None
        formatter.add_text(self.epilog[self.epilog.index("examples:\n") :])
        formatter.add_text(f"{self.prog} --help-all shows all options.")
        return formatter.format_help()

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument -\w/", "argument ", message)  # the long flag says more
        self.exit(2, f"{self.prog}: error: {visible(message)} (see {self.prog} --help)\n")


class _ShowHelp(argparse.Action):
    """Print the short or the whole help, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        assert isinstance(parser, Parser)
        is_short = self.dest == "help" and parser.short
        parser._print_message(parser.format_short_help() if is_short else parser.format_help(), sys.stdout)
        parser.exit()


def at_least(least: int) -> Callable[[str], int]:
    """A parser of integers that refuses values below `least`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
        return number

    return parse


def add_sound_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the sound of a recording; `sound_flags` reads them."""
    group = parser.add_argument_group("sound")
    group.add_argument(
        "--channel", type=at_least(0), metavar="N", help="use channel N, from 0 (default: the mix of all)"
    )
    group.add_argument(
        "--track",
        type=at_least(0),
        metavar="N",
        help="use sound track N, from 0, of a file with several (default: the one flagged as default)",
    )
    group.add_argument(
        "--max-input-bytes",
        type=at_least(1),
        default=MAX_INPUT_BYTES,
        metavar="N",
        help="refuse more than N bytes from standard input, a pipe or a URL (default: %(default)s)",
    )


def sound_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `asr.audio.waveform.read_audio`, from the flags of `add_sound_flags`."""
    return {"channel": args.channel, "track": args.track, "max_input_bytes": args.max_input_bytes}


def show_progress(args: argparse.Namespace) -> bool | None:
    """Whether to show a progress bar; None: if stderr is a terminal."""
    return False if args.quiet and args.progress is None else args.progress


def disable_progress(args: argparse.Namespace) -> bool | None:
    """The argument `disable` of tqdm, from `show_progress`."""
    shown = show_progress(args)
    return None if shown is None else not shown


def progress_bar(args: argparse.Namespace, *iterable: Any, **options: Any) -> Any:
    """A bar of tqdm, shown as the flags want it, and removed at its end."""
    from tqdm import tqdm

    return tqdm(*iterable, disable=disable_progress(args), leave=False, **options)


def add_options(
    parser: argparse.ArgumentParser, kind: type[Any], *, title: str, prefix: str = "", defaults: Any = None
) -> None:
    """Add a flag for each field of `kind` that has a help text; fields of nested dataclasses get dotted names.

    Help shows the values of the instance `defaults`; None: the defaults of `kind`. Options of a `group` have no dot.
    """
    about = (kind.__doc__ or "").partition("\n")[0]
    group = parser.add_argument_group(title, "\n".join(textwrap.wrap(about, 76)))
    hints = typing.get_type_hints(kind)
    for entry in fields(kind):
        name, hint = prefix + entry.name, hints[entry.name]
        default = getattr(defaults, entry.name, entry.default)
        if is_dataclass(hint):
            assert isinstance(hint, type)
            inner = prefix if entry.metadata.get("group") else f"{name}."
            add_options(parser, hint, title=name, prefix=inner, defaults=None if default is MISSING else default)
        elif entry.metadata.get("help"):
            group.add_argument(
                "--" + name.replace("_", "-"),
                dest=name,
                default=argparse.SUPPRESS,
                help=_help(entry.metadata["help"], default).replace("%", "%%"),
                **_reading(hint),
            )


def given_values(args: argparse.Namespace, kind: type[Any], *, prefix: str = "") -> dict[str, Any]:
    """The values of the flags of `add_options`, by their names for `asr.options.from_json`."""
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for entry in fields(kind):
        name = prefix + entry.name
        if is_dataclass(hint := hints[entry.name]):
            assert isinstance(hint, type)
            if entry.metadata.get("group"):
                values |= given_values(args, hint, prefix=prefix)
            elif inner := given_values(args, hint, prefix=f"{name}."):
                values[entry.name] = inner
        elif hasattr(args, name):
            values[entry.name] = getattr(args, name)
    return values


def given_options(args: argparse.Namespace, kind: type[Options]) -> Options:
    """The dataclass `kind` from the flags of `add_options`; other fields have their defaults.

    Raises:
        ConfigError: the dataclass refuses the values.
    """
    return from_json(kind, given_values(args, kind))


def _help(text: str, default: Any) -> str:
    if default is MISSING:
        return f"{text} (required)"
    if default in ("", None, ()):
        return text
    if isinstance(default, bool):
        return f"{text} (default: {'yes' if default else 'no'})"
    if isinstance(default, tuple):
        return f"{text} (default: {','.join(map(str, default))})"
    return f"{text} (default: {default})"


def _reading(hint: Any) -> dict[str, Any]:
    """The arguments of `add_argument` for a value of this type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        reading = _reading(inner)
        return {**reading, "type": _none_or(reading["type"])}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return {"type": type(arguments[0]), "choices": arguments}
    if origin is tuple:
        return {"type": _sequence_of(arguments[0]), "metavar": f"{_METAVARS[arguments[0]]},..."}
    return {"type": hint, "metavar": _METAVARS[hint]}


_METAVARS: dict[Any, str] = {int: "N", float: "NUMBER", str: "TEXT"}


def _none_or(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        return None if text == "none" else read(text)

    parse.__name__ = read.__name__  # argparse names it in errors
    return parse


def _sequence_of(kind: type[Any]) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(",") if part) if text != "none" else ()
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be {'whole ' * (kind is int)}numbers with commas between them, not {text!r}"
            ) from None

    return parse
