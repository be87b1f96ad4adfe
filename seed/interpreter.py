"""How this program starts itself again."""
import contextlib
import os
import sys


def seed_command(*arguments: str, module: str = "seed") -> list[str]:
    """A command that runs a module of seed with this Python. The child looks for modules in the
    current folder only if this process does: a user's folder may have a numpy.py of its own."""
    folders = {""}
    with contextlib.suppress(OSError):   # it is deleted
        folders.add(os.getcwd())
    safe_path = [] if folders & set(sys.path) else ["-P"]
    return [sys.executable, *safe_path, "-m", module, *arguments]
