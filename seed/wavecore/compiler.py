"""Finds and runs the C compiler that builds the kernels ($CC if it is a clang, else clang, else the
newest clang-NN)."""
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from seed.errors import CompilerError, CompilerLost
from seed.interpreter import keyless_environment

MAX_VERSION_S = 20.0    # to answer --version
MAX_COMPILE_S = 300.0   # of one kernel, which takes seconds
ATTEMPTS = 2            # a compiler may be killed while memory is short

_running: set[subprocess.Popen] = set()
_before_fns: list[Callable[[], object]] = []


def find_compiler() -> str:
    """Command of the compiler. Raises CompilerError when there is none."""
    named = os.environ.get("CC")
    if named and not shutil.which(named):
        raise CompilerError(f"CC is {named!r}, which is not on PATH: unset CC or install it")
    if named and _is_clang(named, os.environ.get("PATH")):
        return named   # other programs set CC to a compiler that cannot build the kernels
    if shutil.which("clang"):
        return "clang"
    numbered = [(int(match[1]), entry.name)
                for folder in os.get_exec_path() if Path(folder).is_dir()
                for entry in Path(folder).glob("clang-*")
                if (match := re.fullmatch(r"clang-(\d+)", entry.name))]
    if not numbered:
        reason = f"CC is {named!r}, which is not clang" if named else "no clang found"
        raise CompilerError(f"{reason}: the kernels need one; sudo apt install clang")
    return max(numbered)[1]


@functools.cache
def _is_clang(command: str, path: str | None) -> bool:
    try:
        done = subprocess.run([command, "--version"], capture_output=True, timeout=MAX_VERSION_S,
                              stdin=subprocess.DEVNULL, env=keyless_environment())
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"clang" in done.stdout


def identity(command: str) -> str:
    """Differs for another version of the compiler."""
    path = os.path.realpath(shutil.which(command) or command)
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return f"{path} {status.st_size} {status.st_mtime_ns}"
    return path


def run_compiler(command: Sequence[str], c_text: bytes) -> bytes:
    """The compiler's output. Raises CompilerLost if it ends in another way than by itself."""
    for call_fn in _before_fns:
        call_fn()
    for _ in range(ATTEMPTS):
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, process_group=0,
                                       env=keyless_environment())
        except OSError as error:
            reason = error.strerror
            continue
        with process:
            _running.add(process)
            try:
                code, messages = process.communicate(c_text, MAX_COMPILE_S)
            except subprocess.TimeoutExpired:
                reason = f"still running after {MAX_COMPILE_S:.0f} s"
                continue
            finally:
                _running.discard(process)
                _kill(process)
        if process.returncode == 0:
            return code
        lines = messages.decode(errors="replace").strip().splitlines() or ["no message"]
        reason = (signal.strsignal(-process.returncode) if process.returncode < 0
                  else next((line for line in lines if "error" in line), lines[-1]))
    raise CompilerLost(f"{command[0]} cannot compile a kernel: {reason}; run the same command "
                       f"again")


@contextlib.contextmanager
def before_compiling(call_fn: Callable[[], object]) -> Iterator[None]:
    """While the block lasts, `call_fn` is called before each kernel that has to be compiled: a
    compiler may hang, or die for lack of memory."""
    _before_fns.append(call_fn)
    try:
        yield
    finally:
        _before_fns.remove(call_fn)


def kill_compilers() -> None:
    """Ends those that run, with their children: before this process ends without waiting."""
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen) -> None:
    """Ends its group, unless it has ended: another process may have its number by now."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
