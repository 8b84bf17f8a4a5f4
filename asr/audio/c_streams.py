"""What C libraries print with `printf` and `fprintf(stderr)`, kept from results and from the terminal.

libsndfile prints on standard output what is wrong with an SDS or ALAC file, which would end up among JSON, and
libmpg123 notes on standard error what it makes of each damaged frame; neither can be told not to. Python writes to
descriptors 1 and 2 itself, so C's own `stdout` and `stderr` can point elsewhere for as long as a library is at work,
where descriptors could not be turned away without loss of what other threads write.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_NAMES = (("stdout", "__stdoutp"), ("stderr", "__stderrp"))  # glibc's, and those of macOS
_lock = threading.Lock()
_depth = 0
_kept: list[int | None] = []


@contextmanager
def silenced() -> Iterator[None]:
    """While it lasts, in any thread, C's printf goes nowhere; nothing changes where the C library has no such names."""
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _kept[:] = [pointer.value for pointer in _pointers()]
            for pointer in _pointers():
                pointer.value = _nowhere()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                for pointer, value in zip(_pointers(), _kept, strict=True):
                    pointer.value = value


@cache
def _pointers() -> list[ctypes.c_void_p]:
    """The variables `stdout` and `stderr` of the C library; none where it cannot open /dev/null either."""
    try:
        library = ctypes.CDLL(None)
        found = [[name for name in names if hasattr(library, name)] for names in _NAMES]
        return [ctypes.c_void_p.in_dll(library, names[0]) for names in found if names] if _nowhere() else []
    except (OSError, TypeError):  # no C library that can be asked
        return []


@cache
def _nowhere() -> int | None:
    """A `FILE *` for /dev/null, open for as long as the program runs."""
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    return library.fopen(os.fsencode(os.devnull), b"w")


def _begin_again() -> None:
    """In a forked process none of the threads lives on that were at work."""
    global _lock, _depth
    _lock = threading.Lock()
    if _depth:
        _depth = 0
        for pointer, value in zip(_pointers(), _kept, strict=True):
            pointer.value = value


os.register_at_fork(after_in_child=_begin_again)
