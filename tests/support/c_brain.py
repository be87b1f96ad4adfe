"""The C brain of examples/c/, compiled as a library, with the interface of seed.runtime.Brain."""
import ctypes
import re
import subprocess
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int, c_long, c_void_p
from pathlib import Path

import numpy as np
import pytest

from seed.runtime import BrainError
from seed.wavecore.compiler import find_compiler

ROOT = Path(__file__).parents[2]
C = ROOT / "examples/c"
SOURCES = sorted(C.glob("seed_*.c"))
ERROR_BYTES = 400
WRAPPED = ("malloc", "calloc", "realloc", "free", "posix_memalign", "fsync")


class Body(Structure):
    _fields_ = [("channels", c_int), ("parts", c_int), ("choices", c_int), ("rate_hz", c_double),
                ("control", POINTER(c_float)), ("control_count", c_int), ("absent", c_long),
                ("clipped", c_long)]


def litert_library() -> Path:
    import ai_edge_litert
    return Path(ai_edge_litert.__path__[0]) / "libLiteRt.so"


def declared_functions() -> list[str]:
    """Those of LiteRT that the C brain calls."""
    names = re.findall(r"^    F\((\w+),", (C / "litert.h").read_text(), re.MULTILINE)
    return [f"LiteRt{name}" for name in names]


def compiled(folder: Path) -> ctypes.CDLL:
    """The library, which counts its own calls for memory in `memory_calls`, fails to write with the
    error number in `fsync_error`, and ends the process if it does what C leaves undefined."""
    path = folder / "libseed.so"
    wrap = ",".join(f"--wrap={name}" for name in WRAPPED)
    subprocess.run([find_compiler(), "-O2", "-fsanitize=undefined", "-fsanitize-trap=undefined",
                    "-shared", "-fPIC", *map(str, SOURCES),
                    str(Path(__file__).parent / "wrapped_calls.c"), f"-Wl,{wrap}", "-o",
                    str(path), "-ldl", "-lm"], check=True)
    return loaded(path)


def loaded(path: Path | str) -> ctypes.CDLL:
    """The library that `compiled` has made."""
    library = ctypes.CDLL(str(path))
    library.seed_open.restype, library.seed_error.restype = c_void_p, c_char_p
    library.seed_step.restype, library.seed_act.restype = POINTER(c_float), POINTER(c_double)
    library.seed_body.restype = Body
    for name in ("error", "reset", "close", "body"):
        getattr(library, f"seed_{name}").argtypes = [c_void_p]
    for name in ("save_state", "load_state"):
        getattr(library, f"seed_{name}").argtypes = [c_void_p, c_char_p]
    library.seed_selftest.argtypes = [c_void_p, c_void_p]
    library.seed_step.argtypes = [c_void_p, c_int]
    library.seed_begin.argtypes = [c_void_p, c_char_p, c_int]
    library.seed_act.argtypes = [c_void_p, c_void_p, ctypes.c_size_t, c_void_p]
    return library


class CBrain:
    """Raises BrainError with what the C brain says."""

    def __init__(self, library: ctypes.CDLL, path: Path | str, litert: Path | str | None = None):
        error = ctypes.create_string_buffer(ERROR_BYTES)
        self.library, self.handle = library, c_void_p()
        self.handle.value = library.seed_open(str(path).encode(),
                                              str(litert or litert_library()).encode(), error)
        if not self.handle:
            raise BrainError(error.value.decode())

    def __del__(self) -> None:
        self.library.seed_close(self.handle)

    def _checked(self, result):
        """`result`: what a call has returned."""
        if not result if isinstance(result, ctypes._Pointer) else result:
            raise BrainError(self.library.seed_error(self.handle).decode())
        return result

    def reset(self) -> None:
        self._checked(self.library.seed_reset(self.handle))

    def step(self, byte: int) -> np.ndarray:
        logits = self._checked(self.library.seed_step(self.handle, byte))
        return np.ctypeslib.as_array(logits, (256,)).copy()

    def selftest(self) -> float:
        """The difference."""
        difference = c_double()
        self._checked(self.library.seed_selftest(self.handle, byref(difference)))
        return difference.value

    def begin(self, body: str | None = None, keep_state: bool = False) -> None:
        name = None if body is None else body.encode()
        self._checked(self.library.seed_begin(self.handle, name, keep_state))

    @property
    def body(self) -> Body:
        return self.library.seed_body(self.handle)

    @property
    def control_logits(self) -> np.ndarray:
        body = self.body
        return np.array(body.control[:body.control_count], np.float32)

    def act(self, observation, noise=None) -> list[float]:
        numbers = np.array(observation, np.float64).ravel()
        noise = None if noise is None else np.array(noise, np.float64)
        action = self._checked(self.library.seed_act(
            self.handle, numbers.ctypes.data, numbers.size,
            None if noise is None else noise.ctypes.data))
        return action[:self.body.parts]

    def save_state(self, path: Path | str) -> None:
        self._checked(self.library.seed_save_state(self.handle, str(path).encode()))

    def load_state(self, path: Path | str) -> None:
        self._checked(self.library.seed_load_state(self.handle, str(path).encode()))

    def swap(self, other: "CBrain") -> None:
        """This one continues as the other's file, and the other has what this one was."""
        self._checked(self.library.seed_swap(byref(self.handle), byref(other.handle)))

    @property
    def memory_calls(self) -> int:
        return c_long.in_dll(self.library, "memory_calls").value


def error_of(call_fn, *arguments) -> str:
    """What the BrainError of a call says: one line."""
    with pytest.raises(BrainError) as error:
        call_fn(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)
