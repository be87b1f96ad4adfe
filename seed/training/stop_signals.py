"""SIGTERM and SIGINT ask the run to stop, SIGUSR1 asks it to save; a second SIGINT ends at once.

The signals are blocked and taken by a thread of their own. So they never interrupt a kernel or a
write half way, and a compiler that is running inherits the block: Ctrl-C in a terminal, which goes
to the whole process group, does not kill it.
"""
import os
import signal
import sys
import threading
import time

from seed.errors import INTERRUPTED

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
DEADLINE_S = 8.0


class StopSignals:
    """What signals have asked for. Watch before any other thread starts: all inherit the block.

    The run clears `safe` while its end would lose a step. A run that is asked to stop and does not,
    because a compiler is running, ends with `exit_code` when DEADLINE_S are over and it is safe.
    """

    def __init__(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code
        self.stop = threading.Event()
        self.save = threading.Event()
        self.safe = threading.Event()
        self.safe.set()

    def watch(self) -> "StopSignals":
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        threading.Thread(target=self._take, daemon=True, name="signals").start()
        return self

    def _take(self) -> None:
        while True:
            received = signal.sigwait(WATCHED)
            if received == signal.SIGUSR1:
                self.save.set()
            elif received == signal.SIGINT and self.stop.is_set():
                os._exit(INTERRUPTED)
            else:
                self.stop.set()
                threading.Thread(target=self._end_late, daemon=True, name="deadline").start()

    def _end_late(self) -> None:
        time.sleep(DEADLINE_S)
        self.safe.wait()
        print("stopped; run the same command to resume", file=sys.stderr, flush=True)
        os._exit(self.exit_code)


def release() -> None:
    """Unblocks the signals in the calling thread, after a run: they end the process again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
