"""The returns that the levels of a value stand for: finest around zero, where most of them are."""
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seed.body.codec import MU
from seed.wavecore.layout import VALUE_LEVELS


@dataclass(frozen=True)
class ValueRange:
    """low <= 0 <= high, not both 0."""
    low: float
    high: float

    @property
    def is_one(self) -> bool:
        """False for what a damaged file may have."""
        return self.low <= 0 <= self.high and self.low < self.high

    @cached_property
    def returns(self) -> np.ndarray:
        """Of each level, in order: evenly spaced by the mu-law of the farther end from zero."""
        bound = max(-self.low, self.high)
        ends = np.array([self.low, self.high]) / bound
        low, high = np.sign(ends) * np.log1p(MU * np.abs(ends)) / np.log1p(MU)
        u = np.linspace(low, high, VALUE_LEVELS)
        return bound * np.sign(u) * np.expm1(np.abs(u) * np.log1p(MU)) / MU   # type: ignore

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
