"""The commands: each parses its arguments, calls functions that anyone can import, and prints."""

import os
import sys
from types import TracebackType

_PROG = os.path.basename(sys.argv[0]) if sys.argv else ""


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Name Ctrl-C while the modules of a command load, before `run_command`; a traceback would be no help."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{_PROG}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if _PROG.startswith("asr-") and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _show
