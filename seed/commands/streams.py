"""Standard streams that can neither stop nor crash a command."""
import errno
import io
import os
import select
import stat
import sys
from typing import TextIO

MAX_WRITE_BYTES = 512   # a pipe or terminal that is ready takes as much without blocking


def protect() -> None:
    """Opens streams that are closed, prints what an encoding lacks as escapes, and drops what
    nobody reads from standard error. Called once, before anything is printed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)   # takes the lowest number, this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    elif sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if sys.stderr is sys.__stderr__:   # and not captured by a program that calls main()
        sys.stderr = Unblocked(2, getattr(sys.stderr, "encoding", "utf-8"))


def print_result(text: str) -> None:
    """On standard output. What a terminal that has gone would have shown is lost: the command ends
    as it would have ended."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno != errno.EIO or not stat.S_ISCHR(os.fstat(1).st_mode):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Unblocked(io.TextIOBase, TextIO):   # type: ignore[misc]
    """Text for a reader that may be slow, stuck or gone: what it does not take is lost."""

    def __init__(self, descriptor: int, encoding: str):
        self._descriptor, self._encoding = descriptor, encoding
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @property
    def encoding(self) -> str:   # type: ignore[override]
        return self._encoding

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode(self._encoding, "backslashreplace")
        while data and self._poll.poll(0):
            try:
                data = data[os.write(self._descriptor, data[:MAX_WRITE_BYTES]):]
            except OSError:   # a full disk, a closed pipe
                break
        return len(text)
