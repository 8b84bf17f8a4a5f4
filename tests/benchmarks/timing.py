"""Shared by the benchmarks: timing in turns, ratios per round, and a line about the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

Rounds = dict[str, list[float]]  # seconds of each contender in each round


def take_turns(contenders: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1) -> Rounds:
    """Seconds of each contender in each round; all run once per round, so that a busy machine slows all of them."""
    seconds: Rounds = {name: [] for name in contenders}
    for number in range(-warmup, rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(seconds: Rounds, one: str, other: str) -> list[float]:
    """The seconds of `one` divided by the seconds of `other`, for each round."""
    return [first / second for first, second in zip(seconds[one], seconds[other], strict=True)]


def spread(values: list[float], *, unit: str = "", scale: float = 1.0, digits: int = 2) -> str:
    """Median and range, as in `1.52 (1.40..1.71) s`."""
    middle, low, high = (
        f"{scale * value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({low}..{high}){unit and ' ' + unit}"


def machine(*packages: str) -> str:
    """Processor, cores, load, and the versions of Python and of the packages, in one line."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    """The model of the processor with its vector units, since a name such as `AMD EPYC` does not show them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in facts.items()}
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({' '.join(units)})"
