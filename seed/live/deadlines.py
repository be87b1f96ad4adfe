"""When ticks are due: absolute deadlines on CLOCK_MONOTONIC, so that no lateness adds up.

Deadline k is the start + k periods, in whole ns. A tick that begins more than LATE_FRACTION of a
period after its deadline is late. One that could not begin within half a period is missed: nothing
is done before the next deadline. So ticks are never bunched: two of them are at least half a period
apart, whatever held up the loop.
"""
import ctypes
import os
import time
from collections.abc import Callable

LATE_FRACTION = 0.1
TIMER_ABSTIME, CLOCK_MONOTONIC = 1, 1
NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]


def sleeper() -> Callable[[int], object]:
    """What sleeps until a time of CLOCK_MONOTONIC in ns, by one system call (POSIX
    clock_nanosleep); a signal ends the sleep early."""
    sleep_fn = ctypes.CDLL(None).clock_nanosleep
    sleep_fn.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Timespec), ctypes.c_void_p]
    until = _Timespec()
    reference = ctypes.pointer(until)

    def sleep_until(at_ns: int) -> None:
        until.seconds, until.ns = divmod(at_ns, NS)
        error = sleep_fn(CLOCK_MONOTONIC, TIMER_ABSTIME, reference, None)
        if error not in (0, 4):   # EINTR
            raise OSError(error, os.strerror(error))
    return sleep_until


class Deadlines:
    """Of one loop. `clock_fn` and `sleep_until_fn` are in ns."""

    def __init__(self, rate_hz: float, clock_fn: Callable[[], int] = time.monotonic_ns,
                 sleep_until_fn: Callable[[int], object] | None = None):
        self._rate_mhz = round(1000 * rate_hz)
        self.period_ns = 1000 * NS // self._rate_mhz
        self.late_ns = int(LATE_FRACTION * self.period_ns)
        self._clock_fn = clock_fn
        self._sleep_until_fn = sleep_until_fn or sleeper()
        self.start_ns = clock_fn()
        self.number = 0            # of the last deadline that was waited for
        self.missed = 0            # deadlines without a tick
        self.missed_in_a_row = 0   # before this tick
        self.late = 0
        self.worst_ns = 0          # lateness of a tick

    def at(self, number: int) -> int:
        """The time of a deadline in ns."""
        return self.start_ns + number * 1000 * NS // self._rate_mhz

    def wait(self, should_end_fn: Callable[[], bool] = bool) -> int:
        """Sleeps until the next deadline at which a tick can begin, and returns its lateness in ns;
        at once if it should end, as a signal may ask."""
        before = self.number
        lateness = self._sleep_to(before + 1, should_end_fn)
        while lateness > self.period_ns // 2 and not should_end_fn():
            lateness = self._sleep_to(self._first_from(self._clock_fn()), should_end_fn)
        self.missed_in_a_row = self.number - before - 1
        self.missed += self.missed_in_a_row
        if lateness > self.late_ns:
            self.late += 1
        if lateness > self.worst_ns:
            self.worst_ns = lateness
        return lateness

    def left_s(self) -> float:
        """Until the next deadline; negative if it is over."""
        return (self.at(self.number + 1) - self._clock_fn()) / NS

    def _sleep_to(self, number: int, should_end_fn: Callable[[], bool]) -> int:
        self.number, at_ns = number, self.at(number)
        while (now_ns := self._clock_fn()) < at_ns and not should_end_fn():
            self._sleep_until_fn(at_ns)
        return max(0, now_ns - at_ns)

    def _first_from(self, now_ns: int) -> int:
        number = (now_ns - self.start_ns) * self._rate_mhz // (1000 * NS)
        while self.at(number) < now_ns:
            number += 1
        return max(number, self.number + 1)
