"""The one file that imports tinygrad and touches its internals. tinygrad is pinned to 0.14.0.

- `install` sets the device and where kernels come from; `compile_for` compiles for another CPU.
- `CapturedGraph` records a graph and replays it; `buffer_view` and `copy_into` reach the memory
  of a tensor.
- `launcher` and `launch` bind a C kernel. tinygrad marks that interface as alpha.

tests/wavecore/test_tinygrad_seam.py names each internal.
"""
import contextlib
import ctypes
import functools
import importlib
import mmap
import os
import platform
import struct
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from seed.wavecore.cpu import Target
from seed.wavecore.kernel_cache import Log
from seed.wavecore.kernel_lookup import KernelLookup
from seed.wavecore.kernel_source import whole_text

# What tinygrad imports and does not need here, 8 MB: other renderers, and a cache that is off.
RENDERERS = "tinygrad.renderer.nir", "tinygrad.renderer.llvmir", "tinygrad.renderer.isa.x86"
UNUSED = *RENDERERS, "sqlite3"


def _stand_in(name: str) -> ModuleType:
    """Of a renderer a module with any class; else one that is imported when it is used: tinygrad
    opens its cache unless it is told not to, which `install` does."""
    module = ModuleType(name)
    setattr(module, "__getattr__", lambda attribute: object if name in RENDERERS else
            getattr(importlib.import_module(name), attribute))
    return module


_stand_ins = {name: _stand_in(name) for name in UNUSED if name not in sys.modules}
sys.modules.update(_stand_ins)
_environment = os.environ
setattr(os, "environ", {key: _environment[key] for key in ("HOME", "PATH") if key in _environment})
try:   # tinygrad reads a hundred variables, which other programs use: DEBUG, PROFILE, THREADS ...
    from tinygrad import Tensor, TinyJit, device, dtypes, helpers
    from tinygrad.device import Buffer, TinyELF
    from tinygrad.runtime import ops_cpu
    from tinygrad.runtime.ops_cpu import CPUProgram
    from tinygrad.runtime.support import compiler_cpu
    from tinygrad.runtime.support.elf import jit_loader
    from tinygrad.schedule import memory
    from tinygrad.uop.ops import KernelInfo, Ops, UOp
finally:
    setattr(os, "environ", _environment)
    for name in _stand_ins:   # who imports them later gets the real ones
        del sys.modules[name]

MALLOC_TRIM: Callable[[int], object] = getattr(   # of glibc
    ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
JUMP = struct.Struct("<HIQ2x")   # jmp *(%rip), to the address behind it
JUMP_OPCODE = 0x25FF
LAUNCH_WORDS = 64   # of csrc/launches.c: a function and the most arguments that tinygrad passes
DTYPES = {np.float32: dtypes.float, np.int32: dtypes.int}
LaunchFn = Callable[..., UOp]
GradientFn = Callable[[Tensor, list[Tensor], list[Tensor]], Sequence[Tensor | None]]


def install(log: Log = lambda text: None) -> None:
    """Prepares tinygrad to run the kernels on the CPU; may be called again.

    $CC names the compiler, $XDG_CACHE_HOME where compiled kernels are kept, $SEED_KERNELS where
    kernel sets are. Logs if they are not kept. Raises as KernelLookup.
    """
    lookup = KernelLookup(log)
    helpers.DEV.value = "CPU"
    helpers.PARALLEL.value = 0     # a pool of compiling processes costs memory and unblocks signals
    helpers.CACHELEVEL.value = 0   # of tinygrad's own cache, which is made of pickles
    helpers.NUM_CPU_THREADS.value = 1   # else the texts of large kernels depend on the machine
    setattr(helpers, "os", _without_variables(helpers.os))
    setattr(compiler_cpu, "subprocess", SimpleNamespace(check_output=lookup.compile))
    setattr(device, "diskcache_get", lookup.get)
    setattr(device, "diskcache_put", lookup.put)
    setattr(ops_cpu, "mmap", SimpleNamespace(**{**vars(mmap), "mmap": map_memory}))
    setattr(CPUProgram, "_load", load_with_far_calls
            if platform.machine() in ("x86_64", "AMD64") else load_with_team)


def compile_for(target: Target, c_text: str) -> bytes:
    """The object file of a kernel's C text for a CPU, which may be another one, after `install`.
    Raises CompilerLost."""
    return compiler_cpu.ClangCompiler([*target.arch]).compile(c_text)


def _without_variables(module: Any) -> Any:
    """The module `os` with an empty environment, for what tinygrad reads after its import."""
    return SimpleNamespace(**{**vars(module), "getenv": lambda key, default=None: default})


def map_memory(descriptor: int, size: int, flags: int, protection: int) -> mmap.mmap:
    """As mmap.mmap, but what tinygrad maps as shared memory, its buffers, is of this process alone:
    a forked child has a copy. Linux has huge pages for such memory, which makes a step 2 to 8 %
    faster."""
    if not flags & mmap.MAP_SHARED:
        return mmap.mmap(descriptor, size, flags, protection)
    memory = mmap.mmap(descriptor, size, flags & ~mmap.MAP_SHARED | mmap.MAP_PRIVATE, protection)
    with contextlib.suppress(OSError):   # a Linux without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class FarCalls:
    """Stands for the libraries: a symbol's address is that of a jump to it, below `end`."""

    def __init__(self, libraries: Sequence[ctypes.CDLL], end: int):
        self._libraries, self._end = libraries, end
        self._targets: dict[str, int] = {}

    def __getattr__(self, symbol: str) -> ctypes.c_void_p:
        """Raises AttributeError if no library has the symbol."""
        if symbol not in self._targets:
            library = next((lib for lib in self._libraries if hasattr(lib, symbol)), None)
            function = ctypes.cast(getattr(library, symbol), ctypes.c_void_p)
            self._targets[symbol] = function.value or 0
        jumps_from_end = list(self._targets).index(symbol) + 1
        return ctypes.c_void_p(self._end - jumps_from_end * JUMP.size)

    def code(self) -> bytes:
        return b"".join(JUMP.pack(JUMP_OPCODE, 0, target)
                        for target in reversed(self._targets.values()))


@functools.cache
def shared_function(name: str, file: str) -> Any:
    """A C function that a process loads once, from a file of csrc/."""
    cpu: Any = device.Device["CPU"]
    code = cpu.compiler.compile_cached(whole_text(file))
    program = CPUProgram(cpu, TinyELF(code, name, cpu.renderer.target, ()))
    # Threads may stand in its memory until the process ends, so nothing may free it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(program.mem))
    return program.fxn


class ThreadTeam:
    """Stands for a library that has `run_in_team`, of which all kernels share the threads; compiled
    and loaded for the first kernel that calls it."""

    @property
    def run_in_team(self) -> Any:
        return shared_function("run_in_team", "thread_team.c")


THREAD_TEAM = ThreadTeam()


def libraries(program: CPUProgram) -> list[ctypes.CDLL]:
    """Where the symbols of a kernel are."""
    return [typing.cast(ctypes.CDLL, THREAD_TEAM), program.libm, program.rt_lib]


def load_with_team(program: CPUProgram, lib: bytes, base: int = 0) -> bytes:
    """The memory image of an object file that is loaded at `base`."""
    return jit_loader(lib, base=base, link_libs=libraries(program))


def load_with_far_calls(program: CPUProgram, lib: bytes, base: int = 0) -> bytes:
    """The memory image of an object file that is loaded at `base`, as long as the file.

    On x86-64, tinygrad links calls into the C library as 32-bit distances without checking that
    they fit: a kernel more than 2 GB from the library jumps to a wrong place. Here each such call
    goes to a jump with a 64-bit address at the end of the kernel's own memory. There is room: a
    symbol's entry in the file is longer.
    """
    calls = FarCalls(libraries(program), base + len(lib))
    image = jit_loader(lib, base=base, link_libs=[typing.cast(ctypes.CDLL, calls)])
    code = calls.code()
    return image.ljust(len(lib) - len(code), b"\0") + code


class Launch(NamedTuple):
    """A call of a replayed graph."""
    kernel: str                        # the name of its C function
    buffer_bytes: tuple[int, ...]      # of each of its arguments
    call_fn: Callable[[], object]


class Arena:
    """Memory for the intermediate buffers of graphs that never run at the same time."""

    def __init__(self) -> None:
        self._buffer: UOp | None = None
        self.n_bytes = 0

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """A graph that is captured meanwhile gets this memory, or one that is as large as it needs,
        which later graphs share."""
        def new_buffer(device: str, size: int, dtype: Any) -> UOp:
            assert not is_taken, "a graph with two arenas"
            is_taken.append(True)
            if self._buffer is None or self.n_bytes < size:
                MALLOC_TRIM(0)   # what has been freed, as a brain's initial values, is given back
                self._buffer, self.n_bytes = UOp.new_buffer(device, size, dtype), size
            return self._buffer
        is_taken: list[bool] = []
        setattr(memory, "UOp", SimpleNamespace(new_buffer=new_buffer))
        try:
            yield
        finally:
            setattr(memory, "UOp", UOp)


class CapturedGraph:
    """The graph of a function, captured at its first call. Its intermediate buffers are in `arena`,
    if it has one.

    Its buffers stay where they are, so its launches never change: from the third call on they are
    called directly, by csrc/launches.c, which spares a small graph most of its time. The second
    call records them. TinyJit would run the function once before, uncaptured, with every
    intermediate buffer alive.
    """

    def __init__(self, run_fn: Callable[[], Any], arena: Arena | None = None):
        self._graph, self._arena = TinyJit(run_fn), arena or Arena()
        self._graph.cnt = 1
        self._outputs: Any = None
        self._launches: list[tuple[Any, list[ctypes.c_uint64]]] = []
        self._programs: list[tuple[CPUProgram, Any, Any, Any]] = []   # whose memory they use
        self._replay_fn: Callable[[], object] | None = None

    def __call__(self) -> Any:
        """The function's outputs: the same buffers at each call."""
        if self._replay_fn:
            self._replay_fn()
        elif self._graph.captured is None:
            with self._arena.capturing():
                self._outputs = self._graph()
        elif self._programs:
            self._outputs = self._graph()
        else:
            self._record()
        return self._outputs

    @property
    def is_replayed(self) -> bool:
        """Whether its launches are called directly."""
        return self._replay_fn is not None

    def launches(self) -> list[Launch]:
        """What a replayed graph calls, in order."""
        return [Launch(program.name, tuple(buffer.size for buffer in buffers),
                       functools.partial(function, *arguments))
                for (program, buffers, _, _), (function, arguments) in zip(
                    self._programs, self._launches, strict=True)]

    def _record(self) -> None:
        """Runs the graph, and keeps its launches unless it has calls of another kind too."""
        call_fn = CPUProgram.__call__

        def recorded(program: CPUProgram, *buffers: Any, global_size: Any = (1, 1, 1),
                     vals: Any = (), **options: Any) -> Any:
            self._programs.append((program, buffers, global_size, vals))
            return call_fn(program, *buffers, global_size=global_size, vals=vals, **options)
        setattr(CPUProgram, "__call__", recorded)
        try:
            self._outputs = self._graph()
        finally:
            setattr(CPUProgram, "__call__", call_fn)
        captured = self._graph.captured
        if captured is None or len(captured.linear.src) != len(self._programs):
            return
        for program, buffers, size, values in self._programs:
            for core in range(size[0]):
                arguments = [*(buffer.va_addr for buffer in buffers), *values]
                if "core_id" in program.runtimevars:
                    arguments[program.runtimevars["core_id"]] = core
                self._launches.append((program.fxn, [ctypes.c_uint64(a) for a in arguments]))
        self._replay_fn = functools.partial(shared_function("run_launches", "launches.c"),
                                            *_launch_table(self._launches))


def _launch_table(launches: Sequence[tuple[Any, list[ctypes.c_uint64]]]) -> tuple[Any, Any]:
    """What run_launches takes: a row of words for each launch, and how many there are."""
    rows = np.zeros((len(launches), LAUNCH_WORDS), np.uint64)
    for row, (function, arguments) in zip(rows, launches):
        words = [ctypes.cast(function, ctypes.c_void_p).value or 0, *(a.value for a in arguments)]
        row[:len(words)] = words
    return rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_long(len(rows))   # which keeps the rows


def buffer_view(tensor: Tensor) -> np.ndarray:
    """The memory of a realized tensor, not a copy: valid until it is computed again or freed."""
    buffer = typing.cast(Buffer, tensor.uop.base.buffer)
    view = buffer.ensure_allocated().as_memoryview(force_zero_copy=True)
    return np.frombuffer(view, dtype=tensor.dtype.fmt).reshape(tensor.shape)


def copy_into(tensor: Tensor, values: np.ndarray) -> None:
    """Copies values into the memory of a realized tensor, so that captured graphs see them."""
    np.copyto(buffer_view(tensor), values.reshape(tensor.shape), casting="no")


def from_array(array: np.ndarray) -> Tensor:
    """A realized tensor with these values; filled at once, also while a graph is captured."""
    tensor = Tensor.empty(*array.shape, dtype=DTYPES[array.dtype.type])
    copy_into(tensor, array)
    return tensor


def zeros(shape: Sequence[int], dtype: type = np.float32) -> Tensor:
    """As from_array, of zeros."""
    return from_array(np.zeros(shape, dtype))


def empty(*shape: int) -> Tensor:
    return Tensor.empty(*shape, dtype=dtypes.float)


def launcher(name: str, c_text: str) -> LaunchFn:
    """What `launch` takes as `launch_fn`: the C function `name` of a complete C text."""
    def launch_fn(*buffers: UOp) -> UOp:
        sink = UOp.sink(*[b.base for b in buffers], arg=KernelInfo(name=name))
        linear = UOp(Ops.LINEAR, src=(*sink.src, sink))
        return UOp(Ops.PROGRAM, src=(sink, linear, UOp(Ops.SOURCE, arg=c_text)))
    return launch_fn


def launch(outputs: Sequence[Tensor], inputs: Sequence[Tensor], launch_fn: LaunchFn,
           gradient_fn: GradientFn | None = None) -> list[Tensor]:
    """The outputs after the kernel has run on (*outputs, *inputs).

    Only the first output has a gradient: `gradient_fn(d_first, outputs, inputs)` returns one for
    each input, None where there is none. Its `outputs` are those of this launch.
    """
    after = Tensor.custom_kernel(
        *outputs, *inputs, fxn=launch_fn,
        grad_fxn=gradient_fn and _uop_gradient(gradient_fn, len(outputs)))
    return after[:len(outputs)]


@functools.cache   # a launch that is repeated is then the same graph
def _uop_gradient(gradient_fn: GradientFn, n_outputs: int) -> Callable[..., tuple[UOp | None, ...]]:
    def grad_fxn(d_first: UOp, call: UOp) -> tuple[UOp | None, ...]:
        buffers = call.src[1:]
        outputs = [Tensor(u.after(call)) for u in buffers[:n_outputs]]
        gradients = gradient_fn(Tensor(d_first), outputs, [Tensor(u) for u in buffers[n_outputs:]])
        return (None,) * n_outputs + tuple(None if g is None else g.uop for g in gradients)
    return grad_fxn
