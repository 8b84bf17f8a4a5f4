"""Run a command: errors and warnings as single lines on stderr, signals, and the exit status."""

from __future__ import annotations

import argparse
import atexit
import codecs
import errno
import gc
import io
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread

import asr
from asr.cli.arguments import Parser
from asr.errors import AsrError, AsrWarning, ConfigError, InputError, visible
from asr.extras import EXTRAS, needing_extras

# 0 is success. A shell adds 128 to the number of the signal that ended a program: SIGINT, SIGPIPE, SIGTERM.
DATA_WRONG, USAGE_WRONG, INTERRUPTED, PIPE_CLOSED, TERMINATED = 1, 2, 128 + 2, 128 + 13, 128 + 15

Commands = Mapping[str, tuple[Callable[[Sequence[str]], Parser], Callable[[argparse.Namespace], int]]]
"""The parser of each command, made for its arguments, and what the command does with them."""


def run_command(
    prog: str,
    parse: Callable[[Sequence[str]], argparse.Namespace],
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command; the exit status: 0 success, 1 wrong data, 2 wrong usage.

    Results go to stdout, everything else to stderr. An `AsrError`, an `AsrWarning` and an error of the operating system
    are one line each, and so is a missing package of an extra; any other exception is a bug and keeps its traceback.

    Args:
        prog: name of the command, at the beginning of each line on stderr.
        parse: from the command line to arguments with `quiet` and `debug`; raises SystemExit like argparse.
        work: the command; gets the parsed arguments.
        arguments: the command line without the program; None takes that of the process.
    """
    atexit.register(gc.freeze)  # without it, the collection at exit visits all of torch, for a third of a second
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in a notebook
            stream.reconfigure(errors=_ESCAPES)  # the encoding of the terminal may lack characters
    try:
        try:
            with _termination_raised():
                status = _attempt(prog, parse, work, sys.argv[1:] if arguments is None else arguments)
        except SystemExit as exit_:  # argparse: --help, --version, wrong usage
            status = exit_.code if isinstance(exit_.code, int) else 0
        except BaseException as error:
            if (status := _status_of_signal(error, prog)) == 0:
                raise
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has ended; nothing more may be written, even at exit
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(null, stream.fileno())
        return PIPE_CLOSED
    return status


def run_subcommand(prog: str, commands: Commands, arguments: Sequence[str], *, description: str, examples: str) -> int:
    """The exit status of the command that the first argument names, with the others.

    Without one of that name, --help and --version are answered, and anything else is an error.
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
        parser.exit(2, f"{prog}: error: the command must be one of {', '.join(commands)}, not {given[0]!r}\n")

    return run_command(prog, parse, lambda _: 0, arguments or ["--help"])  # the parser exits


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """JSON's escapes for characters that an encoding lacks: \\u and a unit of UTF-16 each."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


_ESCAPES = "asr_escapes"
codecs.register_error(_ESCAPES, _escaped)


def _open_closed_streams() -> None:
    """Open standard streams that the caller has closed (2>&-); else the next open file gets the stream's output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


class _Terminated(BaseException):
    """SIGTERM was received."""


def signal_behind(error: BaseException) -> BaseException | None:
    """The exception of a signal that `error` is, or that it hides.

    A library's clean-up that a signal cuts short may fail, and its error replaces the signal's: tqdm releases a lock
    that it has not acquired yet.
    """
    cause: BaseException | None = error
    while not isinstance(cause, KeyboardInterrupt | _Terminated | None):
        cause = cause.__context__
    return cause


def add_note_to_signal(error: BaseException, note: Callable[[], str]) -> None:
    """Add a sentence to what the command says of the signal behind the error, if there is one."""
    if signal_ := signal_behind(error):
        signal_.add_note(note())


def _status_of_signal(error: BaseException, prog: str) -> int:
    """Name the signal behind the error; the exit status, or 0 if there is none.

    A variable of the signal in a frame of its own traceback would be a cycle. As nothing is collected at exit, files
    and resamplers of the interrupted work would never be closed, and the library of the resamplers complains.
    """
    signal_ = signal_behind(error)
    if signal_ is None:
        return 0
    is_interrupt = isinstance(signal_, KeyboardInterrupt)
    notes = getattr(signal_, "__notes__", [])
    say(": ".join(["interrupted" if is_interrupt else "terminated", *notes]), prog=prog)
    return INTERRUPTED if is_interrupt else TERMINATED


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that files are not left half-written."""

    def end(*_: object) -> None:
        raise _Terminated

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def say(message: object, *, prog: str) -> None:
    """Write one line to stderr, above any progress bar; control characters are escaped."""
    from tqdm import tqdm

    tqdm.write(visible(f"{prog}: {' '.join(str(message).split())}"), file=sys.stderr)


def say_next(arguments: Sequence[str | os.PathLike[str]], args: argparse.Namespace, *, prog: str) -> None:
    """Propose the next command on stderr, as it is typed in a shell, unless --quiet."""
    if not args.quiet:
        say(f"next: {shlex.join([os.fspath(argument) for argument in arguments])}", prog=prog)


def noter(args: argparse.Namespace, *, prog: str) -> Callable[[str], None]:
    """A function that prints a sentence with `say`, unless --quiet."""

    def note(sentence: str) -> None:
        if not args.quiet:
            say(sentence, prog=prog)

    return note


def set_threads(args: argparse.Namespace) -> None:
    """Set the threads of all processes together."""
    if args.threads:
        from asr.compute import threads

        threads.set_threads(args.threads * getattr(args, "nproc", 1))


def write_result(text: str) -> None:
    """Write to stdout without delay, above any progress bar.

    Characters that its encoding lacks are escaped as in JSON, so that JSON stays valid.
    """
    from tqdm import tqdm

    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        tqdm.write(text, file=sys.stdout, end="")
        sys.stdout.flush()
    except OSError as error:  # the disk is full, or the reader has ended
        error.filename = "standard output"
        raise


def _attempt(
    prog: str,
    parse: Callable[[Sequence[str]], argparse.Namespace],
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str],
) -> int:
    args = argparse.Namespace(debug=False)
    try:
        with needing_extras(prog, {**EXTRAS, "torch": "train"} if "train" in prog else EXTRAS):
            args = parse(arguments)
            with _warnings_as_lines(prog, quiet=args.quiet, debug=args.debug):
                return work(args)
    except BrokenPipeError:
        raise
    except (AsrError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        if isinstance(error, ConfigError):
            error = error.renamed(getattr(args, "flags", {}))
        say(f"error: {_sentence(error)}", prog=prog)
        return USAGE_WRONG if isinstance(error, ConfigError | InputError) else DATA_WRONG


def _sentence(error: AsrError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def _warnings_as_lines(prog: str, *, quiet: bool, debug: bool) -> Iterator[None]:
    """Print each `AsrWarning` as a line; warnings of other libraries only with --debug."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        kind = "" if issubclass(category, AsrWarning) else f"{category.__name__}: "
        say(f"warning: {kind}{message}", prog=prog)

    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        warnings.simplefilter("ignore" if quiet else "always", AsrWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield
