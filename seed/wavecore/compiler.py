"""Finds the C compiler that builds the kernels ($CC, else clang, else the newest clang-NN), and
names the CPU that they are built for."""
import functools
import hashlib
import os
import platform
import re
import shutil
from pathlib import Path
from seed.errors import CompilerError


def find_compiler() -> str:
    """Command of the compiler. Raises CompilerError when there is none."""
    named = os.environ.get("CC")
    if named:
        if not shutil.which(named):
            raise CompilerError(f"CC is {named!r}, which is not on PATH: unset CC or install it")
        return named
    if shutil.which("clang"):
        return "clang"
    numbered = [(int(match[1]), entry.name)
                for folder in os.get_exec_path() if Path(folder).is_dir()
                for entry in Path(folder).glob("clang-*")
                if (match := re.fullmatch(r"clang-(\d+)", entry.name))]
    if not numbered:
        raise CompilerError("no clang found to build the kernels: sudo apt install clang")
    return max(numbered)[1]


@functools.cache
def cpu() -> str:
    """Machine and a short hash of its instruction sets, the same on every CPU of a kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    sets = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {hashlib.blake2b(sets.encode(), digest_size=6).hexdigest()}"
