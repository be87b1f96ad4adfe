"""The returns that the levels of a value stand for: as far as they have come in play."""
from dataclasses import dataclass

import numpy as np

from seed.wavecore.layout import VALUE_LEVELS

BEYOND = 0.5          # percent of a round's returns that may be beyond an end
WIDER_BY = 0.5        # of the range, at a time


@dataclass
class ValueRange:
    """low <= 0 <= high, not both 0. All plays of a body share one, as they share its tables."""
    low: float
    high: float

    @property
    def is_one(self) -> bool:
        """False for what a damaged file may have."""
        return self.low <= 0 <= self.high and self.low < self.high

    @property
    def returns(self) -> np.ndarray:
        """Of each level, in order."""
        return np.linspace(self.low, self.high, VALUE_LEVELS)

    def two_hot(self, returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The level below each return, int32, and the share of the one above it."""
        x = np.interp(returns, self.returns, np.arange(VALUE_LEVELS))
        at = np.minimum(x.astype(np.int32), VALUE_LEVELS - 2)
        return at, (x - at).astype(np.float32)

    def mean(self, logits: np.ndarray) -> np.ndarray:
        """The expected return of (..., VALUE_LEVELS) logits."""
        z = logits.astype(np.float64)
        p = np.exp(z - z.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True) @ self.returns   # type: ignore

    def widen(self, returns: np.ndarray) -> np.ndarray | None:
        """Reaches as far as the returns of a round. None if it does already, else for each level
        where on the old ones its return was (VALUE_LEVELS,)."""
        least, most = np.percentile(returns, [BEYOND, 100 - BEYOND])
        before = self.returns
        while least < self.low:
            self.low -= WIDER_BY * (self.high - self.low)
        while most > self.high:
            self.high += WIDER_BY * (self.high - self.low)
        if (before[0], before[-1]) == (self.low, self.high):
            return None
        return np.interp(self.returns, before, np.arange(VALUE_LEVELS))


def moved_rows(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rows (VALUE_LEVELS, d) of a table whose levels are now `at` the places of old ones: what
    is expected stays about as it was."""
    below = np.minimum(at.astype(int), VALUE_LEVELS - 2)
    share = (at - below)[:, None].astype(np.float32)
    return (1 - share) * rows[below] + share * rows[below + 1]   # type: ignore
