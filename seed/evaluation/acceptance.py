"""Whether an adapted brain may replace the one before: what it was to learn is better, and nothing
that it knew is lost, each by more than the chance of the held-out sample explains.

Accuracies are of the same items before and after, so chance is that of the mean of their
differences. What a brain knows so well that no result could prove a gain is only not to be lost.
"""
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seed.body.results import Acting, ChoiceAccuracy, shown
from seed.errors import ConfigError
from seed.evaluation.exact_match import Score
from seed.evaluation.figure import MAX_LOSS, MIN_GAIN, Z, Figure, half_interval, has_lost
from seed.task_names import short


class Limits(NamedTuple):
    """What a brain has to gain and may lose, in points of accuracy or percent of a return.
    `min_gain` 0: it need not be better."""
    min_gain: float = 100 * MIN_GAIN   # of what it was to learn
    max_loss: float = 100 * MAX_LOSS   # of all else


class Change(NamedTuple):
    """Of a task: which of its held-out items are right before and after, and how many are with the
    best answer that ignores the prompt."""
    task: str
    before: np.ndarray   # (n,) bool
    after: np.ndarray    # (n,) bool
    chance: float

    @property
    def figure(self) -> Figure:
        difference = self.after.astype(float) - self.before
        return Figure(self.task, "accuracy", float(self.before.mean()), float(self.after.mean()),
                      half_interval(difference))

    @property
    def is_above_chance(self) -> bool:
        """Of the accuracy after, the whole 95 % interval."""
        score = Score(self.task, 1, int(self.after.sum()), len(self.after), self.chance)
        return score.interval[0] > self.chance

    def has_gained(self, limits: Limits) -> bool:
        return has_gained(self.figure, limits) and self.is_above_chance

    @property
    def best(self) -> "Change":
        """If all were right after."""
        return self._replace(after=np.ones_like(self.before))


def changes(before: Sequence[Score], after: Sequence[Score]) -> list[Change]:
    """One a task, of all its levels."""
    rows = []
    for task in dict.fromkeys(score.task for score in before):
        then, now = ([score for score in scores if score.task == task]
                     for scores in (before, after))
        first, second = (np.array([hit for score in scores for hit in score.hits])
                         for scores in (then, now))
        chance = sum(score.chance * score.count for score in then) / len(first)
        rows.append(Change(task, first, second, chance))
    return rows


def check_provable(before: Sequence[Score], new: str, limits: Limits) -> None:
    """Raises ConfigError if no result on the held-out examples of the task `new` could prove that
    it is learnt."""
    change, = changes([score for score in before if score.task == new], before)
    n = len(change.before)
    if limits.min_gain and not change.best.is_above_chance:
        raise ConfigError(
            f"{new}: {n} held-out example{'s' * (n != 1)} cannot tell if the rule is learnt, as "
            f"one constant answer is right in {100 * change.chance:.0f} %: give more examples, or "
            f"--min-gain 0 to learn it unseen")


def refusal(before: Sequence[Score], after: Sequence[Score], new: str, limits: Limits,
            acting: tuple[Acting, Acting] = (Acting(), Acting())) -> str:
    """Why the adapted brain may not replace the one before; empty if it may. `new`: the task that
    it was to learn; `acting`: in its bodies, before and after."""
    rows = changes(before, after)
    for change in rows:
        must_gain = change.task == new and limits.min_gain and change.best.has_gained(limits)
        if must_gain and not change.has_gained(limits):
            return _no_gain(change, limits)
    for figure in [*(change.figure for change in rows), *return_figures(*acting)]:
        if has_lost(figure, limits.max_loss / 100):
            return _loss(figure, limits)
    return ""


def has_gained(figure: Figure, limits: Limits) -> bool:
    """By as much as is asked for, and by more than chance."""
    gain = figure.after - figure.before
    return gain >= limits.min_gain / 100 * figure.scale and gain > figure.margin


def body_refusal(new: Figure, others: Sequence[Figure], limits: Limits) -> str:
    """As `refusal`. `new`: of the body that has changed; what is right almost always already is
    only not to be lost."""
    room = 1 - new.before if new.unit == "accuracy" else np.inf
    if limits.min_gain and room > max(limits.min_gain / 100, new.margin):
        if not has_gained(new, limits):
            return (f"{new.name} is not learnt: its {new.unit} is {shown(new.before)} before and "
                    f"{shown(new.after)} after, where {limits.min_gain:g} % more are needed, and "
                    f"chance explains {shown(new.margin)}")
    else:
        others = [new, *others]
    return next((_loss(row, limits) for row in others if has_lost(row, limits.max_loss / 100)), "")


def choice_figure(before: ChoiceAccuracy, after: ChoiceAccuracy) -> Figure:
    """How often a brain chooses as recorded, each time with chance of its own."""
    variances = [row.accuracy * (1 - row.accuracy) / row.ticks for row in (before, after)]
    return Figure(after.body, "accuracy", before.accuracy, after.accuracy,
                  Z * math.sqrt(sum(variances)))


def return_figures(before: Acting, after: Acting) -> list[Figure]:
    return [Figure(then.body, "return", then.mean, now.mean,
                   max(then.half_interval, now.half_interval))
            for then, now in zip(before.returns, after.returns, strict=True)]


def _no_gain(change: Change, limits: Limits) -> str:
    figure, n = change.figure, len(change.before)
    gain = 100 * (figure.after - figure.before)
    plural = "s" * (limits.min_gain != 1)
    why = (f"it needs {limits.min_gain:g} point{plural} more" if gain < limits.min_gain else
           f"chance explains {100 * figure.margin:.1f} points" if gain <= 100 * figure.margin else
           f"one constant answer is right in {100 * change.chance:.1f} %")
    return (f"{short(change.task)} is not learnt: {_before_and_after(figure)} of {n} held-out "
            f"examples, and {why}")


def _loss(figure: Figure, limits: Limits) -> str:
    """A sentence about what was lost."""
    if figure.unit == "accuracy":
        return (f"{short(figure.name)} is lost: {_before_and_after(figure)} of its held-out items; "
                f"{limits.max_loss:g} points may go, and {100 * figure.margin:.1f} by chance")
    return (f"{figure.name} is lost: its {figure.unit} falls from {shown(figure.before)} to "
            f"{shown(figure.after)}; {limits.max_loss:g} % may go, and {shown(figure.margin)} by "
            f"chance")


def _before_and_after(figure: Figure) -> str:
    return f"{100 * figure.before:.1f} % before, {100 * figure.after:.1f} % after"
