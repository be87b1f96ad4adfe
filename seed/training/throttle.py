"""What pauses a hot run: polls the sensors, sleeps for the duty cycle, waits while it is too hot.

seed/governor.py decides; Session.service_requests (run_state.py) waits between training steps.
"""
from collections.abc import Callable

from seed.config import GovernorConfig
from seed.governor import PAUSE, RUN, STOP, Decision, History, decide
from seed.system_health import Health

POLL_EVERY_S = 1.0


class Throttle:
    """`sleep_fn(seconds)` returns early when the run is asked to stop."""

    def __init__(self, config: GovernorConfig, read_health_fn: Callable[[], Health],
                 clock: Callable[[], float], sleep_fn: Callable[[float], object]):
        self.config, self._read_health_fn = config, read_health_fn
        self._clock, self._sleep_fn = clock, sleep_fn
        self.history = History()
        self.decision = Decision(RUN, 1.0, False, "")
        self.memory_mb: float | None = None   # of the process tree, as the governor sees it
        self.temp_c: float | None = None      # of the hottest zone
        self.waited_s = 0.0
        self._next_poll_s = self._work_began_s = clock()

    def poll(self) -> Decision | None:
        """A decision, or None if the last poll was less than POLL_EVERY_S ago."""
        now = self._clock()
        if now < self._next_poll_s:
            return None
        self._next_poll_s = now + POLL_EVERY_S
        health = self._read_health_fn()
        self.memory_mb, self.temp_c = health.rss_mb.value, health.temp_c.value
        self.decision, self.history = decide(self.config, self.history, health, now)
        return self.decision

    @property
    def is_paused(self) -> bool:
        return self.decision.action == PAUSE

    def sleep_for_duty(self) -> None:
        """Sleeps after work so that it gets `duty` of the time since the last sleep."""
        if self.decision.duty < 1 and not self.is_paused:
            self.sleep((self._clock() - self._work_began_s) * (1 / self.decision.duty - 1))
        self._work_began_s = self._clock()

    def wait_until_allowed(self, is_stopped_fn: Callable[[], bool]) -> bool:
        """Between two pieces of work that have nothing to save: waits while the board is too hot.
        Returns False if the work has to end."""
        self.sleep_for_duty()
        while True:
            self.poll()
            if is_stopped_fn() or self.decision.action == STOP:
                return False
            if not self.is_paused:
                return True
            self.sleep(POLL_EVERY_S)

    def sleep(self, seconds: float) -> None:
        began_s = self._clock()
        self._sleep_fn(seconds)
        self._work_began_s = self._clock()
        self.waited_s += self._work_began_s - began_s
