"""Warnings, given to the request that caused them: `warnings.catch_warnings` would mix those of several threads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from asr.errors import AsrWarning

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def collected() -> Iterator[list[str]]:
    """The messages of each `AsrWarning` in the block, in this thread; needs `collecting` around the program."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


@contextmanager
def collecting() -> Iterator[None]:
    """Let `collected` have its warnings; the others are shown as before."""

    with warnings.catch_warnings():
        warnings.simplefilter("always", AsrWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
            notes = _notes.get()
            if notes is not None and issubclass(category, AsrWarning):
                notes.append(str(message))
            else:
                before(message, category, *place, **more)  # type: ignore[arg-type]

        warnings.showwarning = show  # type: ignore[assignment]
        yield
