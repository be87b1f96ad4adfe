"""Whether a brain keeps the rate of its control loop on this board."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sealed_file import BrainError

TICKS, WARM_UP_TICKS = 500, 20
MIN_TICKS, MAX_S = 100, 10.0    # of a slow brain: no more ticks than those of these seconds
PAUSE_S = 0.01                  # between ticks, if the loop has as much
QUANTILE = 0.99
BRAIN_FRACTION = 0.7            # of a body's period, in which the fast loop waits for its brain


class TooSlow(BrainError):
    """A tick takes longer here than the loop of the file allows."""


@dataclass(frozen=True)
class TickTimes:
    """How long ticks with pauses take, beside what the loop allows."""
    rate_hz: float
    max_tick_ms: float
    p99_ms: float
    ticks: int

    @property
    def is_kept(self) -> bool:
        """Whether the 99th percentile is within what the loop allows."""
        return self.p99_ms <= self.max_tick_ms

    def describe(self) -> str:
        """In a line for a person."""
        return (f"a tick takes {self.p99_ms:.3g} ms (99th percentile of {self.ticks:,}), its "
                f"loop of {self.rate_hz:g} Hz allows {self.max_tick_ms:g} ms")


def loop_of(description: dict[str, Any]) -> dict[str, float]:
    """rate_hz and max_tick_ms of the loop that a file is for; without one, those of its body with
    the highest rate; empty if none says its rate."""
    loop: dict[str, float] = description.get("loop") or {}
    rate_hz = max((body.get("rate_hz", 0) for body in description["bodies"].values()), default=0)
    if loop or not rate_hz:
        return loop
    return {"rate_hz": rate_hz, "max_tick_ms": 1000 * BRAIN_FRACTION / rate_hz}


def time_brain(brain: Any, clock: Callable[[], float],
               sleep_fn: Callable[[float], object]) -> TickTimes:
    """Of an act in the body with the most inputs, or of a step; the state is a fresh one
    afterwards. Raises BrainError if the file is for no loop."""
    if not brain.loop:
        raise BrainError(f"{brain.name} is for no loop: export a brain whose profile has a "
                         f"[loop] with rate_hz and max_tick_ms, or a body with rate_hz")
    limits = brain.loop["rate_hz"], brain.loop["max_tick_ms"]
    if not brain.bodies:
        brain.reset()
        times = time_ticks(lambda: brain.step(0), *limits, clock, sleep_fn)
        brain.reset()
        return times
    body = brain.body
    widest = max(brain.bodies, key=lambda name: brain.bodies[name].weights.nbytes)
    brain.begin(widest)
    recorders, brain.recorders = brain.recorders, {}
    observation = np.zeros(len(brain.description["bodies"][widest]["codec"]["channels"]))
    try:
        times = time_ticks(lambda: brain.act(observation), *limits, clock, sleep_fn)
    finally:
        brain.recorders = recorders
    brain.begin(body)
    return times


def time_ticks(tick_fn: Callable[[], object], rate_hz: float, max_tick_ms: float,
               clock: Callable[[], float], sleep_fn: Callable[[float], object]) -> TickTimes:
    """Each tick follows a pause, as in a loop: without pauses, caches and the clock of the CPU stay
    as the tick leaves them, and it takes a quarter of the time."""
    pause_s = min(PAUSE_S, 1 / rate_hz)
    for _ in range(WARM_UP_TICKS):
        tick_fn()
    times_s: list[float] = []
    total_s = 0.0
    while len(times_s) < TICKS and (len(times_s) < MIN_TICKS or total_s < MAX_S):
        sleep_fn(pause_s)
        before = clock()
        tick_fn()
        times_s.append(clock() - before)
        total_s += times_s[-1]
    p99_s = float(np.quantile(times_s, QUANTILE, method="higher"))
    return TickTimes(rate_hz, max_tick_ms, 1000 * p99_s, len(times_s))
