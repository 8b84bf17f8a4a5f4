"""`import asr` loads nothing, and every public name is found when it is first used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asr

STUB = ast.parse(Path(asr.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
IMPORTS = [alias for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def run(script: str) -> str:
    """What the script prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_asr_loads_lazy_loader_alone() -> None:
    script = (
        "import sys; before = set(sys.modules); import asr; "
        "print(*sorted({name.partition('.')[0] if not name.startswith('asr') else name "
        "for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    assert run(script).split() == ["asr", "lazy_loader"]


def test_an_error_is_found_without_torch_or_numpy() -> None:
    assert (
        run("import asr, sys; asr.AsrError; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False\n"
    )


@pytest.mark.parametrize("name", asr.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(asr, name).__module__.startswith("asr.")
    exec(f"from asr import {name}")


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert all(alias.asname == alias.name for alias in IMPORTS)  # without `as`, type checkers take it for private
    assert {alias.name for alias in IMPORTS} == set(asr.__all__) == set(dir(asr))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^No asr attribute transcribe$"):
        _ = asr.transcribe
    with pytest.raises(ImportError, match="cannot import name 'transcribe' from 'asr'"):
        exec("from asr import transcribe")


def test_the_version_is_the_same_everywhere() -> None:
    root = Path(asr.__file__).parents[1]
    patterns = {
        "pyproject.toml": r'^version = "(.*)"',
        "CITATION.cff": r"^version: (.*)",
        "CHANGELOG.md": r"^## (\S+)",
    }
    for name, pattern in patterns.items():
        version = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert version and version[1] == asr.__version__, name


def test_what_unix_alone_has_is_imported_with_a_fallback() -> None:
    """On Windows these modules are missing, so an import must stand in a `try`, or where only Unix comes to."""
    unix = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
    for package in ("asr", "data_prep", "recipes"):
        for path in (Path(asr.__file__).parents[1] / package).rglob("*.py"):
            for statement in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    names = [getattr(statement, "module", None), *(name.name for name in statement.names)]
                    assert not unix & set(names), f"{path}:{statement.lineno}"
