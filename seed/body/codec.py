"""Between a body's numbers and a brain's: observations to levels and rows of a table, choices to
actions. A brain keeps its codec for life, in the checkpoint and in an exported file.

A channel's number becomes one of LEVELS levels between its `low` and `high`, which a few knots
share: the level between two knots is a mixture of both. A channel with a logarithmic scale has its
finest levels around the middle (mu-law).
"""
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from seed.errors import ConfigError
from seed.wavecore.layout import BodyShape

LEVELS = 256
ABSENT = -1              # level of a number that is not finite: its channel adds nothing
MU = 15.0                # of the mu-law: the middle has levels MU / log(1 + MU) times as fine
MAX_OBSERVATIONS, MAX_ACTIONS, MAX_CHOICES, MAX_KNOTS = 512, 64, 64, 64
FORMS = ("index", "indices", "numbers")


@dataclass(frozen=True)
class Channel:
    """One number of an observation."""
    low: float
    high: float
    is_log: bool = False
    knots: int = 4


@dataclass(frozen=True)
class Codec:
    """`actions`: for each part of an action what its choices stand for; `form`: whether the body
    takes one index, an array of indices or an array of numbers of `shape`."""
    name: str
    channels: tuple[Channel, ...]
    actions: tuple[tuple[float, ...], ...]
    form: str
    shape: tuple[int, ...] = ()

    @cached_property
    def body(self) -> BodyShape:
        choices = tuple(map(len, self.actions))
        rows = sum(channel.knots for channel in self.channels) + sum(choices) + 1
        return BodyShape(self.name, rows, 2 * len(self.channels) + len(choices) + 1,
                         len(self.channels), choices)

    @cached_property
    def _low(self) -> np.ndarray:
        return np.array([channel.low for channel in self.channels])

    @cached_property
    def _width(self) -> np.ndarray:
        return np.array([channel.high - channel.low for channel in self.channels])

    @cached_property
    def _is_log(self) -> np.ndarray:
        return np.array([channel.is_log for channel in self.channels])

    @cached_property
    def _knots(self) -> np.ndarray:
        return np.array([channel.knots for channel in self.channels])

    @cached_property
    def _first_knots(self) -> np.ndarray:
        return np.cumsum(self._knots) - self._knots

    @cached_property
    def _first_choices(self) -> np.ndarray:
        sizes = np.array(self.body.choices)
        return self._knots.sum() + np.cumsum(sizes) - sizes

    @property
    def last_action(self) -> tuple[slice, slice]:
        """Rows of the input table that stand for the action before a tick, and its slots."""
        knots, n = int(self._knots.sum()), 2 * len(self.channels)
        return slice(knots, self.body.input_rows - 1), slice(n, n + len(self.actions))

    def levels(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., n) numbers to levels (..., n), and whether each was beyond its range."""
        is_finite = np.isfinite(observations)
        observations = np.where(is_finite, observations, self._low)
        with np.errstate(over="ignore"):   # of numbers far beyond
            u = 2 * (observations - self._low) / self._width - 1
            u = np.where(self._is_log, np.sign(u) * np.log1p(MU * np.abs(u)) / math.log1p(MU), u)
        clipped = np.clip(u, -1, 1)
        levels = np.rint((clipped + 1) * ((LEVELS - 1) / 2)).astype(np.int64)
        return np.where(is_finite, levels, ABSENT), clipped != u

    def encode(self, levels: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 and weights float32 (..., slots) of a tick: levels (..., n), and the choices
        (..., parts) before it, -1 in all where an episode begins."""
        at = np.maximum(levels, 0) * ((self._knots - 1) / (LEVELS - 1))
        below = np.minimum(at.astype(np.int64), self._knots - 2)
        share, is_here = at - below, levels != ABSENT
        begins = previous[..., :1] < 0
        last = np.full((*levels.shape[:-1], 1), self.body.input_rows - 1)
        tokens = [self._first_knots + below, self._first_knots + below + 1,
                  self._first_choices + np.maximum(previous, 0), last]
        weights = [is_here * (1 - share), is_here * share,
                   np.broadcast_to(~begins, previous.shape), begins]
        return (np.concatenate(tokens, -1).astype(np.int32),
                np.concatenate(weights, -1).astype(np.float32))

    def action_rows(self, choices: np.ndarray) -> np.ndarray:
        """Rows int32 (..., parts) of the table of actions."""
        return (choices + self._first_choices - self._knots.sum()).astype(np.int32)

    def sample(self, logits: np.ndarray, rng: np.random.Generator | None = None
               ) -> tuple[np.ndarray, np.ndarray]:
        """Of (rows, columns) logits of the control heads, the probabilities of all choices
        (rows, policy_width) and drawn choices (rows, parts); the likeliest without `rng`."""
        probabilities, choices = [], []
        for head in self.body.control.heads:
            if head.is_scalar:
                continue
            z = logits[:, head.start:head.start + head.width].astype(np.float64)
            p = np.exp(z - z.max(-1, keepdims=True))
            probabilities.append(p / p.sum(-1, keepdims=True))
            choices.append((z if rng is None else z + rng.gumbel(size=z.shape)).argmax(-1))
        return np.concatenate(probabilities, -1), np.stack(choices, -1)

    def decode(self, choices: np.ndarray) -> Any:
        """What the body takes for the choices of one tick."""
        if self.form == "index":
            return int(self.actions[0][choices[0]])
        numbers = [values[choice] for values, choice in zip(self.actions, choices)]
        dtype = np.int64 if self.form == "indices" else np.float32
        return np.array(numbers, dtype).reshape(self.shape)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Codec":
        """Raises ConfigError unless the fields are a codec's."""
        try:
            codec = cls(fields["name"], tuple(Channel(**c) for c in fields["channels"]),
                        tuple(tuple(map(float, part)) for part in fields["actions"]),
                        fields["form"], tuple(map(int, fields["shape"])))
            wrong = codec._wrong() if type(codec.name) is str else "name"
        except (KeyError, TypeError, ValueError, OverflowError):
            wrong = "its fields"
        if wrong:
            raise ConfigError(f"the codec of a body is damaged: {wrong}; train the body again")
        return codec

    def _wrong(self) -> str:
        channels, parts = self.channels, self.actions
        if not 0 < len(channels) <= MAX_OBSERVATIONS or not 0 < len(parts) <= MAX_ACTIONS:
            return "number of channels"
        if any(not math.isfinite(c.low) or not math.isfinite(c.high) or not c.low < c.high
               or type(c.is_log) is not bool or type(c.knots) is not int
               or not 2 <= c.knots <= MAX_KNOTS for c in channels):
            return "range of a channel"
        if any(not 2 <= len(part) <= MAX_CHOICES or not all(map(math.isfinite, part))
               for part in parts):
            return "choices of an action"
        if self.form not in FORMS or math.prod(self.shape or (1,)) != len(parts):
            return "form of an action"
        return ""
