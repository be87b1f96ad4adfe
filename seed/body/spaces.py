"""Spaces of observations and actions, with the attributes of Gymnasium's."""
import math
from typing import Any, NamedTuple

import numpy as np

from seed.body.codec import MAX_ACTIONS, MAX_CHOICES, MAX_OBSERVATIONS
from seed.errors import ConfigError

MAX_BOUND = 1e6   # of a range that is declared; a wider one is measured


class Box(NamedTuple):
    """Arrays of `shape` between the arrays low and high."""
    low: np.ndarray
    high: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape

    @classmethod
    def of(cls, *ranges: tuple[float, float]) -> "Box":
        return cls(*np.array(ranges, np.float32).T)


class Discrete(NamedTuple):
    """Integers 0 .. n-1."""
    n: int
    start: int = 0


class MultiDiscrete(NamedTuple):
    """Arrays of integers, each from 0 to below that of the array nvec."""
    nvec: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nvec.shape


def action_values(name: str, space: Any, bins: int,
                  is_fine: bool = False) -> tuple[list[list[float]], str, list[int]]:
    """What the choices of each part of an action stand for, the form and the shape of a Codec.
    A number has `bins` choices; if `is_fine` those in the middle are the nearest to each other.
    Raises ConfigError for a space that it does not know."""
    if hasattr(space, "n") and np.ndim(space.n) == 0 and not hasattr(space, "nvec") \
            and getattr(space, "shape", ()) in ((), None):
        start = int(getattr(space, "start", 0))
        _check_choices(name, [int(space.n)])
        return [[float(start + i) for i in range(int(space.n))]], "index", []
    if hasattr(space, "nvec"):
        sizes = np.asarray(space.nvec)
        _check_choices(name, list(map(int, sizes.flat)))
        return [[float(i) for i in range(int(n))] for n in sizes.ravel()], "indices", \
            list(sizes.shape)
    if hasattr(space, "low") and hasattr(space, "high"):
        low, high = np.asarray(space.low, float), np.asarray(space.high, float)
        if not np.all(np.abs([low, high]) < MAX_BOUND):
            raise ConfigError(f"{name}: its actions have no bounds: give its action_space finite "
                              f"low and high")
        _check_choices(name, [bins] * low.size)
        if not (low < high).all():
            raise ConfigError(f"{name}: its action_space has a low that is not below its high: "
                              f"leave out what cannot move")
        values = np.linspace(low.ravel(), high.ravel(), bins, axis=1)
        if is_fine:
            u, middle = np.linspace(-1, 1, bins), (low + high).reshape(-1, 1) / 2
            values = middle + u * np.abs(u) * (high.reshape(-1, 1) - middle)
        return values.tolist(), "numbers", list(low.shape)
    raise ConfigError(f"{name}: its action_space is {type(space).__name__}: use Box, Discrete or "
                      f"MultiDiscrete")


def _check_choices(name: str, sizes: list[int]) -> None:
    if not 0 < len(sizes) <= MAX_ACTIONS or not all(2 <= n <= MAX_CHOICES for n in sizes):
        raise ConfigError(f"{name}: its action_space has {len(sizes)} parts of "
                          f"{min(sizes, default=0)} to {max(sizes, default=0)} choices: give 1 to "
                          f"{MAX_ACTIONS} parts of 2 to {MAX_CHOICES}")


def observation_ranges(name: str, space: Any) -> list[tuple[float, float]]:
    """The declared range of each number of an observation; infinite where there is none."""
    if hasattr(space, "n") and not hasattr(space, "low"):
        if not 2 <= space.n <= MAX_BOUND:
            raise ConfigError(f"{name}: its observation_space has {space.n} values: give 2 to "
                              f"{MAX_BOUND:.0f}")
        return [(0.0, float(space.n) - 1)]
    if not hasattr(space, "low") or not hasattr(space, "high"):
        raise ConfigError(f"{name}: its observation_space is {type(space).__name__}: use Box or "
                          f"Discrete")
    low, high = np.ravel(space.low), np.ravel(space.high)
    if not 0 < low.size <= MAX_OBSERVATIONS or low.shape != high.shape:
        raise ConfigError(f"{name}: its observation_space has {low.size} numbers: give 1 to "
                          f"{MAX_OBSERVATIONS}")
    return [(float(a), float(b)) if max(abs(a), abs(b)) < MAX_BOUND and a < b
            else (-math.inf, math.inf) for a, b in zip(low, high)]
