"""Things that take turns: their ratios count on a machine that others use."""
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple, Protocol

WARM_UP_STEPS = 3   # untimed, at the start of a turn: an idle core is slow at first
MIN_TURNS = 3       # however little time there is


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


def timed(step_fn: Callable[[], object], n: int) -> list[float]:
    """Seconds of each of n steps, after some that are not timed."""
    for _ in range(min(WARM_UP_STEPS, n)):
        step_fn()
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        step_fn()
        seconds.append(time.perf_counter() - start)
    return seconds


class TakesTurns(Protocol):
    def turn(self) -> None: ...


def take_turns(contenders: Iterable[TakesTurns], turns: int, ends_s: float = float("inf")) -> None:
    """`turns` rounds, in each of which every contender has its turn. They end at `ends_s` of the
    monotonic clock, but not before MIN_TURNS."""
    contenders = [*contenders]
    for number in range(turns):
        if number >= MIN_TURNS and time.monotonic() > ends_s:
            return
        for contender in contenders:
            contender.turn()


class Turns:
    """Seconds of one of the things that take turns in this process."""

    def __init__(self, step_fn: Callable[[], object], steps: int, divisor: int = 1):
        """`steps` of a turn; `divisor`: of the time of each."""
        self.turns: list[list[float]] = []
        self._step_fn, self._steps, self._divisor = step_fn, steps, divisor

    def turn(self) -> None:
        seconds = timed(self._step_fn, self._steps)
        self.turns.append([each / self._divisor for each in seconds])

    @property
    def medians(self) -> list[float]:
        return [median(turn) for turn in self.turns]

    @property
    def seconds(self) -> float:
        return median(self.medians)

    def ratio(self, base: "Turns") -> Ratio:
        return paired(self.medians, base.medians)
