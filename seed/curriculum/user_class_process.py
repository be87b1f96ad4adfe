"""The process of a user's class, a task or a body, from the run's side: requests, limits, its end.

Its hash seed is fixed, so that a class that iterates over a set does the same in each run.
Limits count neither time in which this process was stopped or suspended nor time in which the class
waited for a core: neither is the fault of the class.
"""
import json
import secrets
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seed.curriculum import user_class_supervisor, user_class_worker
from seed.curriculum.user_class_worker import LENGTH_BYTES, MAX_ERROR, to_frame
from seed.errors import SeedError, StopRequested, printable
from seed.interpreter import keyless_environment

USE_PID_NAMESPACE = True   # where the kernel permits it
SLICE_S = 0.05             # between two looks at the clock, and at whether the run has to stop
MAX_STARVED = 20           # a call may take so many times its limit if it waits for a core
END_S = 10.0               # for all its processes to end


class Kind(NamedTuple):
    """What a class is to the run."""
    module: str                # whose `Calls` answers in the worker
    error: type[SeedError]
    killed: type[SeedError]    # memory may have run out
    max_frame_bytes: int       # of a reply
    grace_s: float = 0.0       # to end by itself when the run has ended: motors are switched off


class ClassProcess:
    """A worker and its supervisor; they end with this object, with `close` or with the run."""

    def __init__(self, kind: Kind, name: str, path: str, class_name: str):
        self.kind, self.name = kind, name
        self.stop_fn: Callable[[], bool] = bool   # whether the run has to stop; never
        self._worker: Path | None = None   # its folder in /proc, once it is known
        self._link, worker_link = socket.socketpair()
        self._control, supervisor_control = socket.socketpair()
        with worker_link, supervisor_control:
            link, control = worker_link.fileno(), supervisor_control.fileno()
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", user_class_supervisor.__file__, str(control),
                 str(int(USE_PID_NAMESPACE)), str(kind.grace_s), printable(name),
                 sys.executable, "-P", user_class_worker.__file__, str(link), kind.module, path,
                 class_name],
                pass_fds=[link, control], stdin=subprocess.DEVNULL, start_new_session=True,
                env=keyless_environment(PYTHONHASHSEED="0"))
        self.pid = supervisor.pid
        self.close = weakref.finalize(self, _end, supervisor, self._link, self._control)

    def ask(self, call: str, max_s: float, **request: Any) -> tuple[Any, float]:
        """The reply's value, and the time that counts in s.

        Raises the kind's errors, StopRequested.
        """
        number, timer = secrets.randbits(48), _Timer(self._worker)
        try:
            self._link.settimeout(max_s)
            self._link.sendall(to_frame({"id": number, **request, "call": call}))
            length = int.from_bytes(self._receive(LENGTH_BYTES, call, max_s, timer), "big")
            if length > self.kind.max_frame_bytes:
                raise ValueError
            reply = json.loads(self._receive(length, call, max_s, timer))
            if reply["id"] != number:
                raise ValueError
            value, error = reply.get("value"), str(reply.get("error", ""))
        except TimeoutError:
            self.close()
            raise self.kind.error(f"{self.name}: {call} takes longer than {max_s:.0f} s: make it "
                                  f"faster") from None
        except OSError:
            raise self._ended(call) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.close()
            raise self.damaged(call) from None
        if error:
            raise self.kind.error(f"{self.name}: {printable(error[:MAX_ERROR])}")
        return value, timer.counted_s()

    def damaged(self, call: str) -> SeedError:
        return self.kind.error(f"{self.name}: the reply to {call} is damaged: do not write to "
                               f"files that the class did not open")

    @property
    def link(self) -> socket.socket:
        """For a worker that understands more than `ask`; it is closed with this object."""
        return self._link

    def watch(self, pid: object) -> None:
        """Tells which process is the worker, as it says itself."""
        self._worker = Path(f"/proc/{pid}") if isinstance(pid, int) else None

    def _receive(self, n: int, call: str, max_s: float, timer: "_Timer") -> bytes:
        """Exactly n bytes. Raises OSError."""
        data = bytearray()
        while len(data) < n:
            self._link.settimeout(SLICE_S)
            try:
                chunk = self._link.recv(n - len(data))
            except TimeoutError:
                timer.add_slice()
                if timer.is_over(max_s):
                    raise
                if self.stop_fn():
                    self.close()
                    raise StopRequested(f"stopped during {call} of {self.name}") from None
                continue
            if not chunk:
                raise ConnectionResetError
            data += chunk
        return bytes(data)

    def _ended(self, call: str) -> SeedError:
        """Why the worker's process has ended."""
        self._control.settimeout(END_S)
        try:
            number = self._control.recv(1)
        except OSError:
            number = b""
        self.close()
        if number == b"\x09" or not number:   # the supervisor is gone too
            return self.kind.killed(f"{self.name}: its process was killed during {call}: memory "
                                    f"may have run out; end other programs or let the class use "
                                    f"less, and run the same command again")
        signal_text = f" by signal {number[0]}" if number[0] else ""
        return self.kind.error(f"{self.name}: its process exited during {call}{signal_text}")


class _Timer:
    """The time of a call, without what a stopped machine or a busy one adds to it."""

    def __init__(self, worker: Path | None):
        self.worker = worker   # its folder in /proc
        self.slice_start_s = self.got_on_s = time.monotonic()
        self.run_s = self.waited_s = 0.0    # in earlier slices
        self.wait_s: float | None = None    # total of the worker's, at the last look
        self.cpu_ns = b""                   # likewise

    def add_slice(self) -> None:
        wait_s, now_s = self._read_wait_s(), time.monotonic()
        slice_s = min(now_s - self.slice_start_s, 2 * SLICE_S)
        self.run_s += slice_s
        if wait_s is not None and self.wait_s is not None:
            # In a slice of usual length what exceeds it makes good what an earlier look missed.
            waited_s, was_stopped = wait_s - self.wait_s, now_s - self.slice_start_s > slice_s
            self.waited_s += min(waited_s, slice_s) if was_stopped else waited_s
        self.slice_start_s, self.wait_s = now_s, wait_s

    def _read_wait_s(self) -> float | None:
        """How long the worker has waited for a core in its life.

        The kernel adds a wait when it ends, which may be after seconds: until then it is the time
        since the worker, which could run, was last seen to get on.
        """
        try:
            if self.worker is None:
                return None
            state = (self.worker / "stat").read_bytes().rpartition(b")")[2].split()[0]
            cpu_ns, wait_ns = (self.worker / "schedstat").read_bytes().split()[:2]
        except (OSError, ValueError, IndexError):
            return None   # a kernel without it
        now_s = time.monotonic()
        if state != b"R" or cpu_ns != self.cpu_ns:
            self.cpu_ns, self.got_on_s = cpu_ns, now_s
        return int(wait_ns) / 1e9 + now_s - self.got_on_s

    def counted_s(self) -> float:
        last_s = min(time.monotonic() - self.slice_start_s, 2 * SLICE_S)
        return max(0.0, self.run_s - self.waited_s) + last_s

    def is_over(self, max_s: float) -> bool:
        return self.run_s - self.waited_s >= max_s or self.run_s >= MAX_STARVED * max_s


def _end(supervisor: subprocess.Popen, link: socket.socket, control: socket.socket) -> None:
    link.close()
    control.close()
    try:
        supervisor.wait(END_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
