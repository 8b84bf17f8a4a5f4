"""Compile functions with numba once per machine; later processes load them without numba.

A *kernel* is a function of integers, some of them addresses of arrays. Numba translates it to LLVM code, LLVM
translates this to machine code, and a file stores the machine code. Later processes load the file with llvmlite alone,
without numba. The first decode of a process then takes 0.08 s. With the same kernels in numba's own cache it takes 0.6
s, most of it the import of numba; without a cache, 12 s (`tests/benchmarks/bench_decode.py`, "start"). A call takes
about as long in all cases.

A stored file is executed as it is: its checksum detects damage, not forgery. So files are only read and written where
no other user can write (`asr.files.caches`). Numba's own cache has no such check.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from asr.errors import AsrWarning
from asr.files.caches import open_cache, user_cache_folder, writing_cache

_C_LIBRARY: tuple[str, ...] = ("exp", "log", "log1p", "memcpy", "memmove", "memset")  # all that machine code may call
if sys.platform == "darwin":  # LLVM turns loops that fill an array into calls of these
    _C_LIBRARY += ("bzero", "memset_pattern4", "memset_pattern8", "memset_pattern16")
_lock = threading.Lock()


class _Object(NamedTuple):
    """Object code of one kernel."""

    symbol: str
    num_arguments: int
    code: bytes


class Kernels:
    """Compiled functions, ready to call: `kernels["name"](1, array.ctypes.data)` -> int.

    They are loaded from this process, else from a file in NUMBA_CACHE_DIR (if it is not set, in the __pycache__ of this
    package), else from a file in the user's cache folder. If none has them, they are compiled, and stored in the first
    folder that this user can write and no other user can. A file is valid for exactly these sources, versions and
    processor. If no folder is safe from other users, an `AsrWarning` says that each process compiles.

    Args:
        functions: imports the functions and returns them; called only to compile, because their import loads numba.
            They take int64, return int64, allocate nothing and raise nothing.
        room: the package of their sources. A change in any file of it, or of this room, compiles the kernels again.
    """

    def __init__(self, functions: Callable[[], Sequence[Any]], *, room: ModuleType):
        self._functions = functions
        self._room = room
        self._kernels: dict[str, _Kernel] = {}

    def __getitem__(self, name: str) -> _Kernel:
        if not self._kernels:
            self.load()
        return self._kernels[name]

    def load(self, *, on_compile: Callable[[], object] | None = None) -> None:
        """Load the kernels, compiling them if necessary; later calls return at once.

        Args:
            on_compile: called before a compilation, to explain the delay of some seconds.
        """
        with _lock:
            if self._kernels:
                return
            objects = next(filter(None, map(self._read, self._paths)), None)
            if objects is None:
                if on_compile is not None:
                    on_compile()
                objects = self._compile()
                self._write(objects)
            self._kernels = {name: _Kernel(*content) for name, content in objects.items()}

    @cached_property
    def _key(self) -> str:
        assert self._room.__file__ is not None
        digest = hashlib.sha256()
        for folder in (Path(self._room.__file__).parent, Path(__file__).parent):
            for source in sorted(folder.glob("*.py")):
                digest.update(source.read_bytes())
        for fact in (version("numba"), version("llvmlite"), *_processor()):
            digest.update(fact.encode() + b"\0")
        return digest.hexdigest()

    @cached_property
    def _paths(self) -> list[Path]:
        file = f"{self._functions.__module__}.{self._key[:16]}.machine-code"
        cache_folder = os.environ.get("NUMBA_CACHE_DIR")
        paths = [Path(cache_folder or Path(__file__).parent / "__pycache__") / file]
        if folder := user_cache_folder():
            paths.append(folder / file)
        return paths

    def _read(self, path: Path) -> dict[str, _Object] | None:
        """The object code of each kernel; None if there is no such file, or it is damaged or unsafe."""
        try:
            with open_cache(path) as file:
                seal, _, content = file.read().partition(b"\n")
        except OSError:
            return None
        if seal != self._seal(content):
            return None
        header, _, body = content.partition(b"\n")
        objects, start = {}, 0
        for name, symbol, num_arguments, size in json.loads(header):
            objects[name] = _Object(symbol, num_arguments, body[start : start + size])
            start += size
        return objects

    def _write(self, objects: dict[str, _Object]) -> None:
        """Store the object code. If several processes store it at once, the complete file of the last one remains."""
        kernels = [(name, *content[:2], len(content.code)) for name, content in objects.items()]
        content = json.dumps(kernels).encode() + b"\n" + b"".join(content.code for content in objects.values())
        refusal = None
        for path in self._paths:
            try:
                with writing_cache(path, mode=0o644) as file:
                    file.write(self._seal(content) + b"\n" + content)
                return
            except OSError as error:  # a read-only folder or a full disk: try the next folder
                refusal = refusal or (error if error.errno == errno.EPERM else None)
        if refusal is not None:
            warnings.warn(
                f"compiled code cannot be stored, so each process compiles: {refusal.filename}: {refusal.strerror}; "
                "remove the write permission of others (chmod go-w), or set NUMBA_CACHE_DIR to a folder of your own",
                AsrWarning,
                stacklevel=3,
            )

    def _seal(self, content: bytes) -> bytes:
        return hashlib.sha256(self._key.encode() + content).hexdigest().encode()

    def _compile(self) -> dict[str, _Object]:
        import numba
        from numba.core.registry import cpu_target

        objects = {}
        config: Any = numba.config
        _ = cpu_target.target_context  # made now, it keeps the usual level for everything else this process compiles
        level = config.OPT
        config.OPT = type(level)(0)  # otherwise LLVM optimises every function again in each function that calls it
        try:
            for kernel in self._functions():
                signature = (numba.int64,) * kernel.py_func.__code__.co_argcount
                kernel.compile(signature)
                symbol = kernel.overloads[signature].fndesc.llvm_func_name
                code = _machine_code(kernel.inspect_llvm(signature), symbol)
                objects[kernel.__name__] = _Object(symbol, len(signature), code)
        finally:
            config.OPT = level
        return objects


def _machine_code(source: str, symbol: str) -> bytes:
    """Optimised object code of LLVM code; only `symbol` is visible in it."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(source)
    for function in module.functions:
        if not function.is_declaration and function.name != symbol:
            function.linkage = "internal"
    machine = _target_machine()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            assert function.name in _C_LIBRARY, f"{symbol} must not call {function.name}"
    return machine.emit_object(module)


def _processor() -> tuple[str, str, str]:
    """The system, the processor and its features, for which code is made."""
    import llvmlite.binding as llvm

    return llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _target_machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu, features = _processor()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)


class _Kernel:
    """A function in object code, by numba's calling convention: status f(result, exception, arguments...)."""

    def __init__(self, symbol: str, num_arguments: int, code: bytes):
        import llvmlite.binding as llvm

        library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
        for name in _C_LIBRARY:
            llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())  # owns the code
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * num_arguments)
        self._function = prototype(self._engine.get_function_address(symbol))

    def __call__(self, *arguments: int) -> int:
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        status = self._function(ctypes.addressof(result), ctypes.addressof(exception), *arguments)  # without the GIL
        assert status == 0, f"a kernel must raise nothing; it gave status {status}"
        return result.value
