"""The wheel holds the machine code of the search: where it is installed, numba is never loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARPA = r"""
\data\
ngram 1=6
\1-grams:
-9 <unk>
-99 <s>
-1 </s>
-1 a
-1 b
-1 abba
\end\
"""
USE = """
import sys
import numpy as np
import asr
from asr.lm.ngram import NgramModel

path = [1, 0, 2, 3]
emission = np.log(np.full((4, 4), 0.02) + 0.92 * np.eye(4)[path])
for labels in ([" ", "a", "b", ""], ["", "▁a", "b", "ba"]):  # each loads a search and an aligner
    print(asr.build_decoder(labels, "words.arpa", beam_width=8).decode(emission).text)
print(*np.round(NgramModel.read("words.arpa").score(["a"]) / np.log(10)))
print("numba" in sys.modules, asr.__file__)
"""


def test_what_builds_the_wheel_has_the_bounds_of_what_runs_it() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(settings["build-system"]["requires"][1:]) <= set(settings["project"]["dependencies"])


@pytest.mark.slow
def test_an_installed_wheel_decodes_without_numba(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "asr", source / "asr", ignore=shutil.ignore_patterns("models", "corpora", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("asr-") and "-py3-none-" in wheel.name and not wheel.name.endswith("-any.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")

    (tmp_path / "installed" / "words.arpa").write_text(ARPA)
    (tmp_path / "cache").mkdir()
    caches = dict.fromkeys(("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"), str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path / "installed",
        env={**os.environ, **caches, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["a b", "abba", "-1.0 -1.0", f"False {tmp_path / 'installed/asr/__init__.py'}"]
    assert list((tmp_path / "cache").rglob("*.machine-code")) == []
