"""What stands between a brain and motors: action limits, slew limits, a safe action, faults.

    limits.apply(action) -> the action that the body gets, clamped and slewed
    faults.report(...)   a fault: from now on the body gets the safe action
    faults.tick(...)     whether the brain may act again

After a fault the safe action stands until the loop has been healthy for HOLD_S. After MAX_FAULTS
faults within WINDOW_S it stands until a person clears it: the fault is latched.
"""
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from seed.errors import ConfigError

HOLD_S, WINDOW_S, MAX_FAULTS = 1.0, 60.0, 3
BRAIN_FRACTION = 0.7     # of a period, for the brain's answer
MAX_LATE_BRAIN = 5       # ticks in a row without an action of the brain in time
MAX_MISSED = 10          # deadlines in a row
MIN_STALL_S, STALL_TICKS = 0.1, 10   # of a body, whichever is longer
MAX_BODY_ERRORS = 10     # in a row, after which its process begins anew


class State(IntEnum):
    """Of the loop, in the shared block."""
    STARTING, ACTING, SAFE, LATCHED, HELD, RESETTING, STOPPED = range(7)


class Fault(IntEnum):
    """Why the body gets the safe action. Code numbers stay what they are."""
    NONE = 0
    BRAIN_ERROR = 1        # it raised, or its action is not finite
    BRAIN_LATE = 2         # MAX_LATE_BRAIN times in a row
    BRAIN_ENDED = 3        # its process
    BODY_ERROR = 4         # it raised, or what it returns is wrong
    BODY_STALLED = 5       # it does not return from a call
    BODY_ENDED = 6
    MISSED_DEADLINES = 7   # MAX_MISSED in a row: the machine was stopped or overloaded
    RESTARTED = 8          # the tick loop itself was killed and began anew


@dataclass(frozen=True)
class Bounds:
    """Of an action, number by number. `form` as in a codec."""
    form: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    safe: tuple[float, ...]
    max_change: tuple[float, ...] = ()   # per second; empty: any
    is_safe_given: bool = False          # by the body's owner

    @classmethod
    def of(cls, actions: Sequence[Sequence[float]], form: str) -> "Bounds":
        """Of a body's own actions: the safe one is 0, or the middle where 0 is beyond; of choices
        the first."""
        low, high = tuple(map(min, actions)), tuple(map(max, actions))
        middle = [0.0 if a <= 0 <= b else (a + b) / 2 for a, b in zip(low, high)]
        return cls(form, low, high, tuple(middle) if form == "numbers" else low)

    def narrowed(self, fields: dict[str, Any], where: str) -> "Bounds":
        """With what an owner says: `action_limits` ([low, high] for each number), `max_change`
        (per second) and `safe_action`. Raises ConfigError."""
        n, bounds = len(self.low), self
        if (limits := fields.get("action_limits")) is not None:
            pairs = _numbers(limits, 2 * n, f"{where}: action_limits")
            low = tuple(map(max, pairs[::2], self.low))
            high = tuple(map(min, pairs[1::2], self.high))
            if any(a > b for a, b in zip(low, high)):
                raise ConfigError(f"{where}: action_limits leave nothing: give low, high pairs "
                                  f"within the action_space")
            bounds = replace(bounds, low=low, high=high)
        if (change := fields.get("max_change")) is not None:
            rates = _numbers(change, n, f"{where}: max_change")
            if min(rates) <= 0 or self.form != "numbers":
                raise ConfigError(f"{where}: max_change is {change!r:.60}: give numbers above 0, "
                                  f"of a body whose actions are numbers")
            bounds = replace(bounds, max_change=rates)
        if (safe := fields.get("safe_action")) is not None:
            bounds = replace(bounds, safe=_numbers(safe, n, f"{where}: safe_action"),
                             is_safe_given=True)
        if self.form != "numbers" and any(x % 1 for x in (
                *bounds.low, *bounds.high, *bounds.safe)):
            raise ConfigError(f"{where}: action_limits or safe_action is between two choices: give "
                              f"whole numbers")
        return replace(bounds, safe=tuple(
            min(max(x, a), b) for x, a, b in zip(bounds.safe, bounds.low, bounds.high)))


def _numbers(value: Any, n: int, what: str) -> tuple[float, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    flat = [x for item in values for x in (item if isinstance(item, (list, tuple)) else [item])]
    try:
        numbers = tuple(map(float, flat))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != n or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{what} is {value!r:.60}: give {n} finite numbers")
    return numbers


class Limits:
    """Applies bounds tick by tick, and counts what it changed."""

    def __init__(self, bounds: Bounds, rate_hz: float):
        self._rate_hz = rate_hz
        self.use(bounds)
        self.last: list[float] | None = None   # that the body got
        self.clamped = self.slewed = 0         # actions, not numbers

    def use(self, bounds: Bounds) -> None:
        """From now on these, of a body that has begun anew."""
        self.bounds = bounds
        self._steps = [change / self._rate_hz for change in bounds.max_change]
        self._is_index = bounds.form != "numbers"

    def apply(self, action: Sequence[float]) -> list[float]:
        """Raises ValueError unless it has as many finite numbers as the body takes."""
        bounds = self.bounds
        if len(action) != len(bounds.low) or not all(map(math.isfinite, action)):
            raise ValueError("the action is not finite or has another shape")
        if self._is_index and any(x != int(x) for x in action):
            raise ValueError("the action is no index")
        numbers = [min(max(x, low), high)
                   for x, low, high in zip(action, bounds.low, bounds.high)]
        self.clamped += numbers != list(action)
        if self._steps and self.last is not None:
            slewed = [min(max(x, before - step), before + step)
                      for x, before, step in zip(numbers, self.last, self._steps)]
            self.slewed += slewed != numbers
            numbers = slewed
        self.last = numbers
        return numbers


class Faults:
    """Which fault stands, and when the brain may act again. Times in s."""

    def __init__(self) -> None:
        self.fault, self.count = Fault.NONE, 0
        self.is_latched = False
        self._times: deque[float] = deque(maxlen=MAX_FAULTS)
        self._healthy_since_s = 0.0

    def report(self, fault: Fault, now_s: float) -> bool:
        """Whether it is new: another fault than the one that stands."""
        self._healthy_since_s = now_s
        if fault == self.fault:
            return False
        is_first = self.fault == Fault.NONE
        self.fault = fault
        if is_first:
            self.count += 1
            self._times.append(now_s)
            self.is_latched = (len(self._times) == MAX_FAULTS
                               and now_s - self._times[0] <= WINDOW_S)
        return True

    @property
    def times_s(self) -> list[float]:
        """Of the last MAX_FAULTS."""
        return list(self._times)

    def restore(self, times_s: Sequence[float]) -> None:
        """Those of an earlier loop."""
        self._times.extend(times_s)

    def latch(self, fault: Fault) -> None:
        """As an earlier loop has left it: no time mends it."""
        self.fault, self.is_latched = fault, True

    def postpone(self, now_s: float) -> None:
        """Something is not healthy yet."""
        self._healthy_since_s = now_s

    def clear(self) -> None:
        """A person says that the latched fault is mended."""
        self.is_latched = False
        self._times.clear()

    def tick(self, now_s: float) -> bool:
        """Whether the brain may act."""
        if self.fault != Fault.NONE and not self.is_latched \
                and now_s - self._healthy_since_s >= HOLD_S:
            self.fault = Fault.NONE
        return self.fault == Fault.NONE
