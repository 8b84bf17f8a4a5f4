"""Functions compiled by numba once on a machine, and from then on run without it.

Numba takes most of a second to be imported and made ready, even for what it has compiled before, and its calls look at
every array they are given. A search that is over in a millisecond should not wait for that. So a *kernel module* holds
functions of integers, some of them addresses of arrays; numba makes LLVM code of them, LLVM machine code, and this is
kept in a file. llvmlite, which numba stands on, loads it in a tenth of the time; it is imported when that is done.

What is kept is run as it is: a checksum finds damage, not forgery. So it is only kept, and only read, where no other
user can write (`asr.files.caches`), and numba's own cache, which takes files from anywhere, is not used.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from asr.errors import AsrWarning
from asr.files.caches import open_cache, user_cache_folder, writing_cache

_C_LIBRARY: tuple[str, ...] = ("exp", "log", "log1p", "memcpy", "memmove", "memset")  # all that machine code may call
if sys.platform == "darwin":  # where LLVM makes calls of loops that fill an array
    _C_LIBRARY += ("bzero", "memset_pattern4", "memset_pattern8", "memset_pattern16")
_lock = threading.Lock()


class _Object(NamedTuple):
    """Object code of one kernel."""

    symbol: str
    num_arguments: int
    code: bytes


class KernelModule:
    """The kernels of a module, ready to call: `module["name"](1, array.ctypes.data)` -> int.

    The module has a list KERNELS of functions that numba can compile, take int64 and return int64, allocate nothing and
    raise nothing. They are found, in this order: in this process; in a file in NUMBA_CACHE_DIR or, if that is not set,
    beside the source; in the user's cache folder; or they are compiled, and kept in the first of these folders to which
    this user can write, and no other can. What is kept is for the very sources, versions and processor it was compiled
    from. An `AsrWarning` says so if each process has to compile because other users can write to the folders.

    Args:
        name: of the module, which alone imports numba.
        depends_on: modules with code that becomes part of the kernels.
    """

    def __init__(self, name: str, *, depends_on: Sequence[str] = ()):
        self._name = name
        self._modules = (name, *depends_on)
        self._kernels: dict[str, _Kernel] = {}

    def __getitem__(self, name: str) -> _Kernel:
        if not self._kernels:
            self.load()
        return self._kernels[name]

    def load(self, *, on_compile: Callable[[], object] | None = None) -> None:
        """Nothing, once the kernels are ready; a second time it is at once.

        Args:
            on_compile: called if they have to be compiled, which takes seconds, before it begins: the place to say so.
        """
        with _lock:
            if self._kernels:
                return
            objects = next(filter(None, map(self._read, self._places)), None)
            if objects is None:
                if on_compile is not None:
                    on_compile()
                objects = self._compile()
                self._write(objects)
            self._kernels = {name: _Kernel(*content) for name, content in objects.items()}

    @cached_property
    def _key(self) -> str:
        digest = hashlib.sha256()
        for name in self._modules:
            spec = find_spec(name)
            assert spec is not None and spec.origin is not None
            digest.update(Path(spec.origin).read_bytes())
        digest.update(Path(__file__).read_bytes())
        for fact in (version("numba"), version("llvmlite"), *_processor()):
            digest.update(fact.encode() + b"\0")
        return digest.hexdigest()

    @cached_property
    def _places(self) -> list[Path]:
        file = f"{self._name}.{self._key[:16]}.machine-code"
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        places = [Path(chosen or Path(__file__).parent / "__pycache__") / file]
        if folder := user_cache_folder():
            places.append(folder / file)
        return places

    def _read(self, path: Path) -> dict[str, _Object] | None:
        """What was kept for each kernel; None if there is no such file, or it is damaged, or not to be trusted."""
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
        """Keep what was compiled. Of processes that do so at once, the last one's whole file stays."""
        kernels = [(name, *content[:2], len(content.code)) for name, content in objects.items()]
        content = json.dumps(kernels).encode() + b"\n" + b"".join(content.code for content in objects.values())
        refusal = None
        for path in self._places:
            try:
                with writing_cache(path, mode=0o644) as file:
                    file.write(self._seal(content) + b"\n" + content)
                return
            except OSError as error:  # a read-only folder or a full disk: the next place, or compile again next time
                refusal = refusal or (error if error.errno == errno.EPERM else None)
        if refusal is not None:
            warnings.warn(
                f"compiled code is kept nowhere, and each process compiles: {refusal.filename}: {refusal.strerror}; "
                "take the right to write from others (chmod go-w), or set NUMBA_CACHE_DIR to a folder of your own",
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
        _ = cpu_target.target_context  # made now, it optimises whatever else this process compiles as ever
        level = config.OPT
        config.OPT = type(level)(0)  # else numba has LLVM optimise every function in each one that calls it
        try:
            for kernel in importlib.import_module(self._name).KERNELS:
                signature = (numba.int64,) * kernel.py_func.__code__.co_argcount
                kernel.compile(signature)
                symbol = kernel.overloads[signature].fndesc.llvm_func_name
                code = _machine_code(kernel.inspect_llvm(signature), symbol)
                objects[kernel.__name__] = _Object(symbol, len(signature), code)
        finally:
            config.OPT = level
        return objects


def _machine_code(source: str, symbol: str) -> bytes:
    """Object code of LLVM code, optimised, in which only `symbol` can be seen."""
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
    """What code is made for: the system, the processor and its features."""
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
    """A function that object code has, by numba's convention for calls: status f(result, exception, arguments...)."""

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
