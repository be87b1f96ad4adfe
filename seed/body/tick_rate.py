"""The rate at which a body senses and acts: part of what its ticks mean, as its ranges are."""
import math
from typing import Any

MAX_RATE_HZ = 1_000_000
TOLERANCE = 0.01   # 1 / 0.033 s is called 30 Hz


def checked_rate(value: Any) -> float | None:
    """Ticks per second; None if they are not known. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) \
            or not 0 < value <= MAX_RATE_HZ:
        raise ValueError(f"rate_hz is {value!r:.50}: give ticks per second, up to {MAX_RATE_HZ:,}, "
                         f"or leave it out")
    return float(value)


def is_same_rate(rate_hz: float | None, other_hz: float | None) -> bool:
    """Whether they are, as far as both are known."""
    return not rate_hz or not other_hz or math.isclose(rate_hz, other_hz, rel_tol=TOLERANCE)
