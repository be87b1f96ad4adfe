"""Lets kernels call the C library from any distance.

tinygrad 0.14 links the calls of a kernel as 32-bit distances without looking whether they fit: on
x86-64, a kernel that is loaded with more than 2 GB mapped between it and the library jumps to a
wrong place. (On arm64 its loader adds jumps by itself.) Here every such call goes to a jump with a
64-bit address at the end of the kernel's own memory.
"""
import ctypes
import platform
import struct
import typing
from collections.abc import Sequence

from tinygrad.runtime.ops_cpu import CPUProgram
from tinygrad.runtime.support.elf import jit_loader

JUMP = struct.Struct("<HIQ2x")   # jmp *(%rip), to the address behind it
JUMP_OPCODE = 0x25FF


class Jumps:
    """Stands for the libraries: a symbol's address is that of a jump to it, below `end`."""

    def __init__(self, libraries: Sequence[ctypes.CDLL], end: int):
        self._libraries, self._end = libraries, end
        self._targets: dict[str, int] = {}

    def __getattr__(self, symbol: str) -> ctypes.c_void_p:
        """Raises AttributeError if no library has the symbol."""
        if symbol not in self._targets:
            found = next((one for library in self._libraries
                          if (one := getattr(library, symbol, None))), None)
            if found is None:
                raise AttributeError(symbol)
            self._targets[symbol] = ctypes.cast(found, ctypes.c_void_p).value or 0
        place = list(self._targets).index(symbol) + 1
        return ctypes.c_void_p(self._end - place * JUMP.size)

    def code(self) -> bytes:
        return b"".join(JUMP.pack(JUMP_OPCODE, 0, target)
                        for target in reversed(self._targets.values()))


def load(program: CPUProgram, lib: bytes, base: int = 0) -> bytes:
    """What the memory of an object file holds from `base` on, as many bytes as the file.

    There is room for the jumps: the file's entry for each of their symbols is longer.
    """
    jumps = Jumps([program.libm, program.rt_lib], base + len(lib))
    image = jit_loader(lib, base=base, link_libs=[typing.cast(ctypes.CDLL, jumps)])
    code = jumps.code()
    return image.ljust(len(lib) - len(code), b"\0") + code


def install() -> None:
    """For every kernel that tinygrad loads from now on."""
    if platform.machine() in ("x86_64", "AMD64"):
        setattr(CPUProgram, "_load", load)
