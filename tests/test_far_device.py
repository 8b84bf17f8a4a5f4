"""Nothing is forgotten on the CPU when a model is elsewhere; see `tests.far_device`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch knows no devices made in Python",
)
@pytest.mark.parametrize("part", ["training", "language-model", "recognition"])
def test_another_device_gives_what_the_cpu_does(part: str) -> None:
    command = [sys.executable, "-m", "tests.far_device", part]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
