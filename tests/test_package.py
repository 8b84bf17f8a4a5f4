"""`import asr` loads nothing, and every public name is found when it is first used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import asr


def run(script: str) -> str:
    """What the script prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_asr_loads_no_library_and_no_module_of_its_own() -> None:
    script = (
        "import sys; before = set(sys.modules); import asr; "
        "print(*sorted({name.partition('.')[0] if not name.startswith('asr') else name "
        "for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    assert run(script).split() == ["asr"]


def test_an_error_is_found_without_torch_or_numpy() -> None:
    assert (
        run("import asr, sys; asr.AsrError; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False\n"
    )


@pytest.mark.parametrize("name", sorted(asr._HOME))
def test_every_public_name_is_found_in_its_module(name: str) -> None:
    assert getattr(asr, name) is getattr(import_module(f"asr.{asr._HOME[name]}"), name)


def test_dir_lists_the_public_names() -> None:
    assert dir(asr) == sorted([*asr._HOME, "__version__"])
    assert set(asr.__all__) == set(dir(asr))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'asr' has no attribute 'transcribe'$"):
        _ = asr.transcribe
    with pytest.raises(ImportError, match="cannot import name 'transcribe' from 'asr'"):
        exec("from asr import transcribe")


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING, read as syntax, are the table that names are resolved by."""
    module = ast.parse(Path(asr.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in module.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    homes = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom) and statement.module
        for imported in statement.names:
            assert imported.asname == imported.name  # without `as`, type checkers take it for private
            homes[imported.name] = statement.module.removeprefix("asr.")
    assert homes == asr._HOME


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
