"""A few of the hostile models; `hostile_models.py` makes any number of them."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path

import pytest

from asr.errors import DataError
from tests.reliability import hostile_models

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of children as Linux does")


def test_hostile_models_are_refused_or_used(seed, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    faults: list[str] = []
    outcomes = hostile_models.campaign(14, seed, show=faults.append)
    assert faults == []
    assert sum(outcomes.values()) == 14


def refuse(path: Path) -> None:
    raise DataError("no", path=path)


def crash(path: Path) -> None:
    faulthandler.disable()  # else the log of the tests seems to tell of a real one
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("meet", "kind"),
    [
        (refuse, "refused"),
        (lambda path: None, "used"),
        (lambda path: [][0], "traceback"),
        (lambda path: bytearray(8 << 30), "memory"),
        (crash, "crash"),
        (lambda path: os.read(os.pipe()[0], 1), "hang"),
    ],
)
def test_each_fault_is_noticed(monkeypatch, meet, kind):
    monkeypatch.setattr(hostile_models, "meet", meet)
    monkeypatch.setattr(hostile_models, "MOST_SECONDS", 1)
    assert hostile_models.try_case(Path("x")).kind == kind


def test_a_message_without_end_is_a_fault(monkeypatch):
    def meet(path: Path) -> None:
        raise DataError("x" * 10**6)

    monkeypatch.setattr(hostile_models, "meet", meet)
    assert hostile_models.try_case(Path("x")).kind == "message"
