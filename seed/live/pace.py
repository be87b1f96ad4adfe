"""How much of the time the learner may take: by the deadlines that the fast loop has kept lately,
before heat or memory can tell anything, and by the board's sensors and the robot's report.
"""
import time
from collections import deque
from collections.abc import Callable

from seed.config import GovernorConfig, LiveConfig
from seed.governor import (PAUSE, STOP, Cause, DeadlineCounts, Decision, History, decide,
                           decide_by_deadlines, stricter)
from seed.live.shared_block import Slip
from seed.robot_report import Report, open_source
from seed.system_health import Health

WINDOW_S = 5.0       # of deadlines, that a decision looks back
BOARD_EVERY_S = 1.0  # between two looks at the board and at the report
UNDER_VOLTAGE = Decision(PAUSE, 0.0, False, "under-voltage: the robot acts, and nothing is learnt",
                         Cause.FIRMWARE)   # while it lasts: learning draws as much as a motor
SLICE_S = 1.0        # of which the learner runs a part, its duty


class Pace:
    """Of a life: `poll` some times a second. The learner does not look at the board itself."""

    def __init__(self, governor: GovernorConfig, live: LiveConfig,
                 read_health_fn: Callable[[], Health],
                 clock: Callable[[], float] = time.monotonic):
        self._governor, self._live = governor, live
        self._read_health_fn, self._clock = read_health_fn, clock
        self._source, self._history, self._by_board = open_source(governor), History(), Decision()
        self._slips = deque[tuple[float, Slip]]()
        self._next_board_s = clock()
        self.decision = Decision()
        self.health: Health | None = None
        self.report: Report | None = None

    @property
    def deadlines(self) -> DeadlineCounts:
        """Of the last WINDOW_S; those that pass now without a tick are missed too."""
        slips = [slip for _, slip in self._slips]
        missed = sum(slip.missed for slip in slips) + (slips[-1].overdue if slips else 0)
        return DeadlineCounts(sum(slip.ticks for slip in slips) + missed,
                              sum(slip.late for slip in slips), missed)

    @property
    def late_fraction(self) -> float:
        """Of those deadlines, late or missed."""
        deadlines = self.deadlines
        return (deadlines.late + deadlines.missed) / max(1, deadlines.n)

    @property
    def is_idle(self) -> bool:
        """Whether the robot reports that it rests."""
        return bool(self.report and not self.report.failure and self.report.idle)

    @property
    def may_run(self) -> bool:
        """Now, in this part of its slice of time."""
        return self._clock() % SLICE_S < self.decision.duty * SLICE_S

    @property
    def must_stop(self) -> bool:
        """Whether what it has learnt has to be saved, and its memory given back."""
        return self.decision.action == STOP

    @property
    def may_begin(self) -> bool:
        return self.decision.action not in (PAUSE, STOP)

    def poll(self, slip: Slip) -> Decision:
        """The decision now; `slip`: since the last one."""
        now_s = self._clock()
        self._slips.append((now_s, slip))
        while now_s - self._slips[0][0] > WINDOW_S:
            self._slips.popleft()
        if now_s >= self._next_board_s:
            self._next_board_s = now_s + BOARD_EVERY_S
            self.health, self.report = self._read_health_fn(), self._source.poll(0.0)
            by_board, self._history = decide(self._governor, self._history, self.health, now_s,
                                             self.report)
            self._by_board = (stricter(by_board, UNDER_VOLTAGE)
                              if self._history.under_voltage else by_board)
        self.decision = stricter(decide_by_deadlines(self._live, self.deadlines), self._by_board)
        return self.decision

    def close(self) -> None:
        """Ends a command that prints the report, if one is running."""
        self._source.close()
