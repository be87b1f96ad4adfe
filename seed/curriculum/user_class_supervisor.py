"""Runs the worker of a user's class so that no process of it outlives the run.

    python user_class_supervisor.py CONTROL ISOLATE GRACE_S LABEL COMMAND...

COMMAND is the worker's. CONTROL is a socket: when the run's end of it is closed, everything ends
that the worker has started, whatever sessions it has opened and whoever its parent is now; the
worker has GRACE_S to end by itself first. When it ends before, CONTROL gets the number of the
signal that ended it, or 0.

If ISOLATE is 1 and the kernel permits it, the worker is in a PID namespace, which dies as a whole
and from which no other process can be reached. Otherwise this process is the subreaper of all that
the worker starts. It passes MAX_OUTPUT_BYTES of the worker's output on to stderr, with escapes made
visible, and drops the rest. Needs the standard library alone.
"""
import ctypes
import math
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MAX_OUTPUT_BYTES = 65536
MAX_WRITE_BYTES = 4096    # what a pipe that select calls writable takes without blocking
END_DEADLINE_S = 5.0
# systemd sends these to every process of a service: the run saves first, and ends its workers
RUN_ONLY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
            signal.SIGPWR)
LIBC = ctypes.CDLL(None, use_errno=True)


def enter_pid_namespace() -> bool:
    """Whether the next child is the first process of a PID namespace."""
    if LIBC.unshare(CLONE_NEWPID) == 0:   # as root
        return True
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWPID):
        return False
    with suppress(OSError):   # without it the class sees another user id, and has the same rights
        for name, text in (("setgroups", "deny"), *((n, f"{i} {i} 1") for n, i in ids.items())):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return True


def start_worker(command: list[str], output: int) -> int:
    """The process id of a worker in a session of its own, which ends with this process."""
    parent = os.getpid()
    worker = os.fork()
    if worker:
        return worker
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        with suppress(OSError):   # the kernel then kills it, not the run, when memory runs out
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")
        os.execv(command[0], command)
    os._exit(1)


class Output:
    """What the worker and its children print, to stderr: bounded, never waiting for a reader."""

    def __init__(self, label: str) -> None:
        self.label, self.bytes_left = label, MAX_OUTPUT_BYTES

    def write(self, data: bytes) -> None:
        if self.bytes_left > 0:
            text = data[:self.bytes_left].decode(errors="backslashreplace")
            self._print("".join(
                char if char.isprintable() or char in "\n\t" else
                char.encode("unicode_escape").decode() for char in text))
            self.bytes_left -= len(data)
            if self.bytes_left <= 0:
                self._print(f"\n{self.label}: printed {MAX_OUTPUT_BYTES} bytes: the rest is "
                            f"dropped; print less\n")

    def _print(self, text: str) -> None:
        data = text.encode(sys.__stderr__.encoding if sys.__stderr__ else "ascii",
                           "backslashreplace")
        with suppress(OSError):
            while data and select.select([], [2], [], 0)[1]:
                data = data[os.write(2, data[:MAX_WRITE_BYTES]):]


def supervise(control: socket.socket, grace_s: float, label: str, command: list[str]) -> None:
    """Returns when the worker has ended, at the latest `grace_s` after the run has closed its end
    of `control`."""
    wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    source, sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(sink, True)
    worker, output = start_worker(command, sink), Output(label)
    os.close(sink)
    sources = [control.fileno(), source, wakeup]
    status, ends_s = None, math.inf
    while status is None:
        left_s = ends_s - time.monotonic()
        if left_s <= 0:
            return
        ready = select.select(sources, [], [], None if left_s == math.inf else left_s)[0]
        if control.fileno() in ready:
            ends_s = time.monotonic() + grace_s
            sources.remove(control.fileno())
        if wakeup in ready:
            os.read(wakeup, 4096)
            status = reap(worker)
        if source in ready and not copy(source, output):
            sources.remove(source)
    while copy(source, output):   # its last words
        pass
    with suppress(OSError):
        control.send(bytes([os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0]))


def reap(worker: int) -> int | None:
    """Takes every child that has ended; the worker's wait status if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == worker:
                status = ended
    return status


def copy(source: int, output: Output) -> bool:
    """Whether there was something to read."""
    try:
        data = os.read(source, 65536)
    except BlockingIOError:
        return False
    output.write(data)
    return bool(data)


def descendants() -> set[int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state != b"Z":
                parents[int(name)] = int(parent)
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {os.getpid()}


def end_descendants() -> None:
    """Stops all before it kills any, so that none can start another in time."""
    deadline = time.monotonic() + END_DEADLINE_S
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        while more := descendants() - stopped:
            send(more, signal.SIGSTOP)
            stopped |= more
        if not stopped:
            return
        send(stopped, signal.SIGKILL)
        time.sleep(0.005)
        reap(0)


def send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


def main(control_fd: str, isolate: str, grace_s: str, label: str, *command: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, RUN_ONLY)   # inherited by the worker
    os.set_inheritable(int(control_fd), False)
    is_isolated = isolate == "1" and enter_pid_namespace()
    if is_isolated:
        first = os.fork()
        if first:   # ends after the namespace
            os.closerange(3, 4096)
            os.waitpid(first, 0)
            return
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    with socket.socket(fileno=int(control_fd)) as control:
        supervise(control, float(grace_s), label, list(command))
        if not is_isolated:
            end_descendants()


if __name__ == "__main__":
    main(*sys.argv[1:])
