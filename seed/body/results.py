"""How well a brain acts: returns of episodes, and how often it chooses as recorded."""
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seed.body.world import Episode
from seed.terminal_text import one_line


class Returns(NamedTuple):
    """Of some episodes of a body."""
    body: str
    episodes: int
    mean: float
    half_interval: float         # of the 95 % interval of the mean
    least: float
    success: float | None        # fraction of the episodes; None if the body does not say

    @classmethod
    def of(cls, body: str, episodes: Sequence[Episode]) -> "Returns":
        totals = np.array([episode.total for episode in episodes])
        n, successes = len(totals), [e.is_success for e in episodes if e.is_success is not None]
        spread = float(totals.std(ddof=1)) if n > 1 else 0.0
        return cls(body, n, float(totals.mean()), 1.96 * spread / math.sqrt(n),
                   float(totals.min()),
                   sum(successes) / len(successes) if successes else None)

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class ChoiceAccuracy(NamedTuple):
    """How often the likeliest choice is the recorded one, in episodes that are held out."""
    body: str
    data: str       # directory of the episodes
    accuracy: float
    ticks: int

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Acting(NamedTuple):
    """The results of all bodies of a brain."""
    returns: Sequence[Returns] = ()
    choices: Sequence[ChoiceAccuracy] = ()

    @classmethod
    def of(cls, rows: Sequence[Returns | ChoiceAccuracy]) -> "Acting":
        return cls([row for row in rows if isinstance(row, Returns)],
                   [row for row in rows if isinstance(row, ChoiceAccuracy)])

    def to_dict(self) -> dict[str, Any]:
        return {name: [row.to_dict() for row in rows] for name, rows in self._asdict().items()}


def shown(number: float) -> str:
    """A return with a decimal, or three where it is small: some are between 0 and 1."""
    return f"{number:.{1 if abs(number) >= 10 else 3}f}"


def acting_comparison(before: Acting, after: Acting, in_context: float | None = None) -> str:
    """One body a line: its return, and how often it chooses as recorded, before and after; then
    what the brain before gets in the first body by its memory alone."""
    lines = [f"{'body':<24}{'what':<24}{'before':>10}{'after':>10}"]
    for old, new in zip(before.returns, after.returns, strict=True):
        lines.append(f"{one_line(new.body):<24}{'return':<24}{shown(old.mean):>10}"
                     f"{shown(new.mean):>10}")
    for then, now in zip(before.choices, after.choices, strict=True):
        lines.append(f"{one_line(now.body):<24}{'choices as recorded %':<24}"
                     f"{100 * then.accuracy:>10.1f}{100 * now.accuracy:>10.1f}")
    if in_context is not None:
        before_mean, after_mean = (acting.returns[0].mean for acting in (before, after))
        lines.append(f"{one_line(before.returns[0].body)}: {shown(before_mean)} becomes "
                     f"{shown(in_context)} in context, by memory alone, and {shown(after_mean)} in "
                     f"weights")
    return "\n".join(lines)


def choices_table(rows: Sequence[ChoiceAccuracy]) -> str:
    """One directory of episodes a line."""
    lines = [f"{'body':<24}{'choices as recorded %':>22}{'held-out ticks':>16}  episodes"]
    for row in rows:
        lines.append(f"{one_line(row.body):<24}{100 * row.accuracy:>22.1f}{row.ticks:>16}  "
                     f"{one_line(row.data)}")
    return "\n".join(lines)


def returns_table(rows: Sequence[Returns]) -> str:
    """One body a line."""
    lines = [f"{'body':<20}{'return':>9}{'95 % interval':>20}{'least':>9}{'success %':>11}"
             f"{'episodes':>10}"]
    for row in rows:
        low, high = row.mean - row.half_interval, row.mean + row.half_interval
        success = "" if row.success is None else f"{100 * row.success:.0f}"
        lines.append(f"{one_line(row.body):<20}{shown(row.mean):>9}"
                     f"{f'{shown(low)} to {shown(high)}':>20}{shown(row.least):>9}{success:>11}"
                     f"{row.episodes:>10}")
    return "\n".join(lines)
