"""A user's command that prints a report, run beside the training and never waited for.

It has a session of its own, an empty input and no more time than is given; what it started in that
session ends with it. Its output is read up to a limit, and errors that it prints are dropped.
"""
import contextlib
import os
import shlex
import signal
import time
from pathlib import Path
from typing import NamedTuple

from seed.interpreter import foreign_environment

MAX_REPORT_BYTES = 65_536
LEVEL_CODES = range(4)   # exit codes of a check: ok, warning, critical, unknown
SLICE_S = 0.01           # between two looks at a command that is waited for


class Output(NamedTuple):
    data: bytes
    exit_code: int
    started_s: float     # Unix time
    failure: str = ""    # why the data are of no use


class ReportCommand:
    """Runs a command every `every_s`, for as long at most; one at a time."""

    def __init__(self, command: str, every_s: float):
        self._arguments, self._every_s = shlex.split(command), every_s
        self._pid = 0              # 0: none is running
        self._pipe = -1
        self._is_killed = False    # and may not have ended yet
        self._data = b""
        self._next_s = self._deadline_s = 0.0   # of the monotonic clock
        self._started_s = 0.0

    def poll(self, wait_s: float = 0.0) -> Output | None:
        """What a command that has ended by now has printed; starts the next if it is time."""
        until_s = time.monotonic() + wait_s
        while True:
            output = self._poll()
            if output or time.monotonic() >= until_s:
                return output
            time.sleep(SLICE_S)

    def close(self) -> None:
        """Ends it, if one is running."""
        if self._pid:
            self._kill(is_hung=True)
            self._reap()

    def _poll(self) -> Output | None:
        now_s = time.monotonic()
        if not self._pid:
            if now_s < self._next_s:
                return None
            self._next_s = self._deadline_s = now_s + self._every_s
            try:
                self._start()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                return self._failed(f"{self._arguments[0]}: {reason}")
        if self._is_killed:
            self._reap()
            return None
        has_ended = self._has_ended()   # before the last of its output is read
        self._read()
        if len(self._data) > MAX_REPORT_BYTES:
            self._kill(is_hung=True)
            return self._failed(f"it prints more than {MAX_REPORT_BYTES:,} bytes")
        if has_ended:
            self._kill(is_hung=False)
            return self._output(self._reap() or 0)
        if now_s >= self._deadline_s:
            self._kill(is_hung=True)
            return self._failed(f"it has not ended within {self._every_s:.0f} s")
        return None

    def _start(self) -> None:
        """Raises OSError. The signals that a training blocks are not blocked in the command."""
        self._pipe, writer = os.pipe()
        os.set_blocking(self._pipe, False)
        self._data, self._started_s = b"", time.time()
        try:
            self._pid = os.posix_spawnp(
                self._arguments[0], self._arguments, foreign_environment(), setsid=True,
                setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ), file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(writer)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._data) <= MAX_REPORT_BYTES:
                block = os.read(self._pipe, MAX_REPORT_BYTES)
                if not block:
                    break
                self._data += block

    def _output(self, code: int) -> Output:
        if code in LEVEL_CODES:
            return Output(self._data, code, self._started_s)
        return self._failed(f"it ended with exit code {code}" if code > 0 else
                            f"it was ended by signal {-code}")

    def _failed(self, failure: str) -> Output:
        return Output(b"", 0, self._started_s, failure)

    def _has_ended(self) -> bool:
        """It still has its number: no other process can get it before it is reaped."""
        try:
            return bool(os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        except ChildProcessError:   # this process ignores SIGCHLD
            return True

    def _kill(self, is_hung: bool) -> None:
        """Ends its group; if it hangs, its session too, whose other processes may be the cause."""
        self._is_killed = True
        for pid in _session(self._pid) if is_hung else []:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.killpg(self._pid, signal.SIGKILL)

    def _reap(self) -> int | None:
        """The exit code; None as long as the kernel does not let it end, as on a dead device."""
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self._pid, 0
        if not pid:
            return None
        os.close(self._pipe)
        self._pid, self._pipe, self._is_killed = 0, -1, False
        return os.waitstatus_to_exitcode(status)


def _session(leader: int) -> list[int]:
    """Processes of a session, other than its leader."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):   # it ended meanwhile
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if fields[3] == str(leader) and path.parent.name != str(leader):
                members.append(int(path.parent.name))
    return members
