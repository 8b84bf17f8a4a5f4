"""Compilation survives where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
from asr.compiled import compiled

@compiled
def double(x):
    return 2 * x

print(double(21), len(double.stats.cache_hits), type(double._cache).__name__)
"""


def run(folder: Path, **environment: str) -> list[str]:
    command = [sys.executable, str(folder / "module.py")]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "module.py").write_text(SOURCE)
    return tmp_path


def test_the_second_process_does_not_compile(folder):
    assert run(folder) == ["42", "0", "FunctionCache"]
    assert list((folder / "__pycache__").glob("module.double*.nbi"))
    assert run(folder) == ["42", "1", "FunctionCache"]


def test_without_any_folder_to_write_to_it_runs_all_the_same(folder):
    (folder / "__pycache__").write_text("a file, where numba would make a folder")
    nowhere = str(folder / "module.py" / "below a file")
    assert run(folder, HOME=nowhere, XDG_CACHE_HOME=nowhere) == ["42", "0", "NullCache"]
