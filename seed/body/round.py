"""What is learned from a round of play: advantages of the actions, and the targets of every head.

The policy's target moves the probabilities that played towards the actions that went better than
expected: pi + ETA z (taken - pi), z the advantage in standard deviations. Its cross-entropy has the
gradient of REINFORCE, with a pull to the policy that played.
"""
from typing import NamedTuple

import numpy as np

from seed.body.codec import LEVELS, Codec
from seed.body.novelty import Novelty
from seed.body.spaces import BINS
from seed.body.value_range import ValueRange
from seed.wavecore.layout import WORLD_LEVELS

LAMBDA = 0.9          # of generalized advantage estimation (Schulman et al. 1506.02438)
ETA = 1.0
MAX_DEVIATION = 3.0   # of an advantage, in standard deviations
MIN_PROBABILITY = 0.01 / BINS   # of each choice in a target, so that play still tries it
RECORDED_SHARE = 0.01    # of a part's choices together, if others made them: none is tried there
FLOOR = 0.02          # least standard deviation of advantages, as a fraction of the value's range


class Played(NamedTuple):
    """A round: n rows for T ticks, and the observation after the last."""
    tokens: np.ndarray       # (T, n, slots)
    weights: np.ndarray      # (T, n, slots)
    levels: np.ndarray       # (T+1, n, channels), of what was seen
    choices: np.ndarray      # (T, n, parts)
    policy: np.ndarray       # (T, n, policy_width), probabilities that played
    values: np.ndarray       # (T, n), expected returns
    rewards: np.ndarray      # (T, n)
    terminated: np.ndarray   # (T, n) bool
    truncated: np.ndarray    # (T, n) bool
    state: list[np.ndarray]  # before the first tick

    @classmethod
    def empty(cls, codec: Codec, n_ticks: int, rows: int, state: list[np.ndarray]) -> "Played":
        """To be filled tick by tick."""
        body, shape = codec.body, (n_ticks, rows)
        return cls(np.zeros((*shape, body.slots), np.int32),
                   np.zeros((*shape, body.slots), np.float32),
                   np.zeros((n_ticks + 1, rows, body.n_observations), np.int64),
                   np.zeros((*shape, len(body.choices)), np.int64),
                   np.zeros((*shape, body.control.policy_width)), np.zeros(shape),
                   np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool), state)


class Targets(NamedTuple):
    """Of a HeadTable for n rows, as wavecore.ticks.TickTargets."""
    weights: np.ndarray
    targets: np.ndarray
    fractions: np.ndarray
    policy: np.ndarray


class Examples(NamedTuple):
    """What an optimizer step over a round takes: n rows for T ticks, each array (T, n, ...)."""
    tokens: np.ndarray
    weights: np.ndarray
    choices: np.ndarray
    control: Targets         # of the value and the action
    world: Targets           # of the next observation
    state: list[np.ndarray]  # before the first tick


class Round(NamedTuple):
    """A body's round, ready to be learned from."""
    name: str
    number: int
    played: Played | Examples

    @property
    def n_ticks(self) -> int:
        return self.played.choices[..., 0].size


def advantages(played: Played, discount: float) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns (T, n). Beyond a cut the last estimate stands."""
    n_ticks, n = played.rewards.shape
    advantage, running = np.zeros((n_ticks, n)), np.zeros(n)
    for t in reversed(range(n_ticks)):
        value = played.values[t]
        following = played.values[t + 1] if t + 1 < n_ticks else value
        following = np.where(played.terminated[t], 0.0,
                             np.where(played.truncated[t], value, following))
        delta = played.rewards[t] + discount * following - value
        ends = played.terminated[t] | played.truncated[t]
        running = delta + discount * LAMBDA * np.where(ends, 0.0, running)
        advantage[t] = running
    return advantage, advantage + played.values


def with_novelty(played: Played, novelty: Novelty, weight: float,
                 value_range: ValueRange) -> Played:
    """A bonus added to the reward of each tick for the observation that followed in its episode,
    up to the least standard deviation of advantages: so it decides where nothing is won, and counts
    the less the more is."""
    ends = played.terminated | played.truncated
    scale = weight * FLOOR * (value_range.high - value_range.low)
    new = np.where(ends, 0.0, novelty.bonus(played.levels[1:]))
    return played._replace(rewards=played.rewards + scale * new)


def control_targets(codec: Codec, played: Played, value_range: ValueRange, discount: float,
                    eta: float = ETA, only_better: bool = False) -> Targets:
    """Of the value and the action, each (T, n, ...). With `eta` 0 the policy is to stay; with
    `only_better` it does not move away from choices that went worse: again and again over the same
    choices, which others made, that would have no end."""
    advantage, returns = advantages(played, discount)
    at, share = value_range.two_hot(returns)
    floor = FLOOR * (value_range.high - value_range.low)
    z = np.clip((advantage - advantage.mean()) / max(advantage.std(), floor),
                0.0 if only_better else -MAX_DEVIATION, MAX_DEVIATION)
    policy = played.policy.copy()
    heads = [head for head in codec.body.control.heads if not head.is_scalar]
    for i, head in enumerate(heads):
        columns = slice(head.place, head.place + head.width)
        taken = np.eye(head.width)[played.choices[..., i]]
        moved = policy[..., columns] + eta * z[..., None] * (taken - policy[..., columns])
        shared = RECORDED_SHARE if only_better else MIN_PROBABILITY * head.width
        policy[..., columns] = (1 - shared) * moved + shared / head.width
    n_heads = len(codec.body.control.heads)
    weights = np.full((*z.shape, n_heads), 0.5 / z.size, np.float32)
    return Targets(weights, at[..., None], share[..., None], policy.astype(np.float32))


def world_targets(codec: Codec, played: Played, weight: float) -> Targets:
    """Of the next observation, each (T, n, ...); there is none where an episode ended."""
    return next_observation_targets(codec, played.levels[1:],
                                    ~(played.terminated | played.truncated), weight)


def next_observation_targets(codec: Codec, levels: np.ndarray, counts: np.ndarray,
                             weight: float) -> Targets:
    """Of the next observations' levels (T, n, channels), where they count (T, n)."""
    x = levels * ((WORLD_LEVELS - 1) / (LEVELS - 1))
    at = np.minimum(x.astype(np.int32), WORLD_LEVELS - 2)
    weights = counts[..., None] * np.full(
        x.shape[-1], weight / max(1, counts.sum() * x.shape[-1]), np.float32)
    return Targets(weights.astype(np.float32), at, (x - at).astype(np.float32),
                   np.zeros((*x.shape[:2], 1), np.float32))
