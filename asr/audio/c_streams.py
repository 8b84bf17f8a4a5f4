"""Silence C libraries that print with `printf` and `fprintf(stderr)`.

libsndfile prints errors of SDS and ALAC files on standard output, where they would mix with JSON results. libmpg123
prints a note per damaged frame on standard error. Neither has an option to prevent it. Python writes to descriptors 1
and 2 directly, so C's `stdout` and `stderr` can point to /dev/null while a library works. Redirecting the descriptors
themselves would lose the output of other threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_NAMES = (("stdout", "__stdoutp"), ("stderr", "__stderrp"))  # in glibc, in macOS
_lock = threading.Lock()
_depth = 0
_originals: list[int | None] = []


@contextmanager
def silenced() -> Iterator[None]:
    """Send C's printf to /dev/null in all threads; do nothing where the C library has no such variables."""
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _originals[:] = [pointer.value for pointer in _pointers()]
            for pointer in _pointers():
                pointer.value = _null_file()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                for pointer, value in zip(_pointers(), _originals, strict=True):
                    pointer.value = value


@cache
def _pointers() -> list[ctypes.c_void_p]:
    """The variables `stdout` and `stderr` of the C library; none if it cannot open /dev/null."""
    try:
        library = ctypes.CDLL(None)
        symbols = [[name for name in names if hasattr(library, name)] for names in _NAMES]
        return [ctypes.c_void_p.in_dll(library, names[0]) for names in symbols if names] if _null_file() else []
    except (OSError, TypeError):  # the C library cannot be loaded
        return []


@cache
def _null_file() -> int | None:
    """A `FILE *` for /dev/null, never closed."""
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    return library.fopen(os.fsencode(os.devnull), b"w")


def _reset() -> None:
    """Restore the streams in a forked process, which has none of the working threads."""
    global _lock, _depth
    _lock = threading.Lock()
    if _depth:
        _depth = 0
        for pointer, value in zip(_pointers(), _originals, strict=True):
            pointer.value = value


os.register_at_fork(after_in_child=_reset)
