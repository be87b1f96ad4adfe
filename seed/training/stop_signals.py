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

    `safe` is for the run to clear while something would be lost by its end. A run that is asked to
    stop and does not, because a compiler keeps it, is ended after DEADLINE_S as soon as it is safe,
    with `code`.
    """

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.stop = threading.Event()
        self.save = threading.Event()
        self.safe = threading.Event()
        self.safe.set()

    def watch(self) -> "StopSignals":
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        threading.Thread(target=self._wait, daemon=True, name="signals").start()
        return self

    def _wait(self) -> None:
        while True:
            received = signal.sigwait(WATCHED)
            if received == signal.SIGUSR1:
                self.save.set()
            elif received == signal.SIGINT and self.stop.is_set():
                os._exit(INTERRUPTED)
            else:
                self.stop.set()
                threading.Thread(target=self._insist, daemon=True, name="deadline").start()

    def _insist(self) -> None:
        time.sleep(DEADLINE_S)
        self.safe.wait()
        print("stopped; run the same command to go on", file=sys.stderr, flush=True)
        os._exit(self.code)


def release() -> None:
    """To what follows a run, in the thread that calls: signals end the process again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
