"""How this program starts itself again, and what its children inherit."""
import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
KEY_VARIABLE = "SEED_TEACHER_KEY"   # the key of the teacher's server


def keyless_environment(**changes: str) -> dict[str, str]:
    """Of a child that is not seed itself: the key is none of its business."""
    return {**{name: text for name, text in os.environ.items() if name != KEY_VARIABLE}, **changes}


def foreign_environment() -> dict[str, str]:
    """Of a command of somebody else's: without the key, and a Python of its own reads modules
    beside its script, which bin/checkout.sh forbids that of seed."""
    return {name: text for name, text in keyless_environment().items() if name != "PYTHONSAFEPATH"}


def seed_command(*arguments: str, module: str = "seed") -> list[str]:
    """A command that runs a module of seed with this Python. The child looks for modules in the
    current folder only if this process does: a user's folder may have a numpy.py of its own."""
    folders = {""}
    with contextlib.suppress(OSError):   # it is deleted
        folders.add(os.getcwd())
    safe_path = [] if folders & set(sys.path) else ["-P"]
    return [sys.executable, *safe_path, "-m", module, *arguments]


def die_with_parent(parent: int) -> None:
    """Runs in a child, as preexec_fn: a parent that is killed, even before this call, leaves no
    child behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
