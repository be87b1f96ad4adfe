"""A board whose temperature and sensors a test decides."""
import numpy as np

from seed.system_health import Health, Reading, Throttled
from tests.support.counting_learner import CountingLearner
from tests.support.fake_clock import FakeClock


def health(temp_c=50.0, bits=0, rss=500.0, left=4000.0, cgroup=None) -> Health:
    """A board; temp_c None: the sensor cannot be read."""
    unknown = Reading(None, "input/output error")
    zone = Reading(temp_c) if temp_c is not None else unknown
    return Health("Raspberry Pi 5", {"cpu-thermal": zone}, Throttled(bits), unknown, unknown,
                  Reading(rss), Reading(rss), Reading(left), Reading(0.0),
                  Reading(cgroup) if cgroup else unknown, Reading(9e3), Reading(9e3))


class FakeBoard:
    """Heats towards `hot` while training, cools towards `idle`, with time constant tau seconds."""

    def __init__(self, clock: FakeClock, hot: float, idle=45.0, tau=40.0, start=50.0):
        self.clock, self.hot, self.idle, self.tau, self.temp = clock, hot, idle, tau, start
        self.seen, self.waited_s = [], 0.0

    def sleep(self, seconds: float) -> None:
        self.pass_time(seconds, self.idle)
        self.waited_s += seconds

    def pass_time(self, seconds: float, target: float) -> None:
        self.temp = target + (self.temp - target) * np.exp(-seconds / self.tau)
        self.clock.now += seconds

    def read_health(self) -> Health:
        self.seen.append(self.temp)
        return health(round(self.temp / 0.55) * 0.55)  # the Pi's sensor has steps of 0.55 C


class WarmingLearner(CountingLearner):
    """Takes half a second a step and warms the board."""

    def __init__(self, board: FakeBoard):
        super().__init__(board.clock)
        self.board, self.seconds = board, 0.0

    def step(self, batch, lr):
        self.board.pass_time(0.5, self.board.hot)
        return super().step(batch, lr)
