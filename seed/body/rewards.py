"""Ready-made rewards for a body that has none, such as a robot: stability and goal completion.

Both measure a number of an observation by the declared range of its space, from 0 (as it should be)
to 1 (a whole range away); numbers without a finite range do not count. `body.goal` says what some
numbers should be, goal = {0 = 1.0} for the first one; then only these count.
"""
from collections.abc import Callable
from typing import Any

import numpy as np

from seed.body.spaces import observation_ranges
from seed.body.wrapper import Step, WrappedOpener, Wrapper
from seed.config import BodyConfig
from seed.errors import ConfigError

PROGRESS_REWARD, GOAL_REWARD, FAILURE_COST, TICK_COST = 10.0, 5.0, 2.0, 0.01   # of Goal
ROUNDING = 1e-6   # of a number at the end of its range


class Aim:
    """What the numbers of an observation should be, in ranges of theirs. Raises ConfigError."""

    def __init__(self, name: str, space: Any, config: BodyConfig):
        ranges = np.array(observation_ranges(name, space))
        targets = dict(_numbered(name, config.goal, len(ranges)))
        counts = [i for i, (low, _) in enumerate(ranges)
                  if np.isfinite(low) and (i in targets or not targets)]
        unbounded = [i for i in targets if i not in counts]
        if unbounded or not counts:
            raise ConfigError(f"{name}: number {unbounded[0] if unbounded else 0} of an "
                              f"observation has no range: the reward {config.reward!r} needs a "
                              f"finite low and high in its observation_space")
        self._counts = np.array(counts)
        low, high = ranges[self._counts].T
        self._targets = np.array([targets.get(i, sum(ranges[i]) / 2) for i in counts])
        self._widths = high - low

    def deviations(self, observation: Any) -> np.ndarray:
        """Of each number that counts."""
        numbers = np.asarray(observation, np.float64).reshape(-1)[self._counts]
        return np.abs(numbers - self._targets) / self._widths


class Stability(Wrapper):
    """1 for each tick, less what the state deviates from its aim (without a goal: the middle of the
    ranges) and what the action changes, as mean squares. An episode ends beyond max_deviation, at
    its default 0.5 where a number leaves its range if it should be in the middle."""

    def __init__(self, body: Any, name: str, config: BodyConfig):
        super().__init__(body)
        self._aim, self._config = Aim(name, body.observation_space, config), config
        self._action: Any = None

    def first(self, observation: Any) -> Any:
        self._action = None
        return observation

    def after(self, action: Any, step: Step) -> Step:
        observation, _, terminated, truncated, info = step
        deviations = self._aim.deviations(observation)
        reward = 1 - float(np.mean(np.minimum(2 * deviations, 1) ** 2))   # 0 half a range away
        if self._action is not None:
            reward -= self._config.change_weight * self._change(action)
        self._action = np.copy(action)
        has_left = bool((deviations > self._config.max_deviation + ROUNDING).any())
        return observation, reward, terminated or has_left, truncated and not has_left, info

    def _change(self, action: Any) -> float:
        space = self.action_space
        if hasattr(space, "low"):
            width = np.asarray(space.high) - np.asarray(space.low)
            return float(np.mean(((action - self._action) / width) ** 2))
        return float(np.mean(action != self._action))


class Goal(Wrapper):
    """Rewards coming nearer to body.goal, and most of all being there, which ends an episode: all
    its numbers are within body.tolerance."""

    def __init__(self, body: Any, name: str, config: BodyConfig):
        super().__init__(body)
        self._aim, self._tolerance = Aim(name, body.observation_space, config), config.tolerance
        self._distance = 0.0

    def first(self, observation: Any) -> Any:
        self._distance = float(np.mean(self._aim.deviations(observation)))
        return observation

    def after(self, action: Any, step: Step) -> Step:
        observation, _, terminated, truncated, _ = step
        deviations = self._aim.deviations(observation)
        distance, is_there = float(np.mean(deviations)), bool((deviations <= self._tolerance).all())
        reward = PROGRESS_REWARD * (self._distance - distance) - TICK_COST
        reward += GOAL_REWARD * is_there - FAILURE_COST * (terminated and not is_there)
        self._distance = distance
        return (observation, reward, terminated or is_there, truncated and not is_there,
                {"is_success": is_there})


def rewarded(name: str, open_fn: Callable[[], Any], config: BodyConfig) -> Callable[[], Any]:
    """An opener of the same bodies with the reward of the profile. Those that it opens may raise
    ConfigError."""
    if config.reward == "own":
        return open_fn
    kind = Stability if config.reward == "stability" else Goal
    return WrappedOpener(open_fn, lambda body: kind(body, name, config))


def _numbered(name: str, goal: dict[str, float], n: int) -> list[tuple[int, float]]:
    for key in goal:
        if not key.isdecimal() or int(key) >= n:
            raise ConfigError(f"body.goal has {key!r}: {name} has the numbers 0 to {n - 1} in an "
                              f"observation; name one of them")
    return [(int(key), value) for key, value in goal.items()]
