"""Things that take turns: their ratios count on a machine that others use."""
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from seed.bench.worker import timed

WARM_UP_STEPS = 5   # untimed, at the start of a turn


class Ratio(NamedTuple):
    """Of paired turns."""
    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} - {self.greatest:.2f})"


def paired(seconds: Sequence[float], base: Sequence[float]) -> Ratio:
    """Of the turns of one thing to those of another, turn by turn."""
    ratios = [a / b for a, b in zip(seconds, base, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


class Turns:
    """Seconds of one of the things that take turns in this process."""

    def __init__(self, step_fn: Callable[[], object], steps: int, divisor: int = 1):
        """`steps` of a turn; `divisor`: of the time of each."""
        self.turns: list[list[float]] = []
        self._step_fn, self._steps, self._divisor = step_fn, steps, divisor

    def turn(self) -> None:
        self.turns.append([seconds / self._divisor for seconds in timed(
            self._step_fn, min(WARM_UP_STEPS, self._steps), self._steps)])

    @property
    def medians(self) -> list[float]:
        return [median(turn) for turn in self.turns]

    @property
    def seconds(self) -> float:
        return median(self.medians)

    def ratio(self, base: "Turns") -> Ratio:
        return paired(self.medians, base.medians)
