"""What happens around every command: errors and warnings as single lines on stderr, and the exit status."""

from __future__ import annotations

import argparse
import atexit
import codecs
import errno
import gc
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread

from asr.errors import AsrError, AsrWarning, ConfigError, InputError, visible

# 0 is fine. A shell adds 128 to the signal that ended a program: SIGINT, SIGPIPE, SIGTERM.
DATA_WRONG, USAGE_WRONG, INTERRUPTED, PIPE_CLOSED, TERMINATED = 1, 2, 128 + 2, 128 + 13, 128 + 15


def run_command(
    prog: str,
    parse: Callable[[Sequence[str]], argparse.Namespace],
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """The exit status of a command: 0 fine, 1 something was wrong with the data, 2 wrong usage.

    Results go to stdout, everything else to stderr. An `AsrError` or an operating system's error is one line there, and
    so is a warning of ours; any other exception is a fault of the program and keeps its traceback.

    Args:
        prog: name of the command, which begins each line on stderr.
        parse: from the command line to arguments, `quiet` and `debug` among them; raises SystemExit as argparse does.
        work: the command; gets the parsed arguments.
        arguments: the command line without the program; None takes that of the process.
    """
    atexit.register(gc.freeze)  # or the collection at exit walks through all of torch, for a third of a second
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook has others
            stream.reconfigure(errors=_ESCAPES)  # a terminal may lack the letters
    try:
        try:
            with _termination_raised():
                status = _attempt(prog, parse, work, sys.argv[1:] if arguments is None else arguments)
        except SystemExit as exit_:  # argparse: --help, --version, wrong usage
            status = exit_.code if isinstance(exit_.code, int) else 0
        except KeyboardInterrupt:
            say("interrupted", prog=prog)
            status = INTERRUPTED
        except _Terminated:
            say("terminated", prog=prog)
            status = TERMINATED
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has had enough; nothing more may be written, even at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return PIPE_CLOSED
    return status


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """In the place of characters that an encoding lacks, what JSON has for them: \\u and a unit of UTF-16 each."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


_ESCAPES = "asr_escapes"
codecs.register_error(_ESCAPES, _escaped)


def _open_closed_streams() -> None:
    """Opens what the caller has closed (as by 2>&-): the next file would get its number, and what libraries say."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Inside, SIGTERM ends a program by an exception, so that it leaves nothing half-written behind."""

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
    """Writes one line to stderr, above a progress bar if there is one; control characters are written as escapes."""
    from tqdm import tqdm

    tqdm.write(visible(f"{prog}: {' '.join(str(message).split())}"), file=sys.stderr)


def noter(args: argparse.Namespace, *, prog: str) -> Callable[[str], None]:
    """What `say`s a sentence, unless --quiet."""

    def note(sentence: str) -> None:
        if not args.quiet:
            say(sentence, prog=prog)

    return note


def write_result(text: str) -> None:
    """Writes to stdout at once, so that results can be followed, above a progress bar if there is one.

    What its encoding lacks is written as JSON would escape it, so that JSON stays JSON.
    """
    from tqdm import tqdm

    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        tqdm.write(text, file=sys.stdout, end="")
        sys.stdout.flush()
    except OSError as error:  # a full disk, a reader that has gone
        error.filename = "standard output"
        raise


def _attempt(
    prog: str,
    parse: Callable[[Sequence[str]], argparse.Namespace],
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str],
) -> int:
    args = parse(arguments)
    try:
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
    """Each of our warnings becomes a line; those of other libraries, which are for programmers, show with --debug."""

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        kind = "" if issubclass(category, AsrWarning) else f"{category.__name__}: "
        say(f"warning: {kind}{message}", prog=prog)

    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        warnings.simplefilter("ignore" if quiet else "always", AsrWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield
