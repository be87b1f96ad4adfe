"""Signals that ask the run to stop or to save; a second SIGINT ends it at once.

The signals are blocked and taken by a thread of their own. So they never interrupt a kernel or a
write half way, and a compiler that is running inherits the block: Ctrl-C in a terminal, which goes
to the whole process group, does not kill it.
"""
from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from seed.errors import INTERRUPTED
from seed.wavecore.compiler import kill_compilers

STOP = (signal.SIGTERM, signal.SIGINT,   # a service manager, Ctrl-C
        signal.SIGHUP,                   # a closed terminal or ssh session
        signal.SIGPWR, signal.SIGXCPU)   # a failing supply, a CPU time limit
SAVE = signal.SIGUSR1
DEADLINE_S = 8.0
STOPPED = b"stopped; run the same command to resume\n"
STOPPING = b"stopping ... (Ctrl-C again: at once)\n"
QUIT = b"stopped at once; run the same command to resume from the last save\n"


class StopSignals:
    """What signals have asked for. Watch before any other thread starts: all inherit the block.

    The run clears `safe` while its end would lose a step, and `answer_fn` tells at the first signal
    what happens now. A run that is asked to stop and does not, because a compiler is running, ends
    with `exit_code` when DEADLINE_S are over and it is safe.
    """

    def __init__(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code
        self.stop = threading.Event()
        self.save = threading.Event()
        self.safe = threading.Event()
        self.safe.set()
        self.answer_fn: Callable[[], object] = lambda: os.write(2, STOPPING)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True, name="signals")
        self._caller_mask: set[int] = set()
        self._caller_handlers: dict[int, Any] = {}
        self._watched: set[int] = set()

    def watch(self) -> StopSignals:
        """Takes the signals of this process, except SIGHUP if it is ignored, as nohup asks."""
        self._watched = {number for number in (*STOP, SAVE) if number != signal.SIGHUP
                         or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN}
        with suppress(ValueError):   # not in the main thread: handlers stay as they are
            for number in self._watched:   # threads that are older do not block the signals
                self._caller_handlers[number] = signal.signal(
                    number, lambda received, frame: self._handle(received))
        self._caller_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        self._thread.start()
        return self

    def release(self) -> None:
        """Ends the watch, from the thread that began it: signals do there what they did before."""
        if self._thread.ident and self._thread.is_alive():
            self._released.set()
            signal.pthread_kill(self._thread.ident, SAVE)   # ends its wait
            self._thread.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._caller_mask)
            for number, handler in self._caller_handlers.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        while not self._released.is_set():
            self._handle(signal.sigwait(self._watched))

    def _handle(self, received: int) -> None:
        if received == SAVE:
            self.save.set()
        elif received == signal.SIGINT and self.stop.is_set():
            _tell(b"\n" + QUIT if os.isatty(2) else QUIT)   # it is behind a view there
            _end(INTERRUPTED)
        elif self.stop.is_set():
            return   # it is stopping
        else:
            self.stop.set()
            for work in (self._answer, self._end_late):   # nobody may be reading
                threading.Thread(target=work, daemon=True, name=work.__name__).start()

    def _answer(self) -> None:
        with suppress(OSError):
            self.answer_fn()

    def _end_late(self) -> None:
        if self._released.wait(DEADLINE_S):
            return
        self.safe.wait()
        _tell(STOPPED)
        _end(self.exit_code)


def _tell(line: bytes) -> None:
    """If somebody reads: nothing waits for that."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, line)


def _end(exit_code: int) -> None:
    kill_compilers()
    os._exit(exit_code)


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
