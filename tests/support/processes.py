"""Child processes that a test kills."""
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def full_pipe() -> tuple[int, int]:
    """Reader and writer of a pipe that takes no more; writing would block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 256):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


def kill_at_line(command: Sequence[str], path: Path, n_lines: int) -> None:
    """Runs a command until a file has so many lines, and kills it with all its children."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               start_new_session=True)
    while not path.exists() or path.read_bytes().count(b"\n") < n_lines:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> set[str]:
    """Process ids of a process's children, their children and so on, without zombies."""
    fields = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):   # ended meanwhile
            fields[path.parent.name] = path.read_text().rpartition(")")[2].split()[:2]
    tree = {str(pid)}
    while more := {child for child, (state, parent) in fields.items()
                   if parent in tree and state != "Z"} - tree:
        tree |= more
    return tree - {str(pid)}
