from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import asr
from asr.compute.machine_code import KernelModule
from asr.ctc import alignment, beam
from asr.errors import AsrWarning
from asr.lm import ngram

SOURCE = """
import numba
from helper import FACTOR

@numba.njit(_nrt=False, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def scaled(a, b):
    return FACTOR * a + b

KERNELS = [scaled]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a kernel module and the one it depends on, with a cache of its own."""
    (tmp_path / "a_kernel.py").write_text(SOURCE)
    (tmp_path / "helper.py").write_text("FACTOR = 10\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for name in ("a_kernel", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("a_kernel", "helper"):
        sys.modules.pop(name, None)


def load() -> tuple[KernelModule, int]:
    """The module, and how often it said that it compiles."""
    told: list[None] = []
    module = KernelModule("a_kernel", depends_on=["helper"])
    module.load(on_compile=lambda: told.append(None))
    module.load(on_compile=lambda: told.append(None))
    return module, len(told)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*"))


def test_compiled_once_and_then_read_from_its_file(folder):
    module, told = load()
    assert (module["scaled"](4, -2), told) == (38, 1)
    assert len(kept(folder)) == 1
    module, told = load()
    assert (module["scaled"](2**40, 1), told) == (10 * 2**40 + 1, 0)


def test_a_process_that_reads_what_was_kept_never_loads_numba(folder):
    load()
    code = (
        "import sys; from asr.compute.machine_code import KernelModule;"
        "assert KernelModule('a_kernel', depends_on=['helper'])['scaled'](1, 2) == 12;"
        "sys.exit('numba' in sys.modules or 'a_kernel' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_a_change_of_any_source_compiles_anew(folder):
    load()
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper")
    sys.modules.pop("a_kernel")
    module, told = load()
    assert (module["scaled"](4, -2), told) == (398, 1)
    assert len(kept(folder)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"[]\n" + content,
        lambda content: content.replace(b'"scaled"', b'"scaler"'),
        lambda content: b"\xff\xfe" + content,
    ],
)
def test_a_damaged_file_is_written_anew(folder, damage):
    load()
    (file,) = kept(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    module, told = load()
    assert (module["scaled"](4, -2), told) == (38, 1)
    assert load()[1] == 0


def test_where_nothing_can_be_written_each_process_compiles(folder, monkeypatch):
    (folder / "cache").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for _ in range(2):
        module, told = load()
        assert (module["scaled"](4, -2), told) == (38, 1)


def test_the_users_cache_is_next_when_the_package_cannot_be_written_to(folder, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    module = KernelModule("a_kernel", depends_on=["helper"])
    beside, users = module._places
    assert beside.parent.name == "__pycache__"
    assert users.parent == folder / "home" / "asr"
    monkeypatch.setattr(module, "_places", [folder / "helper.py" / beside.name, users])
    assert module["scaled"](4, -2) == 38
    assert users.exists()


def test_a_user_without_a_home_has_no_cache(folder, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    (beside,) = KernelModule("a_kernel", depends_on=["helper"])._places
    assert beside.parent.name == "__pycache__"


def evil(folder: Path) -> None:
    """What was kept, with another content that has its right checksum: code of a * 100 + b."""
    (file,) = kept(folder)
    module = KernelModule("a_kernel", depends_on=["helper"])
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper"), sys.modules.pop("a_kernel")
    objects = KernelModule("a_kernel", depends_on=["helper"])._compile()
    (folder / "helper.py").write_text("FACTOR = 10\n")
    sys.modules.pop("helper"), sys.modules.pop("a_kernel")
    module._write(objects)
    assert kept(folder) == [file]


def test_forged_code_is_run_only_where_this_user_alone_can_have_written_it(folder):
    load()
    evil(folder)
    assert load()[0]["scaled"](4, -2) == 398  # the forgery is good
    (folder / "cache").chmod(0o1777)  # and others can put it here
    module, told = load()
    assert (module["scaled"](4, -2), told) == (38, 1)
    assert (folder / "home" / "asr").is_dir()
    assert load()[1] == 0  # it was kept in the user's own folder


def test_code_that_is_kept_nowhere_for_fear_of_others_is_a_warning(folder, monkeypatch):
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    with pytest.warns(
        AsrWarning,
        match=r"compiled code is kept nowhere, and each process compiles: .*cache: another user can write here, so it "
        r"is not used as a cache; take the right to write from others \(chmod go-w\), or set NUMBA_CACHE_DIR to a",
    ):
        module, _ = load()
    assert module["scaled"](4, -2) == 38
    assert list((folder / "cache").rglob("*.machine-code")) == []


def test_nothing_of_the_package_is_kept_by_numba_itself():
    """Its cache is unpickled, from wherever it lies, and a truncated file of it is a traceback."""
    sources = {path: path.read_text() for path in Path(asr.__file__).parent.rglob("*.py")}
    assert [path for path, source in sources.items() if re.search(r"cache ?= ?True", source)] == []


def test_processes_that_compile_at_once_do_not_disturb_each_other(folder):
    code = (
        "from asr.compute.machine_code import KernelModule;"
        "module = KernelModule('a_kernel', depends_on=['helper']);"
        "module.load(on_compile=lambda: (print('compiling', flush=True), input()));"
        "print(module['scaled'](1, 2))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["compiling\n"] * 2  # neither has begun
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["12\n"] * 2
    assert len(kept(folder)) == 1
    assert load()[1] == 0


@pytest.mark.parametrize("kernels", [beam._kernels, alignment._kernels, ngram._kernels])
def test_all_modules_that_go_into_a_kernel_count_in_what_is_kept(kernels):
    source = Path(find_spec(kernels._name).origin).read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert {name for name in named if name.startswith("asr")} == set(kernels._modules) - {kernels._name}


def test_the_beam_search_is_ready_without_numba():
    code = (
        "import sys; from asr.ctc.beam import BeamSearch, warm_up; import numpy as np; warm_up();"
        "loaded = 'numba' in sys.modules;"
        "BeamSearch(num_labels=2, blank=0).decode(np.zeros((1, 2)));"
        "sys.exit(loaded or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", "from asr.ctc.beam import warm_up; warm_up()"], check=True)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_llvmlite_is_loaded_when_something_is_compiled_or_run():
    code = "import sys, asr.ctc.beam, asr.ctc.alignment, asr.decoding.decoder; sys.exit('llvmlite' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
