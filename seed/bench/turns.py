"""Things that take turns in one process: their ratios count on a machine that others use."""
from collections.abc import Callable
from statistics import median

from seed.bench.worker import timed

WARM_UP_STEPS = 5   # untimed, at the start of a turn


class Turns:
    """Seconds of one of the things that take turns: the median of each turn."""

    def __init__(self, step_fn: Callable[[], object], steps: int, divisor: int = 1):
        self.medians: list[float] = []
        self._step_fn, self._steps, self._divisor = step_fn, steps, divisor

    def turn(self) -> None:
        self.medians.append(median(timed(self._step_fn, min(WARM_UP_STEPS, self._steps),
                                         self._steps)) / self._divisor)

    @property
    def seconds(self) -> float:
        return median(self.medians)

    def ratio(self, base: "Turns") -> float:
        """Median of the ratios of the turns."""
        return median(a / b for a, b in zip(self.medians, base.medians, strict=True))
