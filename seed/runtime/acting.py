"""From a body's numbers to a brain's input, and from its output to an action: the codec of a body,
as the trainer has it (seed/body/codec.py), for one body and without allocations.

A number that is not finite is read as the last finite one of its channel, or as the middle of the
channel's range before there is one; one beyond its range as the end of the range. Both are counted.
"""
import math
from typing import Any

import numpy as np

LEVELS, MU, VALUE_LEVELS = 256, 15.0, 64   # as in seed/body/codec.py and seed/wavecore/layout.py
FORMS = ("index", "indices", "numbers")
MAX_CHANNELS, MAX_PARTS, MAX_CHOICES, MAX_KNOTS = 512, 64, 64, 64


def is_codec(fields: Any) -> bool:
    """Whether they are a codec's; may raise KeyError, TypeError, ValueError or OverflowError."""
    channels, parts, shape = fields["channels"], fields["actions"], fields["shape"]
    return (0 < len(channels) <= MAX_CHANNELS and 0 < len(parts) <= MAX_PARTS
            and all(math.isfinite(c["high"] - c["low"]) and c["low"] < c["high"]
                    and type(c["is_log"]) is bool and type(c["knots"]) is int
                    and 2 <= c["knots"] <= MAX_KNOTS for c in channels)
            and all(2 <= len(part) <= MAX_CHOICES and all(map(math.isfinite, part))
                    for part in parts)
            and fields["form"] in FORMS and all(type(n) is int and n > 0 for n in shape)
            and math.prod(shape) == len(parts))


def input_rows(fields: Any) -> int:
    """Numbers that a tick's graph reads."""
    return sum(c["knots"] for c in fields["channels"]) + sum(map(len, fields["actions"])) + 1


def output_columns(fields: Any) -> int:
    """Logits that it writes: of the value, then of each part of an action."""
    return VALUE_LEVELS + sum(map(len, fields["actions"]))


class BodyCodec:
    """`fields`: a codec's; `values`: the range of returns that the value stands for; `weights`:
    the part of the graph's input that is the body's, `columns` that of its output."""

    def __init__(self, fields: dict[str, Any], values: list[float], weights: np.ndarray,
                 columns: slice):
        channels, self.values = fields["channels"], values
        self.form, self.shape = fields["form"], tuple(fields["shape"])
        self.actions = [np.array(part) for part in fields["actions"]]
        self._low = np.array([c["low"] for c in channels], np.float64)
        self._high = np.array([c["high"] for c in channels], np.float64)
        self._width = self._high - self._low
        self._is_log = np.array([c["is_log"] for c in channels])
        knots = np.array([c["knots"] for c in channels])
        self._scale = (knots - 1) / (LEVELS - 1)
        self._last_below = knots - 2
        self._first_knots = np.cumsum(knots) - knots
        sizes = np.array([len(part) for part in self.actions])
        self._first_choices = knots.sum() + np.cumsum(sizes) - sizes
        self._parts = VALUE_LEVELS + np.cumsum([0, *sizes])
        self.weights, self.columns = weights, columns
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self.choices: np.ndarray | None = None   # that the last tick has chosen
        self._last = (self._low + self._high) / 2
        self.clipped = self.held = 0              # numbers beyond their range; not finite

    def read(self, observation: Any) -> None:
        """Fills `weights`. Raises ValueError unless it has one number for each channel."""
        numbers = np.asarray(observation, np.float64).reshape(-1)
        if numbers.size != self._low.size:
            raise ValueError(f"has {numbers.size} numbers: give {self._low.size}")
        is_finite = np.isfinite(numbers)
        if not is_finite.all():
            numbers = np.where(is_finite, numbers, self._last)
            self.held += int(numbers.size - is_finite.sum())
        self._last = numbers
        u = 2 * (numbers - self._low) / self._width - 1
        u = np.where(self._is_log, np.sign(u) * np.log1p(MU * np.abs(u)) / math.log1p(MU), u)
        inside = np.clip(u, -1, 1)
        self.clipped += int(np.count_nonzero(inside != u))
        at = np.rint((inside + 1) * ((LEVELS - 1) / 2)) * self._scale
        below = np.minimum(at.astype(np.int64), self._last_below)
        flat, knots = self.weights, self._first_knots + below
        flat.fill(0)
        flat[knots] = 1 - (at - below)
        flat[knots + 1] = at - below
        if self.choices is None:
            flat[-1] = 1
        else:
            flat[self._first_choices + self.choices] = 1

    def choose(self, logits: np.ndarray) -> Any:
        """The likeliest action of (columns,) logits, as the body takes it."""
        parts = self._parts
        self.choices = np.array([logits[parts[i]:parts[i + 1]].argmax()
                                 for i in range(len(self.actions))])
        numbers = [values[choice] for values, choice in zip(self.actions, self.choices)]
        if self.form == "index":
            return int(numbers[0])
        return np.array(numbers, np.int64 if self.form == "indices" else np.float32
                        ).reshape(self.shape)

    def value(self, logits: np.ndarray) -> float:
        """The return that the brain expects from here."""
        z = logits[:VALUE_LEVELS].astype(np.float64)
        p = np.exp(z - z.max())
        low, high = self.values
        return float(low + p @ np.arange(VALUE_LEVELS) / p.sum() * (high - low)
                     / (VALUE_LEVELS - 1))
