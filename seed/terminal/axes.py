"""The ticks of an axis: round numbers, and how they are written."""
import math
from collections.abc import Sequence

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
SAME = 1e-9   # of a value: a smaller difference is none
SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most`, which is 3 or more, and at least two multiples of a round number, of which
    the first and last enclose `low` and `high`."""
    if high - low <= SAME * max(abs(low), abs(high)):   # one value
        half = abs(low) / 2 or 0.5
        low, high = low - half, low + half
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    sizes = [digit * power * scale for scale in (1, 10) for digit in ROUND[:-1]]
    for size in sizes:
        first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
        if last - first < most:
            break
    return [i * size for i in range(first, max(last, first + 1) + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Of ticks: with as many decimals as they need, in thousands or millions where they are large.
    """
    largest, apart = max(map(abs, values)), abs(values[1] - values[0])
    scale, suffix = next(((s, text) for s, text in SUFFIXES if largest >= 10 * s), (1.0, ""))
    if largest < 1e-4 or largest >= 1e13:
        return [f"{value:.6g}" for value in values]
    decimals = next(n for n in range(16) if _is_whole(apart / scale * 10 ** n) or n == 15)
    return [f"{value / scale:.{decimals}f}{suffix if value else ''}" for value in values]


def _is_whole(value: float) -> bool:
    return round(value) >= 1 and abs(value - round(value)) < 1e-6 * value
