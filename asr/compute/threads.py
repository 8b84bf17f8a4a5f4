"""The number of processor threads, in torch and in onnxruntime; neither is loaded here."""

from __future__ import annotations

import os
import sys

_threads = 0


def set_threads(count: int) -> None:
    """Give every runtime this many threads, also those that are loaded later."""
    global _threads
    _threads = count
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def chosen_threads() -> int:
    """The number given to `set_threads`; 0 if it was never called."""
    return _threads


def threads_of_environment() -> int:
    """OMP_NUM_THREADS; 0 if it is not a number."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0


def default_threads() -> int:
    """The number of threads of a process by itself: OMP_NUM_THREADS, otherwise the processors that it may use."""
    if threads := threads_of_environment():
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
