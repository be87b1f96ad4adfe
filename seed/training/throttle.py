"""What pauses a hot run: polls the sensors, sleeps for the duty cycle, waits while it is too hot.

seed/governor.py decides; Session (session.py) has this wait between training steps, and saves then.
"""
from collections.abc import Callable

from seed.config import GovernorConfig
from seed.governor import PAUSE, STOP, Decision, History, decide
from seed.system_health import Health

POLL_EVERY_S = 1.0


class Throttle:
    """`sleep_fn(seconds)` returns early when the run is asked to stop."""

    def __init__(self, config: GovernorConfig, read_health_fn: Callable[[], Health],
                 clock: Callable[[], float], sleep_fn: Callable[[float], object],
                 should_stop_fn: Callable[[], bool]):
        self.config, self._read_health_fn = config, read_health_fn
        self._clock, self._sleep_fn, self._should_stop_fn = clock, sleep_fn, should_stop_fn
        self.history, self.decision = History(), Decision()
        self.memory_mb: float | None = None   # of the process tree, as the governor sees it
        self.temp_c: float | None = None      # of the hottest zone
        self.waited_s = 0.0
        self._next_poll_s = self._work_began_s = clock()

    @property
    def is_paused(self) -> bool:
        return self.decision.action == PAUSE

    @property
    def must_stop(self) -> bool:
        return self._should_stop_fn() or self.decision.action == STOP

    def wait_while_paused(self, service_fn: Callable[[Decision | None], object] = lambda d: None
                          ) -> bool:
        """Between two pieces of work: sleeps for the duty cycle, then waits while the board is too
        hot. Returns whether the work has to end.

        Each time around calls `service_fn` with a new decision, or None between two polls.
        """
        if 0 < self.decision.duty < 1:   # so that work gets `duty` of the time
            self.sleep((self._clock() - self._work_began_s) * (1 / self.decision.duty - 1))
        self._work_began_s = self._clock()
        while True:
            service_fn(self._poll())
            if self.must_stop:
                return True
            if not self.is_paused:
                return False
            self.sleep(POLL_EVERY_S)

    def _poll(self) -> Decision | None:
        """A decision, or None if the last poll was less than POLL_EVERY_S ago."""
        now_s = self._clock()
        if now_s < self._next_poll_s:
            return None
        self._next_poll_s = now_s + POLL_EVERY_S
        health = self._read_health_fn()
        self.memory_mb, self.temp_c = health.rss_mb.value, health.temp_c.value
        self.decision, self.history = decide(self.config, self.history, health, now_s)
        return self.decision

    def sleep(self, seconds: float) -> None:
        began_s = self._clock()
        self._sleep_fn(seconds)
        self._work_began_s = self._clock()
        self.waited_s += self._work_began_s - began_s
