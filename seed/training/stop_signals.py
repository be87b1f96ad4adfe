"""SIGTERM and SIGINT ask the run to stop, SIGUSR1 asks it to save; a second SIGINT ends at once.

The signals are blocked and taken by a thread of their own. So they never interrupt a kernel or a
write half way, and a compiler that is running inherits the block: Ctrl-C in a terminal, which goes
to the whole process group, does not kill it.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True, name="signals")
        self._caller_mask: set[int] = set()

    def watch(self) -> StopSignals:
        self._caller_mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        self._thread.start()
        return self

    def release(self) -> None:
        """Ends the watch, from the thread that began it: signals do there what they did before."""
        if self._thread.ident and self._thread.is_alive():
            self._released.set()
            signal.pthread_kill(self._thread.ident, signal.SIGUSR1)   # ends its wait
            self._thread.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._caller_mask)

    def _take(self) -> None:
        while not self._released.is_set():
            received = signal.sigwait(WATCHED)
            if received == signal.SIGUSR1:
                self.save.set()
            elif received == signal.SIGINT and self.stop.is_set():
                os._exit(INTERRUPTED)
            else:
                self.stop.set()
                threading.Thread(target=self._end_late, daemon=True, name="deadline").start()

    def _end_late(self) -> None:
        if self._released.wait(DEADLINE_S):
            return
        self.safe.wait()
        print("stopped; run the same command to resume", file=sys.stderr, flush=True)
        os._exit(self.exit_code)


@contextmanager
def watched(signals: StopSignals | None) -> Iterator[StopSignals]:
    """The caller's `signals`, which it watches already; if None, new ones, watched in the block."""
    if signals:
        yield signals
        return
    signals = StopSignals().watch()
    try:
        yield signals
    finally:
        signals.release()
