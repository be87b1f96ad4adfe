"""The gate between a candidate brain and the robot: what was learnt must be better on what was
lived, and what was known must not be lost.

Nobody can let a candidate act on the robot to find that out. So a model of the body, of another
seed than the one that it practised in, is fitted to the newest episodes, and both brains act in it
from the same recorded ticks. The gain has to be larger than what the model is wrong by on the
parent, whose own rewards are recorded; where a candidate may be as good, that must not be much. A
model that cannot predict the rewards that were held out proves nothing: then the candidate is
refused.
"""
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.body.closed_loop import act
from seed.body.dynamics import Dynamics, Transitions
from seed.body.episodes import EpisodeFolder
from seed.body.model_play import EPISODE_TICKS, FIRST_TICK_FRACTION, ModelOpener
from seed.body.open_body import opener_of_data
from seed.body.player import Player
from seed.body.stored import Stored, load
from seed.evaluation import TrainedBrain
from seed.live.brains import Figure

MAX_LOSS = 0.03           # of what was known: a fraction of the return, or points of accuracy / 100
MIN_WHOLE = 0.5           # of the recorded ticks: that begin a whole piece of so many ticks
MIN_OWN_PIECES = 10       # without a common tick, of the parent alone; or all count
MIN_EXPLAINED = 0.02      # of the variance of held-out rewards, by a model that counts
MAX_BIAS = 0.1            # of the parent's reward: that a model is wrong by that shows no loss
MIN_GAIN = 0.01           # of accuracy, by which a curriculum is better
PAIRS, ROWS = 1024, 64    # short episodes in the model, of each brain; side by side
Z = 1.96                  # of a 95 % interval
GATE_SEED = 1_000_003     # added to the seed of the training: another model
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
    if explained < MIN_EXPLAINED:
        return Verdict(figures, f"{data.name} does not tell what is rewarded: a model of it "
                                f"explains {100 * max(0.0, explained):.1f} % of the rewards that "
                                f"it has not seen", digest)
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


def has_lost(row: Figure, max_loss: float = MAX_LOSS) -> bool:
    """Also where a number is none. What the model is wrong by is no reason to allow more."""
    allowed = max_loss if row.unit == "accuracy" else max_loss * abs(row.before) + row.margin
    return not row.before - row.after <= allowed


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


def in_model(parent: TrainedBrain, candidate: TrainedBrain, body: str,
             data: Path, own_ticks: int = 0) -> tuple[float, str, Figure]:
    """How much of the held-out rewards a model explains, the digest of its data, and the mean
    rewards of both brains in it, in short episodes that begin at the same ticks."""
    facts = parent.bodies[body]
    stored = load(EpisodeFolder(data), facts.codec, parent.profile.body.discount)
    ticks = Transitions.of(EpisodeFolder(data), facts.codec)
    learnt, held_out = stored.split()
    dynamics = Dynamics(ticks.at(learnt), facts.codec, parent.profile.train.seed + GATE_SEED,
                        stored.digest)
    dynamics.fit(bool)
    explained = explained_variance(dynamics, ticks.at(held_out))
    n_ticks = horizon(stored)
    means = [_rewards(brain, body, dynamics, stored, n_ticks) for brain in (parent, candidate)]
    difference = means[1] - means[0]
    # How wrong the model is about the parent, which has acted in what was recorded.
    recorded, chance = recorded_reward(stored, n_ticks, own_ticks)
    bias, chance = abs(means[0].mean() - recorded), math.hypot(chance, half_interval(means[0]))
    return explained, stored.digest, Figure(
        body, "reward in the model", float(means[0].mean()), float(means[1].mean()),
        half_interval(difference), float(bias), chance)


def half_interval(numbers: np.ndarray, n: float = 0.0) -> float:
    """Half of the 95 % interval of their mean; `n`: of how many independent ones, by default all.
    """
    return float(Z * numbers.std() / math.sqrt(n or len(numbers)))


def _rewards(brain: TrainedBrain, body: str, dynamics: Dynamics, stored: Stored,
             n_ticks: int) -> np.ndarray:
    """(PAIRS,) sums of the rewards of episodes of at most `n_ticks`, acted greedily; each begins as
    that of any other brain."""
    player = Player(brain.model, brain.bodies[body].codec, ROWS)
    opener = ModelOpener(dynamics, min(0.0, float(stored.returns.min())), n_ticks)
    episodes: Any = act(player, opener, GATE_SEED, PAIRS)
    return np.array([episode.total for episode in episodes])


def pieces(stored: Stored, n_ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) Of the pieces of at most `n_ticks` that begin at each recorded tick: their last ticks,
    and whether they are whole: nothing but the body's own end is nearer."""
    last = np.flatnonzero(stored.ends)[np.cumsum(stored.begins) - 1]   # of each tick's episode
    whole = np.arange(len(last)) + n_ticks - 1
    stop = np.minimum(whole, last)
    return stop, (stop == whole) | stored.terminated[last]


def horizon(stored: Stored) -> int:
    """Ticks of an episode in the model: so many that what is compared with it was recorded. A clock
    that cuts the body's episodes is not in the model."""
    return next((n for n in range(EPISODE_TICKS, 1, -1)
                 if pieces(stored, n)[1].mean() >= MIN_WHOLE), 1)


def recorded_reward(stored: Stored, n_ticks: int, own_ticks: int = 0) -> tuple[float, float]:
    """The mean sum of rewards in recorded pieces that are as long as an episode in the model, and
    begin where those do: among the last `own_ticks`, if enough are, as another brain acted before;
    and half of its 95 % interval, for which pieces with a common tick count as one."""
    stop, is_whole = pieces(stored, n_ticks)
    is_own = is_whole & (np.arange(len(is_whole)) >= len(is_whole) - own_ticks)
    is_whole = is_own if is_own.sum() >= MIN_OWN_PIECES * n_ticks else is_whole
    totals = np.cumsum(stored.rewards, dtype=np.float64)
    sums = totals[stop] - totals + stored.rewards
    first = is_whole & stored.begins
    mean = (sums[is_whole].mean() if not first.any() else
            FIRST_TICK_FRACTION * sums[first].mean()
            + (1 - FIRST_TICK_FRACTION) * sums[is_whole].mean())
    return float(mean), half_interval(sums[is_whole], max(1.0, is_whole.sum() / n_ticks))


def explained_variance(dynamics: Dynamics, ticks: Transitions) -> float:
    """Of rewards that were not fitted, at most 1; of ends where each reward is the same, as then
    they alone tell brains apart; 1 if neither varies."""
    rewards, ends = dynamics.outcome(ticks.observations, ticks.actions, ticks.following)
    for seen, predicted in ((ticks.rewards, rewards), (ticks.terminated, ends)):
        if seen.min() < seen.max():
            seen = seen.astype(float)
            return float(1 - np.square(seen - predicted).mean() / seen.var())
    return 1.0
