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
    fill(writer)
    return reader, writer


def fill(pipe: int) -> None:
    """Writes until nothing more fits, through a descriptor that others do not share."""
    again = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    for n_bytes in (256, 1):
        with contextlib.suppress(BlockingIOError):
            while os.write(again, b"x" * n_bytes):
                pass
    os.close(again)


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
