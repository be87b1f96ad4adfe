"""Several bodies of a kind side by side. Each episode begins from a seed that is a pure function of
(seed, body, row, episode), so that a resumed run can play the same again: the checkpoint has the
choices since each episode's beginning."""
import base64
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seed.body.codec import Codec
from seed.body.spaces import has_spaces_of
from seed.errors import BodyError, CheckpointError, SeedError
from seed.rng import Stream, name_index

MAX_TICKS = 1000   # of an episode that its body does not end
MAX_REWARD = 1e6   # unless the bodies have a max_reward
MAX_NUMBER = 1e30  # of an observation, which a checkpoint has in float32
MAX_EPISODES = 10 ** 12   # of a row

Step = tuple[Any, float, bool, bool, Any]   # observation, reward, terminated, truncated, info


class Episode(NamedTuple):
    """One that has ended."""
    row: int
    total: float    # sum of its rewards
    ticks: int
    is_success: bool | None   # what the body says, if it does


class Snapshot(NamedTuple):
    """Where a world stands: each row's observation, episode and the choices in it so far."""
    observations: np.ndarray
    episodes: np.ndarray
    drawn: np.ndarray                 # in which episode each body was drawn
    choices: list[list[np.ndarray]]   # which may have grown since
    n_choices: list[int]

    def to_dict(self) -> list[dict[str, Any]]:
        """What `World.restore` takes, beside the observations."""
        return [{"episode": int(episode), "drawn": int(drawn), "choices": base64.b64encode(
                    np.array(choices[:n], np.uint8).tobytes()).decode()}
                for episode, drawn, choices, n in zip(self.episodes, self.drawn, self.choices,
                                                      self.n_choices)]


class Outcome(NamedTuple):
    """Of one tick, each (rows,)."""
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


def episode_seed(seed: int, purpose: Stream, name: str, row: int, episode: int) -> int:
    key = (seed, int(purpose), name_index(name), row, episode)
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)


class World:
    """`open_fn` makes one body; if it has `open_all`, that makes all rows, whose `step_all` takes a
    tick at once. With `randomize` each body is drawn when its row begins, and for each episode
    after that unless it `keeps_body`. Raises BodyError, which names the body, for whatever it does
    wrong."""

    def __init__(self, open_fn: Callable[[], Any], codec: Codec, rows: int, seed: int,
                 purpose: Stream = Stream.BODY_EPISODE, randomize: bool = False,
                 keeps_body: bool = False):
        self.codec, self.seed, self.purpose = codec, seed, purpose
        self.randomize, self.keeps_body = randomize, keeps_body
        open_all = getattr(open_fn, "open_all", None)
        self.bodies = open_all(rows) if open_all else [open_fn() for _ in range(rows)]
        if hasattr(self.bodies[0], "action_space") and not has_spaces_of(codec, self.bodies[0]):
            raise BodyError(f"{codec.name} has other observations or actions than the "
                            f"{len(codec.channels)} numbers and {len(codec.actions)} parts that "
                            f"it had before: let it have the same at each start, or use another "
                            f"--run-dir")
        self._max_reward = getattr(self.bodies, "max_reward", MAX_REWARD)
        self.observations = np.zeros((rows, len(codec.channels)))
        self.last_observations = self.observations.copy()   # of each row's episode before this one
        self.previous = np.full((rows, len(codec.actions)), -1)   # choices; -1: an episode begins
        self.totals, self.ended = np.zeros(rows), list[Episode]()
        self._episodes, self._drawn = np.full(rows, -1), np.full(rows, -1)
        self._choices: list[list[np.ndarray]] = [[] for _ in range(rows)]
        for row in range(rows):
            self.begin(row)

    def begin(self, row: int, keeps_body: bool = False) -> None:
        """The row's next episode."""
        self._episodes[row] += 1
        if not keeps_body:
            self._drawn[row] = self._episodes[row]
        self._reset(row, draws=not keeps_body)

    def _reset(self, row: int, draws: bool) -> None:
        number, drawn = (episode_seed(self.seed, self.purpose, self.codec.name, row, episode)
                         for episode in (self._episodes[row], self._drawn[row]))
        body = self.bodies[row]
        try:
            if draws and self.randomize and hasattr(body, "randomize"):
                body.randomize(random.Random(drawn + 1))
            observation, _ = body.reset(seed=number)
        except SeedError:
            raise
        except Exception as error:
            raise BodyError(f"{self.codec.name}: reset raises {_described(error)}") from None
        self.observations[row] = self._checked(observation)
        self.previous[row], self.totals[row], self._choices[row] = -1, 0.0, []

    def step(self, choices: np.ndarray) -> Outcome:
        """One tick of all bodies; an episode that ends is followed by the next at once."""
        rows = len(self.bodies)
        outcome = Outcome(np.zeros(rows), np.zeros(rows, bool), np.zeros(rows, bool))
        actions = [self.codec.decode(row) for row in choices]
        step_all = getattr(self.bodies, "step_all", None)
        results = step_all(actions) if step_all else itertools.repeat(None)
        for row, result in zip(range(rows), results):
            reward, terminated, truncated, info = self._take(
                row, choices[row], result or self._ask(row, actions[row]))
            outcome.rewards[row] = reward
            outcome.terminated[row], outcome.truncated[row] = terminated, truncated
            if terminated or truncated:
                success = info.get("is_success") if isinstance(info, dict) else None
                self.ended.append(Episode(row, float(self.totals[row]), len(self._choices[row]),
                                          None if success is None else bool(success)))
                self.last_observations[row] = self.observations[row]
                self.begin(row, self.keeps_body)
        return outcome

    def _ask(self, row: int, action: Any) -> Step:
        """What the row's body does in a tick."""
        try:
            observation, reward, terminated, truncated, info = self.bodies[row].step(action)
            return observation, float(reward), bool(terminated), bool(truncated), info
        except SeedError:
            raise
        except Exception as error:
            raise BodyError(f"{self.codec.name}: step raises {_described(error)}") from None

    def _take(self, row: int, choices: np.ndarray, result: Step) -> tuple[float, bool, bool, Any]:
        """Checks and counts it."""
        observation, reward, terminated, truncated, info = result
        if not abs(reward) <= self._max_reward:
            raise BodyError(f"{self.codec.name}: step returns the reward {reward}: keep it within "
                            f"{self._max_reward:g}")
        self.observations[row] = self._checked(observation)
        self.previous[row] = choices
        self._choices[row].append(choices.copy())
        self.totals[row] += reward
        ends_now = len(self._choices[row]) >= MAX_TICKS
        return reward, terminated, truncated or ends_now and not terminated, info

    def _checked(self, observation: Any) -> np.ndarray:
        try:
            numbers = np.asarray(observation, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != self.observations.shape[1:]:
            raise BodyError(f"{self.codec.name}: an observation has shape "
                            f"{np.shape(observation)}, its observation_space "
                            f"{self.observations.shape[1:]}: make them equal")
        is_right = np.abs(numbers) <= MAX_NUMBER
        if not is_right.all():
            raise BodyError(f"{self.codec.name}: number {int(np.argmin(is_right))} of an "
                            f"observation is {numbers[~is_right][0]}: keep it within "
                            f"{MAX_NUMBER:g}")
        return numbers

    def snapshot(self) -> Snapshot:
        return Snapshot(self.observations.copy(), self._episodes.copy(), self._drawn.copy(),
                        [choices for choices in self._choices], [*map(len, self._choices)])

    def restore(self, rows: Sequence[Mapping[str, Any]], observations: np.ndarray) -> None:
        """Plays the choices again. Raises CheckpointError unless that leads to `observations`."""
        parts = len(self.codec.actions)
        for row, record in zip(range(len(self.bodies)), rows, strict=True):
            self._episodes[row], self._drawn[row] = record["episode"], record["drawn"]
            data = np.frombuffer(base64.b64decode(record["choices"]), np.uint8).reshape(-1, parts)
            sizes = [len(part) for part in self.codec.actions]
            if not 0 <= record["drawn"] <= record["episode"] < MAX_EPISODES \
                    or len(data) > MAX_TICKS or (data >= sizes).any():
                raise ValueError("no record of this body")
            self._reset(row, draws=True)
            for choices in data.astype(np.int64):
                self._take(row, choices, self._ask(row, self.codec.decode(choices)))
        if not np.array_equal(observations.astype(np.float32),
                              self.observations.astype(np.float32)):
            raise CheckpointError(f"{self.codec.name} does not do the same again from the same "
                                  f"seed: it cannot be resumed; if it was changed, use seed adapt "
                                  f"--body, otherwise another --run-dir")


def _described(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
