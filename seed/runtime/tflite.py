"""The TFLite runtime that is installed."""
import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .sealed_file import BrainError

NOTE = re.compile(rb"INFO: Created TensorFlow Lite .* delegate .*\n")
_ERRORS_LOCK = threading.Lock()   # of the descriptor of standard error


def find_interpreter() -> tuple[Any, str]:
    """The interpreter class of the installed TFLite runtime, and the runtime's name."""
    try:
        from ai_edge_litert.interpreter import Interpreter
        return Interpreter, "ai-edge-litert"
    except ImportError:
        pass
    try:   # LiteRT deprecates Interpreter
        import ai_edge_litert.compiled_model  # noqa: F401
        from .compiled import CompiledInterpreter
        return CompiledInterpreter, "ai-edge-litert"
    except ImportError:
        pass
    try:
        from tflite_runtime import interpreter
    except ImportError:
        raise BrainError("no TFLite runtime: pip install ai-edge-litert") from None
    if int(np.__version__.split(".")[0]) > 1:
        raise BrainError(f"tflite-runtime does not run with numpy {np.__version__}: pip install "
                         f"'numpy<2', or ai-edge-litert")
    return interpreter.Interpreter, "tflite-runtime"


def check_version(package: str, min_version: str, name: str) -> None:
    """Raises BrainError for an older runtime, which may run a file slowly or wrongly."""
    import importlib.metadata   # which imports much; a training does without
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return  # copied into an image without its metadata
    current, required = ([int(n) for n in re.findall(r"\d+", version)[:3]]
                         for version in (installed, min_version))
    if current < required:
        raise BrainError(f"{name} needs {package} {min_version} or newer, this is {installed}: pip "
                         f"install --upgrade {package}")


def installed_runtime() -> str:
    """The runtime that is here and its version, or what is missing."""
    import importlib.metadata
    try:
        package = find_interpreter()[1]
    except BrainError as error:
        return str(error)
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """While an interpreter is made: without what its C++ then notes on standard error, for which
    Python has no switch. All else that is written there comes as soon as this ends."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ERRORS_LOCK)
        try:
            errors, caught = os.dup(2), os.memfd_create("stderr")
        except OSError:   # there is no standard error
            errors = caught = -1
        if caught < 0:
            yield
            return
        os.dup2(caught, 2)
        try:
            yield
        finally:
            os.dup2(errors, 2)
            text = NOTE.sub(b"", os.pread(caught, os.fstat(caught).st_size, 0))
            with contextlib.suppress(OSError):
                os.write(errors, text)
            os.close(errors)
            os.close(caught)
