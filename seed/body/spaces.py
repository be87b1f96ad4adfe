"""Spaces of observations and actions, with the attributes of Gymnasium's."""
import math
from typing import Any, NamedTuple

import numpy as np

from seed.body.codec import MAX_ACTIONS, MAX_CHOICES, MAX_OBSERVATIONS, Codec
from seed.errors import ConfigError

MAX_BOUND = 1e6   # of a range that is declared; a wider one is measured
BINS = 9          # choices of a number in an action
KINDS = "Box, Discrete, MultiDiscrete or MultiBinary"


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
    """Arrays of integers, nvec of them from `start` on in each place."""
    nvec: np.ndarray
    start: np.ndarray | int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nvec.shape


def choices_of(space: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Of each part of a Discrete, MultiDiscrete or MultiBinary space the number of its choices, and
    the first of them; None of another space."""
    if hasattr(space, "nvec"):
        sizes = np.asarray(space.nvec)
    elif hasattr(space, "n") and not hasattr(space, "low"):
        shape = getattr(space, "shape", None)
        sizes = np.full(shape, 2) if shape else np.asarray(space.n)   # bits, or one choice
    else:
        return None
    return sizes, np.broadcast_to(getattr(space, "start", 0), sizes.shape)


def action_values(name: str, space: Any, bins: int,
                  is_fine: bool = False) -> tuple[list[list[float]], str, list[int]]:
    """What the choices of each part of an action stand for, the form and the shape of a Codec.
    A number has `bins` choices; if `is_fine` those in the middle are the nearest to each other.
    Raises ConfigError for a space that it does not know."""
    choices = choices_of(space)
    if choices:
        sizes = list(map(int, choices[0].flat))
        _check_choices(name, sizes)
        return ([[float(start + i) for i in range(n)] for n, start in zip(sizes, choices[1].flat)],
                "indices" if choices[0].shape else "index", list(choices[0].shape))
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
    raise ConfigError(f"{name}: its action_space is {type(space).__name__}: use {KINDS}")


def _check_choices(name: str, sizes: list[int]) -> None:
    if not 0 < len(sizes) <= MAX_ACTIONS or not all(2 <= n <= MAX_CHOICES for n in sizes):
        raise ConfigError(f"{name}: its action_space has {len(sizes)} parts of "
                          f"{min(sizes, default=0)} to {max(sizes, default=0)} choices: give 1 to "
                          f"{MAX_ACTIONS} parts of 2 to {MAX_CHOICES}")


def observation_ranges(name: str, space: Any) -> list[tuple[float, float]]:
    """The declared range of each number of an observation; infinite where there is none. Raises
    ConfigError."""
    choices = choices_of(space)
    if choices:
        sizes, starts = (list(map(float, part.flat)) for part in choices)
        for n in sizes:
            if not 2 <= n <= MAX_BOUND:
                raise ConfigError(f"{name}: its observation_space has {n:g} values: give 2 to "
                                  f"{MAX_BOUND:.0f}")
        ranges = [(start, start + n - 1) for n, start in zip(sizes, starts)]
    elif hasattr(space, "low") and np.shape(space.low) == np.shape(space.high):
        low, high = np.ravel(space.low), np.ravel(space.high)
        ranges = list(zip(map(float, low), map(float, high)))
    else:
        raise ConfigError(f"{name}: its observation_space is {type(space).__name__}: use {KINDS}")
    if not 0 < len(ranges) <= MAX_OBSERVATIONS:
        raise ConfigError(f"{name}: its observation_space has {len(ranges)} numbers: give 1 to "
                          f"{MAX_OBSERVATIONS}")
    for i, (least, most) in enumerate(ranges):
        if not least <= most:
            raise ConfigError(f"{name}: number {i} of its observation_space has a low of "
                              f"{least:g} and a high of {most:g}: let low be below high")
    return [(a, b) if max(abs(a), abs(b)) < MAX_BOUND and a < b else (-math.inf, math.inf)
            for a, b in ranges]


def has_spaces_of(codec: Codec, body: Any) -> bool:
    """Whether a body has as many numbers and the same choices. Raises ConfigError."""
    ranges = observation_ranges(codec.name, body.observation_space)
    actions, form, _ = action_values(codec.name, body.action_space, BINS)
    return (len(ranges), len(actions), form) == (
        len(codec.channels), len(codec.actions), codec.form) and (
        form == "numbers" or tuple(map(tuple, actions)) == codec.actions)
