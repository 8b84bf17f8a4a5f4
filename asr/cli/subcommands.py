"""Commands that begin with the name of another: `asr-lm train ...`, `asr-data check ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import asr
from asr.cli.arguments import Parser
from asr.cli.command import run_command

Commands = Mapping[str, tuple[Callable[[Sequence[str]], Parser], Callable[[argparse.Namespace], int]]]
"""The parser of each command, made for its arguments, and what the command does with them."""


def run_subcommand(prog: str, commands: Commands, arguments: Sequence[str], *, description: str, examples: str) -> int:
    """The exit status of the command that the first argument names, with the others.

    Without one of that name, --help and --version are answered, and anything else is an error.

    Args:
        prog: the program, "asr-lm".
        commands: by name.
        arguments: of the command line.
        description, examples: for the help of the program itself.
    """
    name = arguments[0] if arguments else "--help"
    if name in commands:
        make_parser, work = commands[name]
        return run_command(f"{prog} {name}", lambda given: make_parser(given).parse(given), work, arguments[1:])

    def parse(given: Sequence[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog,
            usage=f"{prog} COMMAND [ARGUMENT...]",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action="version", version=f"asr {asr.__version__}")
        parser.add_argument("command", nargs="?", default="", metavar="COMMAND", help=", ".join(commands))
        parser.parse_known_args(given)
        parser.exit(2, f"{prog}: error: a command must come first ({', '.join(commands)}), not {given[0]!r}\n")

    return run_command(prog, parse, lambda _: 0, arguments or ["--help"])  # the parser exits
