"""Functions compiled by numba, whose machine code is kept on disk wherever some folder takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled when first called for each set of types; it runs without the GIL.

    The machine code is kept beside the source, or else in the user's cache folder, so that the next process does not
    compile again; where neither can be written, each process compiles for itself. What is kept is checked against the
    function's own source file only: after changing a compiled function that another file calls, delete `__pycache__`.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(function, nogil=True)
