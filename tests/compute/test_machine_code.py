from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import llvmlite.binding
import pytest

import asr
from asr.compute import machine_code
from asr.compute.machine_code import Kernels
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


IN_A_PROCESS = """
import sys
from types import ModuleType
from asr.compute.machine_code import Kernels

def functions():
    from a_kernel import KERNELS
    return KERNELS

functions.__module__ = "a_kernel"
room = ModuleType("room")
room.__file__ = sys.argv[1]
kernels = Kernels(functions, room=room)
"""


def make(folder: Path) -> Kernels:
    """The kernels of the folder, not yet loaded."""

    def functions():
        from a_kernel import KERNELS

        return KERNELS

    functions.__module__ = "a_kernel"  # the name of the file
    room = ModuleType("room")
    room.__file__ = str(folder / "__init__.py")
    return Kernels(functions, room=room)


def load(folder: Path) -> tuple[Kernels, int]:
    """The kernels, and how often they announced a compilation."""
    calls: list[None] = []
    kernels = make(folder)
    kernels.load(on_compile=lambda: calls.append(None))
    kernels.load(on_compile=lambda: calls.append(None))
    return kernels, len(calls)


def arguments(folder: Path, script: str) -> dict:
    """For a Python process that has `kernels`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    return {"args": [sys.executable, "-c", IN_A_PROCESS + script, str(folder / "__init__.py")], "env": environment}


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*"))


def test_compiled_once_and_then_read_from_its_file(folder):
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 1)
    assert len(stored(folder)) == 1
    kernels, calls = load(folder)
    assert (kernels["scaled"](2**40, 1), calls) == (10 * 2**40 + 1, 0)


def test_a_process_that_reads_a_stored_file_never_loads_numba(folder):
    load(folder)
    script = "assert kernels['scaled'](1, 2) == 12; sys.exit('numba' in sys.modules or 'a_kernel' in sys.modules)"
    assert subprocess.run(**arguments(folder, script), check=False).returncode == 0


def test_a_change_of_any_source_compiles_again(folder):
    load(folder)
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper")
    sys.modules.pop("a_kernel")
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (398, 1)
    assert len(stored(folder)) == 2


DAMAGES = [
    lambda content: b"",
    lambda content: content[:-1],
    lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    lambda content: b"[]\n" + content,
    lambda content: content.replace(b'"scaled"', b'"scaler"'),
    lambda content: b"\xff\xfe" + content,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_written_again(folder, damage):
    load(folder)
    (file,) = stored(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 1)
    assert load(folder)[1] == 0


def test_where_nothing_can_be_written_each_process_compiles(folder, monkeypatch):
    (folder / "cache").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for _ in range(2):
        kernels, calls = load(folder)
        assert (kernels["scaled"](4, -2), calls) == (38, 1)


def test_the_users_cache_is_next_when_the_package_cannot_be_written_to(folder, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    kernels = make(folder)
    _, beside, users = kernels._paths
    assert beside.parent.name == "__pycache__"
    assert users.parent == folder / "home" / "asr"
    monkeypatch.setattr(kernels, "_paths", [folder / "none", folder / "helper.py" / beside.name, users])
    assert kernels["scaled"](4, -2) == 38
    assert users.exists()


def test_a_user_without_a_home_has_no_cache(folder, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    _, beside = make(folder)._paths
    assert beside.parent.name == "__pycache__"


@pytest.fixture
def built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in a wheel of these kernels."""
    monkeypatch.setattr(machine_code, "_BUILT", folder / "built")
    make(folder).build()
    (file,) = (folder / "built").iterdir()
    return file


def test_a_built_file_is_loaded_without_compiling_or_storing(folder, built):
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 0)
    assert stored(folder) == []


def test_a_built_file_is_as_trusted_as_the_package_around_it(folder, built):
    built.parent.chmod(0o777)
    assert load(folder)[1] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_built_file_is_left_and_the_kernels_are_compiled(folder, built, damage):
    damaged = damage(built.read_bytes())
    built.write_bytes(damaged)
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 1)
    assert built.read_bytes() == damaged
    assert load(folder)[1] == 0  # from the cache


def test_a_built_file_of_other_sources_is_not_loaded(folder, built):
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper", None), sys.modules.pop("a_kernel", None)
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (398, 1)


@pytest.mark.parametrize("place", ["processor", "architecture", "system"])
def test_a_built_file_for_another_place_is_not_loaded(folder, built, monkeypatch, place):
    if place == "system":
        monkeypatch.setattr(sys, "platform", "another")
    else:
        names = ("another", machine_code._processor()[1]) if place == "architecture" else ("x86_64", "generic")
        monkeypatch.setattr(machine_code, "_processor", lambda: names)
    assert not make(folder)._paths[0].exists()
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 1)


@pytest.mark.parametrize(
    ("triple", "lacking", "processor"),
    [
        ("x86_64-unknown-linux-gnu", "avx512f", ("x86_64", "x86-64-v3")),
        ("x86_64-unknown-linux-gnu", "fma", ("x86_64", "x86-64")),
        ("x86_64-pc-windows-msvc", "avx2", ("x86_64", "x86-64")),
        ("aarch64-unknown-linux-gnu", "avx2", ("aarch64", "generic")),
        ("arm64-apple-darwin24.0.0", "avx2", ("arm64", "generic")),
    ],
)
def test_code_is_made_for_the_lowest_processor_with_the_same_instructions(monkeypatch, triple, lacking, processor):
    features = {name: name != lacking for name in ("avx512f", *machine_code._X86_64_V3)}
    monkeypatch.setattr(llvmlite.binding, "get_process_triple", lambda: triple)
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: features)
    assert machine_code._processor() == processor


def test_a_second_build_compiles_nothing_and_a_build_of_other_sources_replaces_the_first(folder, built, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Kernels, "_compile", lambda self: pytest.fail("compiled again"))
        make(folder).build()
    assert list(built.parent.iterdir()) == [built]
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper", None), sys.modules.pop("a_kernel", None)
    make(folder).build()
    (other,) = built.parent.iterdir()
    assert other != built
    assert load(folder)[0]["scaled"](4, -2) == 398


def test_a_cache_in_which_others_can_write_is_not_built_into_a_wheel(folder, monkeypatch):
    load(folder)
    evil(folder)
    monkeypatch.setattr(machine_code, "_BUILT", folder / "built")
    make(folder).build()
    assert load(folder)[0]["scaled"](4, -2) == 38


def evil(folder: Path) -> None:
    """Put code of a * 100 + b into the stored file, with its right checksum."""
    (file,) = stored(folder)
    kernels = make(folder)
    (folder / "helper.py").write_text("FACTOR = 100\n")
    sys.modules.pop("helper"), sys.modules.pop("a_kernel")
    objects = make(folder)._compile()
    (folder / "helper.py").write_text("FACTOR = 10\n")
    sys.modules.pop("helper"), sys.modules.pop("a_kernel")
    kernels._write(objects)
    assert stored(folder) == [file]


def test_forged_code_is_run_only_where_this_user_alone_can_have_written_it(folder):
    load(folder)
    evil(folder)
    assert load(folder)[0]["scaled"](4, -2) == 398  # the forgery works
    (folder / "cache").chmod(0o1777)  # and others can put it here
    kernels, calls = load(folder)
    assert (kernels["scaled"](4, -2), calls) == (38, 1)
    assert (folder / "home" / "asr").is_dir()
    assert load(folder)[1] == 0  # it was stored in the user's own folder


def test_code_that_cannot_be_stored_safely_is_a_warning(folder, monkeypatch):
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    with pytest.warns(
        AsrWarning,
        match=r"compiled code cannot be stored, so each process compiles: .*cache: another user can write here, so it "
        r"is not used as a cache; remove the write permission of others \(chmod go-w\), or set NUMBA_CACHE_DIR to a",
    ):
        kernels, _ = load(folder)
    assert kernels["scaled"](4, -2) == 38
    assert list((folder / "cache").rglob("*.machine-code")) == []


def test_numba_itself_stores_nothing_of_the_package():
    """Its cache is unpickled, from wherever it lies, and a truncated file of it is a traceback."""
    sources = {path: path.read_text() for path in Path(asr.__file__).parent.rglob("*.py")}
    assert [path for path, source in sources.items() if re.search(r"cache ?= ?True", source)] == []


def test_processes_that_compile_at_once_do_not_disturb_each_other(folder):
    script = "kernels.load(on_compile=lambda: (print('compiling', flush=True), input()));print(kernels['scaled'](1, 2))"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(**arguments(folder, script), **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["compiling\n"] * 2  # neither has begun
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["12\n"] * 2
    assert len(stored(folder)) == 1
    assert load(folder)[1] == 0


@pytest.mark.parametrize("kernels", [beam._kernels, alignment._kernels, ngram._kernels])
def test_the_sources_of_kernels_lie_in_the_rooms_whose_changes_compile_them_again(kernels):
    for function in kernels._functions():
        source = Path(sys.modules[function.py_func.__module__].__file__)
        assert source.parent == Path(kernels._room.__file__).parent
        imports = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)]
        rooms = {".".join(node.module.split(".")[:2]) for node in imports if node.module.startswith("asr")}
        assert rooms <= {kernels._room.__name__, "asr.compute"}


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_compilation(folder, number):
    """In a callback of LLVM it would be printed and lost."""
    script = f"""
import signal
from llvmlite.binding.executionengine import ExecutionEngine

def interrupt(*_):
    raise KeyboardInterrupt

def signalled(*arguments):
    signal.raise_signal({int(number)})
    return find(*arguments)

signal.signal({int(number)}, interrupt)
find = ExecutionEngine._find_module_ptr
ExecutionEngine._find_module_ptr = signalled  # in the callback
kernels.load()
print("the signal was lost")
"""
    done = subprocess.run(**arguments(folder, script), capture_output=True, text=True)
    assert done.stdout == "" and done.stderr.endswith("KeyboardInterrupt\n")
    assert "Exception ignored" not in done.stderr
