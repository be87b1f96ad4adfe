"""What pauses a hot run: polls the sensors and the robot's report, sleeps for the duty cycle, and
waits while it is too hot or the robot wants it to.

seed/governor.py decides; Session (session.py) has this wait between training steps, and saves then.
"""
from collections.abc import Callable

from seed.config import GovernorConfig
from seed.governor import PAUSE, STOP, Decision, History, decide
from seed.robot_report import open_source
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
        self.health: Health | None = None   # as the governor sees it
        self._report_source = open_source(config)
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
        self.health, report = self._read_health_fn(), self._report_source.poll()
        self.decision, self.history = decide(self.config, self.history, self.health, now_s, report)
        return self.decision

    @property
    def memory_mb(self) -> float | None:
        """Of the process tree."""
        return self.health.rss_mb.value if self.health else None

    @property
    def temp_c(self) -> float | None:
        """Of the hottest zone."""
        return self.health.temp_c.value if self.health else None

    def close(self) -> None:
        """Ends a command that prints the report, if one is running."""
        self._report_source.close()

    def sleep(self, seconds: float) -> None:
        began_s = self._clock()
        self._sleep_fn(seconds)
        self._work_began_s = self._clock()
        self.waited_s += self._work_began_s - began_s
