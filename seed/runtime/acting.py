"""From a body's numbers to a brain's input, and from its output to an action: the codec of a body,
as the trainer has it (seed/body/codec.py), for one body and fast: a bisection finds the place of a
number among the borders of its channel's levels, and a place has its bytes of the graph's input.

A number that is not finite, or None, is absent: its channel adds nothing. One beyond its range is
read as the end of the range. Both are counted.
"""
import itertools
import math
from bisect import bisect_right
from operator import getitem
from typing import Any

import numpy as np

# As in seed/body/codec.py and seed/wavecore/layout.py.
LEVELS, MU, VALUE_LEVELS, WORLD_LEVELS = 256, 15.0, 64, 32
# Places of a number: that of a level is its own number plus 1.
BELOW, ABOVE, ABSENT = 0, LEVELS + 1, LEVELS + 2
ZERO, ONE = (np.float32(n).tobytes() for n in (0, 1))
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


def choice_rows(fields: Any) -> int:
    """Choices of all parts of an action."""
    return sum(map(len, fields["actions"]))


def input_rows(fields: Any) -> int:
    """Numbers that a tick's graph reads."""
    return sum(c["knots"] for c in fields["channels"]) + choice_rows(fields) + 1


def output_columns(fields: Any) -> int:
    """Logits that it writes: of the value, then of each part of an action."""
    return VALUE_LEVELS + choice_rows(fields)


def world_columns(fields: Any) -> int:
    """Logits of the observation that follows."""
    return WORLD_LEVELS * len(fields["channels"])


def hidden_width(bodies: Any) -> int:
    """Numbers of the vector that `predict` reads; 0 without that graph. `bodies`: as described."""
    return next((body["hidden"] for body in bodies.values()), 0)


class BodyCodec:
    """`fields`: a codec's; `returns`: the range of returns that the value stands for; `weights`:
    the part of the graph's input that is the body's, `columns` that of its output."""

    def __init__(self, fields: dict[str, Any], returns: list[float], weights: np.ndarray,
                 columns: slice):
        channels = fields["channels"]
        self._returns = np.linspace(returns[0], returns[1], VALUE_LEVELS)
        self.form, self.shape = fields["form"], tuple(fields["shape"])
        self.actions: list[list[float]] = fields["actions"]
        self._borders = borders(channels)
        knots = {n: knot_rows(n) for n in {c["knots"] for c in channels}}
        self._rows = [knots[c["knots"]] for c in channels]
        self._choice_rows = [list(map(bytes, np.eye(len(part), dtype=np.float32)))
                             for part in self.actions]
        self._no_choices = bytes(4 * choice_rows(fields))
        self._heads = _runs(VALUE_LEVELS, [len(part) for part in self.actions])
        self.weights, self._bytes, self.columns = weights, weights.data.cast("B"), columns
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self.choices: np.ndarray | None = None   # that the last tick has chosen
        self.numbers: list[float] = []           # of the last observation
        self.places: list[int] = []              # of its numbers
        self.clipped = self.absent = 0           # numbers beyond their range; not finite

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {"choices": None if self.choices is None else self.choices.tolist(),
                "clipped": self.clipped, "absent": self.absent}

    def load(self, fields: dict[str, Any], shape: tuple[int, ...], has_chosen: bool) -> None:
        """`shape`: of the last tick's logits, (0,) if there was none. Raises KeyError, TypeError or
        ValueError, and changes nothing, unless all is right."""
        choices, counts = fields["choices"], [fields["clipped"], fields["absent"]]
        is_right = not has_chosen if choices is None else len(choices) == len(self.actions) and all(
            type(choice) is int and 0 <= choice < len(part)
            for choice, part in zip(choices, self.actions))
        if not is_right or shape not in ((0,), (self.columns.stop - self.columns.start,)) or any(
                type(count) is not int for count in counts):
            raise ValueError("no state of this body")
        self.choices = None if choices is None else np.array(choices)
        self.clipped, self.absent = counts

    def read(self, observation: Any) -> None:
        """Fills `weights`. Raises ValueError unless it has one number for each channel."""
        numbers = self.numbers = self.checked(observation)
        places = list(map(bisect_right, self._borders, numbers))
        if BELOW in places or ABOVE in places:   # or not finite
            self._count(numbers, places)
        self.places = places
        rows = list(map(getitem, self._rows, places))
        if self.choices is None:
            rows += self._no_choices, ONE
        else:
            rows += map(getitem, self._choice_rows, self.choices.tolist())
            rows.append(ZERO)
        self._bytes[:] = b"".join(rows)

    def checked(self, observation: Any) -> list[float]:
        """Its numbers. Raises ValueError unless it has one for each channel."""
        try:
            array = np.asarray(observation, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"is {observation!r:.60}: give {len(self._borders)} numbers") from None
        numbers: list[float] = array.ravel().tolist()
        if len(numbers) != len(self._borders):
            raise ValueError(f"has shape {array.shape}: give {len(self._borders)} numbers")
        return numbers

    def _count(self, numbers: list[float], places: list[int]) -> None:
        """What is beyond its range; gives numbers that are not finite their place."""
        for i, number in enumerate(numbers):
            if not math.isfinite(number):
                places[i] = ABSENT
        self.absent += places.count(ABSENT)
        self.clipped += places.count(BELOW) + places.count(ABOVE)

    def choose(self, logits: np.ndarray, rng: np.random.Generator | None = None) -> Any:
        """The likeliest action of (columns,) logits, as the body takes it; with `rng` one that the
        trainer would draw."""
        if rng:
            logits = logits.astype(np.float64)
            logits[VALUE_LEVELS:] += rng.gumbel(size=len(logits) - VALUE_LEVELS)
        parts = [logits[start:stop].reshape(shape).argmax(1) for start, stop, shape in self._heads]
        self.choices = parts[0] if len(parts) == 1 else np.concatenate(parts)
        numbers = [part[choice] for part, choice in zip(self.actions, self.choices.tolist())]
        if self.form == "index":
            return int(numbers[0])
        return np.array(numbers, np.int64 if self.form == "indices" else np.float32
                        ).reshape(self.shape)

    def take(self, action: Any) -> None:
        """The body did this in place of what `choose` said: the nearest choices are the last."""
        numbers = np.asarray(action, np.float64).ravel().tolist()
        self.choices = np.array([min(range(len(part)), key=lambda i: abs(part[i] - number))
                                 for part, number in zip(self.actions, numbers, strict=True)])

    def chosen(self) -> np.ndarray:
        """What the last tick has chosen, as the graphs read it: 1 for each choice, float32."""
        assert self.choices is not None
        rows = [part[choice] for part, choice in zip(self._choice_rows, self.choices.tolist())]
        return np.frombuffer(b"".join(rows), np.float32)

    def surprise(self, logits: np.ndarray) -> float:
        """Of the last observation, in nats for each channel that is not absent; NaN if all are:
        the cross-entropy of predicted (channels * WORLD_LEVELS,) logits that training lowers."""
        z = logits.reshape(-1, WORLD_LEVELS).astype(np.float64)
        z -= z.max(1, keepdims=True)
        nats = np.log(np.exp(z).sum(1, keepdims=True)) - z
        places = np.array(self.places)
        at = np.clip(places - 1, 0, LEVELS - 1) * ((WORLD_LEVELS - 1) / (LEVELS - 1))
        below, row = np.minimum(at.astype(np.int64), WORLD_LEVELS - 2), np.arange(len(at))
        share, is_here = at - below, places != ABSENT
        each = (1 - share) * nats[row, below] + share * nats[row, below + 1]
        return float(each[is_here].mean()) if is_here.any() else math.nan

    def value(self, logits: np.ndarray) -> float:
        """The return that the brain expects from here."""
        z = logits[:VALUE_LEVELS].astype(np.float64)
        p = np.exp(z - z.max())
        return float(p / p.sum() @ self._returns)


def borders(channels: list[dict[str, Any]]) -> list[list[float]]:
    """For each channel the least numbers of all places but the first, so that bisection gives a
    number's place: BELOW the range, a level + 1, or ABOVE it. Found by the trainer's formula."""
    kinds = list(dict.fromkeys((c["low"], c["high"], c["is_log"]) for c in channels))
    low, high, is_log = (np.array(column)[:, None] for column in zip(*kinds))
    shape = len(kinds), ABOVE
    ends = np.array([[-math.inf], [math.inf]]).view(np.int64)
    # Where the place is not reached yet, and where at the latest.
    least, most = (np.broadcast_to(_in_order(end), shape) for end in ends)
    for _ in range(64):
        middle = (least >> 1) + (most >> 1) + (least & most & 1)
        numbers = _in_order(middle).view(np.float64)
        is_there = _places(numbers, low, high, is_log) > np.arange(ABOVE)
        least, most = np.where(is_there, least, middle), np.where(is_there, middle, most)
    rows = dict(zip(kinds, _in_order(most).view(np.float64).tolist()))
    return [rows[c["low"], c["high"], c["is_log"]] for c in channels]


def _in_order(bits: np.ndarray) -> np.ndarray:
    """Of float64 numbers: integers in the order of the numbers; and back."""
    return np.where(bits < 0, np.int64(-2 ** 63) - bits, bits)


def _places(numbers: np.ndarray, low: np.ndarray, high: np.ndarray,
            is_log: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):   # of infinite numbers
        u = 2 * (numbers - low) / (high - low) - 1
        u = np.where(is_log, np.sign(u) * np.log1p(MU * np.abs(u)) / math.log1p(MU), u)
    inside = np.clip(u, -1, 1)
    level = np.rint((inside + 1) * ((LEVELS - 1) / 2)).astype(np.int64)
    return level + 1 + (inside < u) - (inside > u)


def knot_rows(knots: int) -> list[bytes]:
    """For each place the weights of a channel's knots, float32; none where it is absent."""
    at = np.clip(np.arange(ABOVE + 1) - 1, 0, LEVELS - 1) * ((knots - 1) / (LEVELS - 1))
    below = np.minimum(at.astype(np.int64), knots - 2)
    rows, places = np.zeros((ABSENT + 1, knots), np.float32), np.arange(ABOVE + 1)
    rows[places, below] = 1 - (at - below)
    rows[places, below + 1] = at - below
    return list(map(bytes, rows))


def _runs(start: int, sizes: list[int]) -> list[tuple[int, int, tuple[int, int]]]:
    """Start, end and shape of the columns of neighbours of one size."""
    runs = []
    for size, group in itertools.groupby(sizes):
        count = len(list(group))
        runs.append((start, start + size * count, (count, size)))
        start += size * count
    return runs
