"""What a brain was before and is now in one thing, and whether it has lost by more than chance."""
import math
from typing import Any, NamedTuple

import numpy as np

MAX_LOSS = 0.03   # of what was known: a fraction of the return, or points of accuracy / 100
MIN_GAIN = 0.01   # of accuracy, by which a curriculum or a rule is better
Z = 1.96          # of a 95 % interval


class Figure(NamedTuple):
    """`unit`: "accuracy", "return", or "reward in the model", of short episodes. `margin`: half of
    the 95 % interval of the mean difference. `bias`: what the model is wrong by on the parent, of
    which so much may be `chance`."""
    name: str
    unit: str
    before: float
    after: float
    margin: float = 0.0
    bias: float = 0.0
    chance: float = 0.0

    @classmethod
    def checked(cls, fields: dict[str, Any]) -> "Figure":
        """Of JSON; null: a number that was not finite. Raises ValueError, TypeError."""
        numbers: dict[str, Any] = {name: math.nan if value is None else value
                                   for name, value in fields.items()}
        figure = cls(**numbers)
        if [type(value) for value in figure[:2]] != [str, str] or not all(
                type(value) in (int, float) for value in figure[2:]):
            raise ValueError
        return figure

    @property
    def scale(self) -> float:
        """What a fraction is of: losses of accuracy are in points, all others relative."""
        return 1.0 if self.unit == "accuracy" else abs(self.before)


def has_lost(row: Figure, max_loss: float = MAX_LOSS) -> bool:
    """Also where a number is none. What the model is wrong by is no reason to allow more."""
    return not row.before - row.after <= max_loss * row.scale + row.margin


def half_interval(numbers: np.ndarray, n: float = 0.0) -> float:
    """Half of the 95 % interval of their mean; `n`: of how many independent ones, by default all.
    """
    return float(Z * numbers.std() / math.sqrt(n or len(numbers)))
