"""Two brains in a model of a body, fitted to recorded episodes: how much reward each gets there.

Nobody can let a candidate act on the robot to find that out. The model is of another seed than the
one that a candidate has practised in, and both brains act in it from the same recorded ticks.
"""
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seed.body.closed_loop import act
from seed.body.dynamics import Dynamics, Transitions
from seed.body.episodes import EpisodeFolder
from seed.body.model_play import EPISODE_TICKS, FIRST_TICK_FRACTION, ModelOpener
from seed.body.player import Player
from seed.body.stored import Stored, load
from seed.evaluation.figure import Figure, half_interval
from seed.evaluation.trained_brain import TrainedBrain

MIN_WHOLE = 0.5           # of the recorded ticks: that begin a whole piece of so many ticks
MIN_OWN_PIECES = 10       # without a common tick, of the parent alone; or all count
MIN_EXPLAINED = 0.02      # of the variance of held-out rewards, by a model that counts
PAIRS, ROWS = 1024, 64    # short episodes in the model, of each brain; side by side
GATE_SEED = 1_000_003     # added to the seed of the training: another model


def in_model(parent: TrainedBrain, candidate: TrainedBrain, body: str,
             data: Path, own_ticks: int = 0,
             sizes: Mapping[str, int] | None = None) -> tuple[float, str, Figure]:
    """How much of the held-out rewards a model explains, the digest of its data, and the mean
    rewards of both brains in it, in short episodes that begin at the same ticks. `sizes`: of the
    files of `data`, if they have grown since."""
    facts = parent.bodies[body]
    stored = load(EpisodeFolder(data, sizes), facts.codec, parent.profile.body.discount)
    ticks = Transitions.of(EpisodeFolder(data, stored.sizes), facts.codec)
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


def unexplained(explained: float, data: Path) -> str:
    """Why a model proves nothing; empty if it counts."""
    if explained >= MIN_EXPLAINED:
        return ""
    return (f"{data.name} does not tell what is rewarded: a model of it explains "
            f"{100 * max(0.0, explained):.1f} % of the rewards that it has not seen")
