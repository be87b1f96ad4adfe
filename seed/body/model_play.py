"""A brain practises in a model of a body, which is fitted to recorded episodes (model-based offline
reinforcement learning, as in Kidambi et al. 2005.05951).

An episode in the model begins at a recorded tick and is cut soon. One that leaves what was recorded
ends with the least return that was: nobody knows what is there.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.body.clone import ClonePlay
from seed.body.dynamics import MEMBERS, Dynamics, Transitions, action_inputs
from seed.body.episodes import EpisodeFolder
from seed.body.facts import Facts
from seed.body.play import BodyPlay
from seed.body.results import ChoiceAccuracy, Returns
from seed.body.round import Played
from seed.body.stored import Stored
from seed.body.world import Step
from seed.config import BodyConfig
from seed.wavecore.model import WaveCore
from seed.wavecore.optim import Optimizer

EPISODE_TICKS = 32          # after which the model's mistakes have added up
FIRST_TICK_FRACTION = 0.2   # of the episodes begin as recorded ones do, the others anywhere in them
MARGIN = 0.05               # of a number's recorded range, beyond which nothing is known


class ModelBodies:
    """Rows of episodes in a model, as World takes them. Each episode is of one of its members, and
    is cut after `max_ticks`, at most EPISODE_TICKS."""
    max_reward = 1e12   # what is unknown costs a whole return

    def __init__(self, dynamics: Dynamics, unknown_reward: float, rows: int, max_ticks: int):
        self._dynamics, self._unknown_reward, self._max_ticks = dynamics, unknown_reward, max_ticks
        ticks = dynamics.ticks
        self._first_ticks = np.flatnonzero(ticks.is_first)
        low = np.minimum(ticks.observations.min(0), ticks.following.min(0))
        high = np.maximum(ticks.observations.max(0), ticks.following.max(0))
        margin = np.float32(MARGIN) * (high - low) + np.float32(1e-6) * (1 + np.abs(high))
        self._low, self._high = low - margin, high + margin
        ranges = np.array([(-math.inf, math.inf) if channel.is_log else (channel.low, channel.high)
                           for channel in dynamics.codec.channels], np.float32).T
        self._bounds = np.minimum(ranges[0], low), np.maximum(ranges[1], high)   # of what is seen
        self._now = [np.zeros((rows, *array.shape[1:]), array.dtype) for array in ticks[:4]]
        self._members, self._n_ticks = np.zeros(rows, int), np.zeros(rows, int)
        self._draws = np.zeros((rows, EPISODE_TICKS))   # of which each tick's decides if it ends

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, row: int) -> "ModelBody":
        return ModelBody(self, row)

    def reset(self, row: int, seed: int) -> np.ndarray:
        rng, ticks = np.random.default_rng(seed), self._dynamics.ticks
        is_first = rng.random() < FIRST_TICK_FRACTION
        tick = (self._first_ticks[int(rng.random() * len(self._first_ticks))] if is_first else
                int(rng.random() * len(ticks.rewards)))
        for now, array in zip(self._now, ticks):
            now[row] = array[tick]
        self._members[row], self._n_ticks[row] = int(rng.random() * MEMBERS), 0
        self._draws[row] = rng.random(EPISODE_TICKS)
        return self._now[0][row]   # type: ignore

    def step_all(self, actions: Sequence[Any]) -> list[Step]:
        return self.step_rows(np.array(actions, np.float64).reshape(len(self), -1),
                              np.arange(len(self)))

    def step_rows(self, actions: np.ndarray, rows: np.ndarray) -> list[Step]:
        """Of actions (all rows, parts), those of `rows` are taken. All are computed, so that a row
        has the same bits whichever others take a tick."""
        self._dynamics.fit(bool)   # if that is not done
        observations, before, _, previous = self._now
        inputs = action_inputs(self._dynamics.codec, actions)
        at = self._members, np.arange(len(self))
        following = np.clip(self._dynamics.predict(observations, before, inputs, previous)[at],
                            *self._bounds)
        is_known = ((following >= self._low) & (following <= self._high)).all(-1)
        following = np.clip(following, self._low, self._high)
        draws = self._draws[at[1], np.minimum(self._n_ticks, EPISODE_TICKS - 1)]
        rewards, ends = self._dynamics.outcome(observations, inputs, following, draws)
        rewards = np.where(is_known | ends, rewards, self._unknown_reward)
        before[rows], observations[rows] = observations[rows], following[rows]
        previous[rows] = inputs[rows]
        self._n_ticks[rows] += 1
        return [(following[row], float(rewards[row]), bool(ends[row] or not is_known[row]),
                 bool(self._n_ticks[row] >= self._max_ticks), {}) for row in rows]


class ModelBody(NamedTuple):
    """One of the rows, with the interface of a body."""
    bodies: ModelBodies
    row: int

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        return self.bodies.reset(self.row, seed), {}

    def step(self, action: Any) -> Step:
        actions = np.tile(np.ravel(action).astype(np.float64), (len(self.bodies), 1))
        return self.bodies.step_rows(actions, np.array([self.row]))[0]


class ModelOpener:
    """Makes the rows of a world."""

    def __init__(self, dynamics: Dynamics, unknown_reward: float, max_ticks: int = EPISODE_TICKS):
        self._dynamics, self._unknown_reward, self._max_ticks = dynamics, unknown_reward, max_ticks

    def __call__(self) -> ModelBody:
        return self.open_all(1)[0]

    def open_all(self, rows: int) -> ModelBodies:
        return ModelBodies(self._dynamics, self._unknown_reward, rows, self._max_ticks)


class ModelPlay(BodyPlay):
    """One directory of episodes; `name` is the directory."""

    def __init__(self, model: WaveCore, optim: Optimizer | None, name: str, data: Stored,
                 facts: Facts, config: BodyConfig, seed: int, has_returns: bool = True):
        folder = EpisodeFolder(Path(name), data.sizes)
        ticks = Transitions.of(folder, facts.codec).at(data.split()[0])
        self._dynamics = Dynamics(ticks, facts.codec, seed, data.digest)
        super().__init__(model, optim, facts,
                         ModelOpener(self._dynamics, min(0.0, float(data.returns.min()))),
                         replace(config, randomize=False), seed, f"a model of {data.digest}")
        self.name, self._digest = name, data.digest
        self._recorded = ClonePlay(model, None, name, data, facts, config, seed, has_returns)

    def play(self, number: int, should_stop_fn: Callable[[], bool]) -> Played | None:
        """Round `number`; before the first the model is fitted."""
        if not self._dynamics.fit(should_stop_fn):
            return None
        return super().play(number, should_stop_fn)

    def evaluate(self, should_stop_fn: Callable[[], bool]) -> list[Returns | ChoiceAccuracy] | None:
        """As of recorded episodes: not in the model."""
        return self._recorded.evaluate(should_stop_fn)

    def to_meta(self) -> dict[str, Any]:
        return {**super().to_meta(), "data": {self.name: self._digest}}
