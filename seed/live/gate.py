"""The gate between a candidate brain and the robot: what was learnt must be better on what was
lived, and what was known must not be lost.

Both brains act in a model of the newest episodes (seed/evaluation/in_model.py). The gain has to be
larger than what the model is wrong by on the parent, whose own rewards are recorded; where a
candidate may be as good, that must not be much. A model that cannot predict the rewards that were
held out proves nothing: then the candidate is refused.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seed.body.open_body import opener_of_data
from seed.evaluation import TrainedBrain
from seed.evaluation.figure import MAX_LOSS, MIN_GAIN, Figure, has_lost
from seed.evaluation.in_model import GATE_SEED, in_model, unexplained

MAX_BIAS = 0.1            # of the parent's reward: that a model is wrong by that shows no loss
LIVED, ANYTHING, NOTHING = "lived", "anything", "nothing"


class Verdict(NamedTuple):
    """`reason` is empty if the candidate passes. `data`: digest of the episodes, if they were
    looked at."""
    figures: Sequence[Figure]
    reason: str
    data: str = ""


def judge(parent: TrainedBrain, candidate: TrainedBrain, body: str, data: Path,
          max_loss: float = MAX_LOSS, better_in: str = LIVED, own_ticks: int = 0) -> Verdict:
    """`body`: that was lived in, of which `data` has the newest episodes; in the last `own_ticks`
    the parent acted (0: in all). `better_in`: LIVED, ANYTHING or NOTHING, where the candidate has
    to be better. Raises ConfigError, BodyError."""
    if body not in candidate.bodies:
        return Verdict([], f"it does not know {body}")
    figures = [*curriculum(parent, candidate), *other_bodies(parent, candidate, body)]
    reason = loss_in(figures, max_loss)
    if reason:
        return Verdict(figures, reason)
    explained, digest, figure = in_model(parent, candidate, body, data, own_ticks)
    figures.append(figure)
    reason = unexplained(explained, data)
    if reason:
        return Verdict(figures, reason, digest)
    if better_in != LIVED:
        reason = loss_in(figures, max_loss) or doubt(figure)
        if not reason and better_in == ANYTHING and not any(map(has_gained, figures)):
            reason = "nothing is better than before"
        return Verdict(figures, reason, digest)
    if not has_gained(figure):
        return Verdict(figures, f"{body}: it is not better: {figure.before:.4g} and "
                                f"{figure.after:.4g} {figure.unit}, +- "
                                f"{figure.margin + figure.bias:.2g}", digest)
    return Verdict(figures, "", digest)


def loss_in(figures: Sequence[Figure], max_loss: float) -> str:
    """What was lost, in one line; empty if nothing was."""
    for row in figures:
        if has_lost(row, max_loss):
            return (f"{row.name}: {row.unit} falls from {row.before:.4g} to {row.after:.4g}, more "
                    f"than {100 * max_loss:g} %")
    return ""


def doubt(row: Figure) -> str:
    """Why the model cannot tell that nothing is lost; empty if it can: it is about right on the
    parent, or what it is wrong by is no more than what the candidate gains."""
    if row.bias - row.chance <= MAX_BIAS * abs(row.before) + row.margin + max(
            0.0, row.after - row.before):
        return ""
    return (f"{row.name}: the model is wrong by {row.bias:.2g} about the brain before, which gets "
            f"{row.before:.4g} in it: it cannot tell what is lost; let that brain live longer")


def has_gained(row: Figure) -> bool:
    return row.after - row.before > max(row.margin + row.bias,
                                        MIN_GAIN if row.unit == "accuracy" else 0.0)


def is_level(figures: Sequence[Figure]) -> bool:
    """Whether a training on the whole has neither gained nor lost: then a larger brain may."""
    return bool(figures) and not loss_in(figures, MAX_LOSS) and not any(
        has_gained(row) or doubt(row) for row in figures)


def is_same(parent: TrainedBrain, candidate: TrainedBrain, body: str = "") -> bool:
    """Whether the layers, and the tables of `body`, have the same bits in both."""
    def counts(key: str) -> bool:
        return not key.startswith("bodies.") or key.startswith(f"bodies.{body}.")
    return all(key in candidate.params and np.array_equal(array, candidate.params[key])
               for key, array in parent.params.items() if counts(key))


def curriculum(parent: TrainedBrain, candidate: TrainedBrain) -> list[Figure]:
    """Of the curriculum's holdout, if the brain has learnt it and something of that has changed."""
    if parent.profile.body.is_alone or is_same(parent, candidate):
        return []
    items = parent.holdout()
    before, after = (float(np.mean([score.accuracy for score in brain.scores(items)]))
                     for brain in (parent, candidate))
    return [Figure("curriculum", "accuracy", before, after)]


def other_bodies(parent: TrainedBrain, candidate: TrainedBrain, body: str) -> list[Figure]:
    """Of those that can be opened without a file, unless all their bits are the same."""
    rows = []
    for name in parent.bodies:
        if name == body or is_same(parent, candidate, name):
            continue
        if not opener_of_data(name, parent.bodies[name].codec, parent.profile.body):
            continue
        before, after = (brain.returns(name, 100, GATE_SEED) for brain in (parent, candidate))
        rows.append(Figure(name, "return", before.mean, after.mean,
                           max(before.half_interval, after.half_interval)))
    return rows
