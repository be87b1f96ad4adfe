"""The one file that touches tinygrad's internals. tinygrad is pinned to 0.14.0.

- `install` sets the device, the C compiler and the kernel cache, and patches two faults.
- `capture` records a graph; `buffer_view` and `copy_into` reach the memory of a tensor.
- `launcher` and `launch` bind a C kernel. tinygrad marks that interface as alpha.

Importing this file changes nothing. tests/wavecore/test_tinygrad_seam.py names each internal.
"""
import ctypes
import functools
import os
import platform
import sqlite3
import struct
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tinygrad import Tensor, TinyJit, device, dtypes, helpers
from tinygrad.device import Buffer
from tinygrad.runtime.ops_cpu import CPUProgram
from tinygrad.runtime.support.elf import jit_loader
from tinygrad.uop.ops import KernelInfo, Ops, UOp

from seed.wavecore.compiler import find_compiler

JUMP = struct.Struct("<HIQ2x")   # jmp *(%rip), to the address behind it
JUMP_OPCODE = 0x25FF
LaunchFn = Callable[..., UOp]
GradientFn = Callable[[Tensor, list[Tensor], list[Tensor]], Sequence[Tensor | None]]


def install(cache: Path | None = None) -> None:
    """Prepares tinygrad to run the kernels, before or after its import; may be called again.

    Compiled kernels are cached in the file that $CACHEDB names, else in the file `cache`, else
    where tinygrad keeps them. $DEV and $CC override the device and the compiler. Raises
    CompilerError if there is no compiler.
    """
    os.environ["CC"] = find_compiler()
    typing.cast(Any, helpers.getenv).cache_clear()   # it remembers what CC was
    if not helpers.DEV.device:
        os.environ["DEV"] = helpers.DEV.value = "CPU"
    os.environ["PARALLEL"] = "0"       # a pool of compiling processes costs memory and unblocks
    helpers.PARALLEL.value = 0         # signals
    path = os.environ.get("CACHEDB", str(cache.resolve()) if cache else helpers.CACHEDB)
    if path != helpers.CACHEDB:
        if helpers._db_connection:
            helpers._db_connection.close()
        helpers.CACHEDB, helpers._db_connection = path, None   # the next look-up opens this file
        helpers._db_tables.clear()
    _patch()


@functools.cache
def _patch() -> None:
    for name in ("diskcache_get", "diskcache_put"):
        setattr(device, name, _without_sqlite_errors(getattr(device, name)))
    if platform.machine() in ("x86_64", "AMD64"):
        setattr(CPUProgram, "_load", load_with_far_calls)


def _without_sqlite_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but None where the cache file fails: the kernel is then compiled, not cached.

    In tinygrad a damaged cache file, or a disk that fills up during a run, ends the program.
    """
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except sqlite3.Error:
            return None
    return call


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


def load_with_far_calls(program: CPUProgram, lib: bytes, base: int = 0) -> bytes:
    """The memory image of an object file that is loaded at `base`, as long as the file.

    On x86-64, tinygrad links calls into the C library as 32-bit distances without checking that
    they fit: a kernel more than 2 GB from the library jumps to a wrong place. Here each such call
    goes to a jump with a 64-bit address at the end of the kernel's own memory. There is room: a
    symbol's entry in the file is longer.
    """
    calls = FarCalls([program.libm, program.rt_lib], base + len(lib))
    image = jit_loader(lib, base=base, link_libs=[typing.cast(ctypes.CDLL, calls)])
    code = calls.code()
    return image.ljust(len(lib) - len(code), b"\0") + code


def capture(run_fn: Callable[[], Any]) -> Callable[[], Any]:
    """The graph of `run_fn`, captured at its first call.

    TinyJit would run it once before, uncaptured, with every intermediate buffer alive at once.
    """
    graph = TinyJit(run_fn)
    graph.cnt = 1
    return graph


def buffer_view(tensor: Tensor) -> np.ndarray:
    """The memory of a realized tensor, not a copy: valid until it is computed again or freed."""
    buffer = typing.cast(Buffer, tensor.uop.base.buffer)
    view = buffer.ensure_allocated().as_memoryview(force_zero_copy=True)
    return np.frombuffer(view, dtype=tensor.dtype.fmt).reshape(tensor.shape)


def copy_into(tensor: Tensor, values: np.ndarray) -> None:
    """Copies values into the memory of a realized tensor, so that captured graphs see them."""
    np.copyto(buffer_view(tensor), values.reshape(tensor.shape), casting="no")


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
