"""A model of a body, fitted to recorded ticks: what is seen next, the reward, and whether the
episode ends.

A polynomial of the second degree predicts what is seen next: bodies obey laws that are nearly that
(sines, products), also where nothing was recorded. What it leaves is learnt by an ensemble of
perceptrons, as in Chua et al. 1805.12114. Half of what they are fitted to is noisy: so the model
comes back to what was recorded when its own mistakes have led away from it (Sanchez-Gonzalez et al.
2002.09405).
"""
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seed.body.codec import Codec
from seed.body.episodes import EpisodeFolder
from seed.body.stored import episodes_of
from seed.rng import Stream, name_index, stream

MEMBERS, HIDDEN = 4, 64
BATCH, LR = 64, 2e-3          # of one member in a step; the rate falls linearly to 0
FIT_TICKS = 400_000           # that a member sees
MAX_EPOCHS = 100
END_EVERY = 8                 # ticks of which one at least is an episode's end: these are rare
MAX_ERROR = 0.3               # that counts, of a prediction (Huber's loss): what is seen may jump
NOISE = 0.05                  # at most, of an observation, in standard deviations of its change
OUTCOME_NOISE = 0.25          # the same, where reward and end are learnt: goals are seldom seen
MAX_BEYOND = 1.0              # of a channel's range, that a recorded number may be beyond it
MAX_TERMS, RIDGE = 1024, 1e-4   # of the polynomial, which else is linear; per recorded tick
LEAST_ERROR = 1e-6            # of the polynomial, in standard deviations of a change in a tick
BLOCK = 1024                  # recorded ticks whose terms are in memory at a time
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8   # of Adam


class Transitions(NamedTuple):
    """Recorded ticks, a row each, in order."""
    observations: np.ndarray   # (n, channels)
    before: np.ndarray         # as observations, a tick before; at an episode's first the same
    actions: np.ndarray        # (n, inputs) as of action_inputs
    previous: np.ndarray       # as actions, a tick before; zeros at an episode's first
    following: np.ndarray      # as observations, a tick after
    rewards: np.ndarray        # (n,)
    terminated: np.ndarray     # (n,) bool
    is_first: np.ndarray       # (n,) bool

    @classmethod
    def of(cls, folder: EpisodeFolder, codec: Codec) -> "Transitions":
        """All ticks with an action. A wrong reading of a sensor, far beyond its range, is brought
        near: it would decide what is a large change. Raises ConfigError."""
        low, high = np.array([(channel.low, channel.high) for channel in codec.channels]).T
        beyond = MAX_BEYOND * (high - low)
        columns: list[list[np.ndarray]] = [[] for _ in cls._fields]
        # The choices of a recorded number are finer than the brain's.
        recorded = folder.codec if codec.form == "numbers" else codec
        for *steps, last in episodes_of(folder.steps()):
            n = len(steps)
            if not n:
                continue
            seen = np.clip(np.array([step.observation for step in (*steps, last)], float),
                           low - beyond, high + beyond)
            actions = action_inputs(codec, np.array([
                np.ravel(recorded.decode(np.array(step.choices))) for step in steps]))
            arrays = (seen[:-1], np.concatenate([seen[:1], seen[:-2]]), actions,
                      np.concatenate([np.zeros_like(actions[:1]), actions[:-1]]), seen[1:],
                      np.array([step.reward for step in steps], float),
                      (np.arange(n) == n - 1) & last.is_terminal, np.arange(n) == 0)
            for column, array in zip(columns, arrays):
                column.append(array if array.dtype == bool else array.astype(np.float32))
        return cls(*map(np.concatenate, columns))

    def at(self, ticks: np.ndarray) -> "Transitions":
        return Transitions(*(array[ticks] for array in self))


def action_inputs(codec: Codec, actions: np.ndarray) -> np.ndarray:
    """Of actions (n, parts) as a body takes them: each number from -1 to 1, of choices a 1 for what
    is chosen."""
    columns = []
    for part, column in zip(codec.actions, actions.T):
        low, high = min(part), max(part)
        columns.append((column[:, None] * 2 - low - high) / (high - low)
                       if codec.form == "numbers" else column[:, None] == np.array(part))
    return np.concatenate(columns, -1).astype(np.float32)


class Polynomial:
    """(..., in) to (..., out) by least squares, fitted to x (n, in) and y (n, out): of the inputs,
    and of their products if these are few enough."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        n = x.shape[-1]
        self._a, self._b = np.triu_indices(n)
        if 1 + n + len(self._a) > MAX_TERMS:
            self._a = self._b = self._a[:0]
        size = 1 + n + len(self._a)
        squares, products = RIDGE * len(x) * np.eye(size), np.zeros((size, y.shape[-1]))
        blocks = [slice(start, start + BLOCK) for start in range(0, len(x), BLOCK)]
        for block in blocks:
            terms = self._terms(x[block]).astype(np.float64)
            squares += terms.T @ terms
            products += terms.T @ y[block]
        self._factors = np.linalg.solve(squares, products).astype(np.float32)
        errors = np.concatenate([y[block] - self(x[block]) for block in blocks])
        self.left = np.maximum(errors.std(0), np.float32(LEAST_ERROR))   # standard deviations

    def _terms(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones_like(x[..., :1]), x, x[..., self._a] * x[..., self._b]], -1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._terms(x) @ self._factors   # type: ignore


class Perceptrons:
    """MEMBERS networks with two hidden layers, and Adam. At first they return zeros."""

    def __init__(self, n_in: int, n_out: int, rng: np.random.Generator):
        sizes = [n_in, HIDDEN, HIDDEN, n_out]
        self._weights = [(rng.standard_normal((MEMBERS, a, b)) / np.sqrt(a)).astype(np.float32)
                         for a, b in zip(sizes, sizes[1:])]
        self._weights[-1][...] = 0
        self._biases = [np.zeros((MEMBERS, 1, b), np.float32) for b in sizes[1:]]
        self._moments = [(np.zeros_like(array), np.zeros_like(array))
                         for array in (*self._weights, *self._biases)]
        self._updates = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(members, n, in) to (members, n, out); what the layers see stays for `update`."""
        self._inputs = []
        for i, (weights, bias) in enumerate(zip(self._weights, self._biases)):
            self._inputs.append(x)
            x = x @ weights + bias
            if i < len(self._weights) - 1:
                x = np.tanh(x)
        return x

    def update(self, gradient: np.ndarray, lr: float) -> None:
        """`gradient`: of the loss, for what the last call returned, (members, n, out)."""
        weights, biases = list[np.ndarray](), list[np.ndarray]()
        for i in reversed(range(len(self._weights))):
            x = self._inputs[i]
            weights.insert(0, x.transpose(0, 2, 1) @ gradient)
            biases.insert(0, gradient.sum(1, keepdims=True))
            if i:
                gradient = gradient @ self._weights[i].transpose(0, 2, 1) * (1 - x * x)
        self._updates += 1
        scale1, scale2 = (1 - beta ** self._updates for beta in (BETA1, BETA2))
        for array, g, (m, v) in zip((*self._weights, *self._biases), (*weights, *biases),
                                    self._moments):
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            array -= lr * (m / scale1) / (np.sqrt(v / scale2) + EPS)


class Scale(NamedTuple):
    """Mean and standard deviation of each number; `unit` is 1 for one that is always the same."""
    mean: np.ndarray
    std: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Scale":
        std = numbers.std(0, dtype=np.float64)
        arrays = numbers.mean(0, np.float64), std, np.where(std > 0, std, 1.0)
        return cls(*(np.asarray(array, np.float32) for array in arrays))

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        return (numbers - self.mean) / self.unit   # type: ignore


class Dynamics:
    """A pure function of (ticks, seed, digest), fitted by `fit`; `digest`: of the episodes, which
    decides what is drawn. What it predicts is float32."""

    def __init__(self, ticks: Transitions, codec: Codec, seed: int, digest: str):
        self.ticks, self.codec = ticks, codec
        self._rng = stream(seed, Stream.BODY_MODEL, name_index(digest))
        self._seen = Scale.of(ticks.observations)
        self._change = Scale.of(ticks.following - ticks.observations)
        self._rewards = [Scale.of(ticks.rewards[which]) if which.any() else Scale.of(np.zeros(1))
                         for which in (~ticks.terminated, ticks.terminated)]
        n, n_actions = ticks.observations.shape[1], ticks.actions.shape[1]
        self._base = Polynomial(self._inputs(*ticks[:4]),
                                self._change(ticks.following - ticks.observations))
        self._next = Perceptrons(2 * (n + n_actions), n, self._rng)
        # The logit of an end; the reward if there is none, and if there is.
        self._outcome = Perceptrons(2 * n + n_actions, 3, self._rng)
        self._outcome_noise = np.float32(OUTCOME_NOISE) * np.concatenate([
            self._change.std / self._seen.unit, np.ones(n, np.float32),
            np.zeros(n_actions, np.float32)])
        self._ends = np.flatnonzero(ticks.terminated)
        self._steps, self._n_steps = 0, max(1, min(FIT_TICKS, MAX_EPOCHS * len(ticks.rewards))
                                            // BATCH)

    def _inputs(self, observations: np.ndarray, before: np.ndarray, actions: np.ndarray,
                previous: np.ndarray) -> np.ndarray:
        return np.concatenate([self._seen(observations), self._change(observations - before),
                               actions, previous], -1)

    def _outcome_inputs(self, observations: np.ndarray, actions: np.ndarray,
                        following: np.ndarray) -> np.ndarray:
        return np.concatenate([self._seen(following), self._change(following - observations),
                               actions], -1)

    def fit(self, should_stop_fn: Callable[[], bool]) -> bool:
        """Once; False if it has to stop: the next call then continues."""
        if self._steps == self._n_steps:
            return True
        ticks = self.ticks
        x = self._inputs(*ticks[:4]), self._outcome_inputs(ticks.observations, ticks.actions,
                                                           ticks.following)
        change, ended = self._change(ticks.following - ticks.observations), ticks.terminated
        outcome = np.stack([ended, *(scale(ticks.rewards) for scale in self._rewards)], -1)
        counts = np.stack([np.ones_like(ended), ~ended, ended], -1).astype(np.float32)
        while self._steps < self._n_steps:
            if should_stop_fn():
                return False
            lr = LR * (1 - self._steps / self._n_steps)
            at = self._rng.integers(0, len(ticks.rewards), (MEMBERS, BATCH))
            self._update_next(x[0][at], change[at], lr)
            if len(self._ends):
                at[:, ::END_EVERY] = self._rng.choice(self._ends, at[:, ::END_EVERY].shape)
            self._update_outcome(x[1][at], outcome[at], counts[at], lr)
            self._steps += 1
        return True

    def _update_next(self, x: np.ndarray, change: np.ndarray, lr: float) -> None:
        x, change = self._noisy(x, change)
        errors = np.clip(self._next(x) - (change - self._base(x)) / self._base.left, -MAX_ERROR,
                         MAX_ERROR)
        self._next.update(errors / errors[0].size, lr)

    def _update_outcome(self, x: np.ndarray, outcome: np.ndarray, counts: np.ndarray,
                        lr: float) -> None:
        noise = self._outcome_noise * self._rng.standard_normal(x.shape, np.float32)
        after = self._outcome(x + noise)
        after[..., 0] = 1 / (1 + np.exp(-after[..., 0]))
        self._outcome.update(counts * (after - outcome) / BATCH, lr)

    def _noisy(self, x: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every second row with noise in what is seen and in what was seen before. What follows is
        as recorded."""
        n = change.shape[-1]
        scale = np.minimum(self._base.left, np.float32(NOISE))
        noise, noise_before = scale * self._rng.standard_normal((2, *change.shape), np.float32)
        noise[:, ::2] = noise_before[:, ::2] = 0
        x[..., :n] += noise * (self._change.std / self._seen.unit)
        x[..., n:2 * n] += noise - noise_before
        return x, change - noise

    def predict(self, observations: np.ndarray, before: np.ndarray, actions: np.ndarray,
                previous: np.ndarray) -> np.ndarray:
        """(members, n, channels): the next observation as each member thinks; rows as of
        Transitions."""
        x = self._inputs(observations, before, actions, previous)
        errors = self._next(np.broadcast_to(x, (MEMBERS, *x.shape)))
        change = self._base(x) + self._base.left * errors
        return observations + self._change.mean + self._change.std * change   # type: ignore

    def outcome(self, observations: np.ndarray, actions: np.ndarray, following: np.ndarray,
                draws: np.ndarray | float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """Rewards (n,), and which rows end (n,) bool: as the member thinks that expects the least
        reward there, since another may see a goal where none was recorded. A row ends if its
        number of `draws` (n,), from 0 to 1, is below the probability of that."""
        x = self._outcome_inputs(observations, actions, following)
        logit, *rewards = np.moveaxis(self._outcome(np.broadcast_to(x, (MEMBERS, *x.shape))), -1, 0)
        end = (1 + np.tanh((logit - self._excess) / 2)) / 2
        reward, last_reward = (scale.mean + scale.std * reward
                               for scale, reward in zip(self._rewards, rewards))
        least = np.argmin(reward + end * (last_reward - reward), 0), np.arange(len(x))
        ends = end[least] > draws
        return np.where(ends, last_reward[least], reward[least]), ends

    @property
    def _excess(self) -> float:
        """By how much the logit of an end is too large, since a larger share of the fitted ticks
        than of the recorded ones are ends (prior correction, King and Zeng 2001)."""
        share = len(self._ends) / len(self.ticks.rewards)
        fitted = (1 + (END_EVERY - 1) * share) / END_EVERY
        return math.log(fitted / share * (1 - share) / (1 - fitted)) if 0 < share < 1 else 0.0
