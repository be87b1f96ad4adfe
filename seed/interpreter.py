"""How this program starts itself again, and what its children inherit."""
import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

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


def shown_command(*arguments: str) -> str:
    """How a person starts seed from the current folder, for a line that can be pasted: its name if
    the shell finds it, a script of this checkout or environment, or this Python."""
    checkout, environment = Path(__file__).parent.parent / "bin", Path(sys.executable).parent
    scripts = [checkout / "seed", environment / "seed"]
    if os.path.basename(sys.argv[0]) == "seed":
        scripts.insert(0, Path(sys.argv[0]))
    script = next(filter(Path.is_file, scripts), None)
    if script is None:
        program = [_program(Path(sys.executable)), "-m", "seed"]
    else:
        is_on_path = _is_same(shutil.which("seed") or "", str(script))
        program = ["seed" if is_on_path else _program(script)]
    return shlex.join([*program, *arguments])


def near(path: Path) -> str:
    """A path from the current folder, if it is within, and that is not all of the machine."""
    with contextlib.suppress(OSError, ValueError):
        folder = os.getcwd()
        if folder != "/":
            return str(path.absolute().relative_to(folder))
    return str(path.absolute())


def _program(path: Path) -> str:
    """As `near`; a shell does not look for a mere name in the current folder."""
    name = near(path)
    return name if "/" in name else f"./{name}"


def _is_same(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
