"""Carries out the governor's decisions: looks at the sensors now and then, and waits."""
from collections.abc import Callable

from seed.config import GovernorConfig
from seed.governor import PAUSE, RUN, STOP, Decision, History, decide
from seed.system_health import Health


POLL_EVERY_S = 1.0   # seconds between two looks at the sensors


class Throttle:
    """`wait(seconds)` returns early when the run is asked to stop."""

    def __init__(self, config: GovernorConfig, look: Callable[[], Health],
                 clock: Callable[[], float], wait: Callable[[float], object]):
        self.config, self._look, self._clock, self._wait = config, look, clock, wait
        self.history = History()
        self.decision = Decision(RUN, 1.0, False, "")
        self.waited_s = 0.0
        self._next_look = self._worked_from = clock()

    def look(self) -> Decision | None:
        """A decision if it is time for one."""
        now = self._clock()
        if now < self._next_look:
            return None
        self._next_look = now + POLL_EVERY_S
        self.decision, self.history = decide(self.config, self.history, self._look(), now)
        return self.decision

    @property
    def paused(self) -> bool:
        return self.decision.action == PAUSE

    def rest(self) -> None:
        """Waits after work so that it gets `duty` of the time since the last wait or rest."""
        if self.decision.duty < 1 and not self.paused:
            self.wait((self._clock() - self._worked_from) * (1 / self.decision.duty - 1))
        self._worked_from = self._clock()

    def goes_on(self, stopped: Callable[[], bool]) -> bool:
        """Between two pieces of work that have nothing to save: waits while the board is too hot.
        False if the work has to end."""
        self.rest()
        while True:
            self.look()
            if stopped() or self.decision.action == STOP:
                return False
            if not self.paused:
                return True
            self.wait(POLL_EVERY_S)

    def wait(self, seconds: float) -> None:
        started = self._clock()
        self._wait(seconds)
        self._worked_from = self._clock()
        self.waited_s += self._worked_from - started
