"""Machine code of functions that numba compiled: built into the wheel, or made once per machine.

A *kernel* is a function of integers, some of them addresses of arrays. Numba translates it to LLVM code, LLVM
translates this to machine code, and a file stores the machine code. Processes load the file with llvmlite alone,
without numba. The first decode of a process then takes 0.08 s. With the same kernels in numba's own cache it takes 0.6
s, most of it the import of numba; without a cache, 12 s (`tests/benchmarks/bench_decode.py`, "start"). A call takes
about as long in all cases.

`setup.py` builds the files into the wheel, so that no machine has to compile: for x86-64-v3 on x86 (AVX2 and FMA, as
all processors since about 2015), and for any processor on arm64. From a checkout, and on older processors, the first
process compiles and stores a file in a cache. The machine code calls six functions of the C library. It depends on the
sources, the system and the processor's instructions, not on the releases of numba and llvmlite: LLVM of any release can
load it, and the convention of its calls is that of `_Kernel`, below.

A file is executed as it is: its checksum detects damage, not forgery. A built file is as trusted as the Python files of
the package: who can write it, can write them. A cache is only read and written where no other user can write
(`asr.files.caches`). Numba's own cache has no such check.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from asr.errors import AsrWarning
from asr.files.caches import open_cache, user_cache_folder, writing_cache

_C_LIBRARY: tuple[str, ...] = ("exp", "log", "log1p", "memcpy", "memmove", "memset")  # all that machine code may call
if sys.platform == "darwin":  # LLVM turns loops that fill an array into calls of these
    _C_LIBRARY += ("bzero", "memset_pattern4", "memset_pattern8", "memset_pattern16")
_BUILT = Path(__file__).with_name("built")  # in wheels only
_X86_64_V3 = ("avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf", "sse4.2")
_lock = threading.Lock()


class _Object(NamedTuple):
    """Object code of one kernel."""

    symbol: str
    num_arguments: int
    code: bytes


class Kernels:
    """Compiled functions, ready to call: `kernels["name"](1, array.ctypes.data)` -> int.

    They are loaded from this process, else from the wheel, else from a file in NUMBA_CACHE_DIR (if it is not set, in
    the __pycache__ of this package), else from a file in the user's cache folder. If none has them, they are compiled,
    and stored in the first folder that this user can write and no other user can. A file is valid for exactly these
    sources, this system and processors like this one. If no folder is safe from other users, an `AsrWarning` says that
    each process compiles.

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

    def build(self) -> None:
        """Store the machine code in this package, for a wheel; compile it unless an earlier build of it is there."""
        objects = self._read(self._paths[0]) or self._compile()
        _BUILT.mkdir(exist_ok=True)
        for earlier in _BUILT.glob(self._file.replace(self._key[:16], "*")):
            earlier.unlink()
        self._paths[0].write_bytes(self._sealed(objects))

    @cached_property
    def _key(self) -> str:
        assert self._room.__file__ is not None
        digest = hashlib.sha256()
        for folder in (Path(self._room.__file__).parent, Path(__file__).parent):
            for source in sorted(folder.glob("*.py")):
                digest.update(source.read_bytes())
        digest.update(" ".join((sys.platform, *_processor())).encode())
        return digest.hexdigest()

    @cached_property
    def _file(self) -> str:
        return f"{self._functions.__module__}.{self._functions.__name__.strip('_')}.{self._key[:16]}.machine-code"

    @cached_property
    def _paths(self) -> list[Path]:
        """The built file, and the caches."""
        cache_folder = os.environ.get("NUMBA_CACHE_DIR")
        paths = [_BUILT / self._file, Path(cache_folder or Path(__file__).parent / "__pycache__") / self._file]
        if folder := user_cache_folder():
            paths.append(folder / self._file)
        return paths

    def _read(self, path: Path) -> dict[str, _Object] | None:
        """The object code of each kernel; None if there is no such file, or it is damaged, or an unsafe cache."""
        try:
            with open(path, "rb") if path == self._paths[0] else open_cache(path) as file:
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

    def _sealed(self, objects: dict[str, _Object]) -> bytes:
        kernels = [(name, *content[:2], len(content.code)) for name, content in objects.items()]
        content = json.dumps(kernels).encode() + b"\n" + b"".join(content.code for content in objects.values())
        return self._seal(content) + b"\n" + content

    def _seal(self, content: bytes) -> bytes:
        return hashlib.sha256(self._key.encode() + content).hexdigest().encode()

    def _write(self, objects: dict[str, _Object]) -> None:
        """Store the object code. If several processes store it at once, the complete file of the last one remains."""
        content, refusal = self._sealed(objects), None
        for path in self._paths[1:]:
            try:
                with writing_cache(path, mode=0o644) as file:
                    file.write(content)
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
                with _signals_afterwards():
                    kernel.compile(signature)
                symbol = kernel.overloads[signature].fndesc.llvm_func_name
                code = _machine_code(kernel.inspect_llvm(signature), symbol)
                objects[kernel.__name__] = _Object(symbol, len(signature), code)
        finally:
            config.OPT = level
        return objects


@contextmanager
def _signals_afterwards() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block.

    LLVM calls functions of llvmlite through ctypes. An exception in one of them, such as KeyboardInterrupt, is printed
    and lost, and the program continues.
    """
    waiting: list[Callable[[], object]] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # no other thread runs handlers, or may change them
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in handlers.items():
        signal.signal(number, lambda *arguments, handler=handler: waiting.append(lambda: handler(*arguments)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for call in waiting:
        call()


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


def _processor() -> tuple[str, str]:
    """The architecture, and LLVM's name of the lowest processor with the instructions that this one shares."""
    import llvmlite.binding as llvm

    architecture = llvm.get_process_triple().partition("-")[0]
    if architecture != "x86_64":
        return architecture, "generic"
    features = llvm.get_host_cpu_features()
    return architecture, "x86-64-v3" if all(features.get(name) for name in _X86_64_V3) else "x86-64"


def _target_machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=_processor()[1], features="", opt=3, codemodel="jitdefault", jit=True)


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
