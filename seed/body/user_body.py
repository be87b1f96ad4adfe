"""A user's body class, in a process of its own: what the run has of it.

The class is named as path.py:ClassName, is made without arguments, and has Gymnasium's reset, step,
observation_space and action_space; `randomize(rng)` and `close()` if it wants to. All rows of a
world share one process and take a tick in one request. user_body_worker.py is the other side.
"""
import base64
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from seed.body.codec import Codec
from seed.body.spaces import Box, Discrete, MultiDiscrete, observation_ranges
from seed.body.tick_rate import checked_rate
from seed.curriculum.user_class_process import ClassProcess, Kind
from seed.errors import BodyError, BodyKilled, SeedError, StopRequested
from seed.task_names import file_of, short

MAX_LOAD_S = 30.0         # to load a class with what it imports, and to make its rows
MAX_CALL_S = 5.0          # for one call of its methods, or of step in all rows
MAX_MEAN_CALL_S = 0.05    # for all calls of its methods so far on average, after a grace
CALLS_GRACE_S = 20.0
MAX_CLOSE_S = 1.0
COMPARED_TICKS = 20       # that two processes have to play alike
BODY = Kind("seed.body.user_body_worker", BodyError, BodyKilled, max_frame_bytes=2 ** 24)

Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]   # as of Gymnasium


class UserBodies:
    """Bodies of one class side by side, in one process, which ends with them."""

    def __init__(self, name: str, rows: int, stop_fn: Callable[[], bool] = bool):
        self.name, self.rows, path = short(name), rows, file_of(name)
        self._process = ClassProcess(BODY, self.name, path, name[len(path) + 1:])
        self._process.stop_fn = stop_fn
        self._calls, self._calls_s = 0, 0.0
        reply, _ = self._process.ask("loading", MAX_LOAD_S, do="load", rows=rows)
        try:
            self._process.watch(reply["pid"])
            self.observation_space = _space(reply["observation_space"])
            self.action_space = _space(reply["action_space"])
            self.rate_hz = checked_rate(reply["rate_hz"])
            self.has_render = reply["has_render"] is True
        except (ValueError, TypeError, KeyError, OverflowError):
            raise self._process.damaged("loading") from None
        self.close = weakref.finalize(self, _close, self._process, reply.get("has_close") is True)
        self._n_numbers = len(observation_ranges(self.name, self.observation_space))

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> "UserBody":
        if not 0 <= row < self.rows:
            raise IndexError(row)
        return UserBody(self, row)

    def reset(self, row: int, seed: int, randomize: int | None) -> np.ndarray:
        return self._observations("reset", 1, self._ask(
            "reset", 1, row=row, seed=seed, randomize=randomize))[0]

    def step_all(self, actions: Sequence[Any], rows: Sequence[int] | None = None) -> list[Step]:
        """What step returns in each row, or in `rows`."""
        rows = range(self.rows) if rows is None else rows
        arrays = isinstance(actions[0], np.ndarray)
        reply = self._ask("step", len(rows), rows=list(rows),
                          actions=[a.tolist() if arrays else int(a) for a in actions],
                          dtype=actions[0].dtype.name if arrays else None)
        try:
            observations = self._observations("step", len(rows), reply["observations"])
            steps = [(observation, float(reward), bool(terminated), bool(truncated),
                      {"is_success": success} if isinstance(success, bool) else {})
                     for observation, reward, (terminated, truncated), success in zip(
                         observations, reply["rewards"], reply["ends"], reply["successes"],
                         strict=True)]
        except (ValueError, TypeError, KeyError, OverflowError):
            raise self._process.damaged("step") from None
        return steps

    def render(self, row: int) -> str | None:
        text = self._ask("render", 1, row=row)
        if text is not None and type(text) is not str:
            raise self._process.damaged("render")
        return text

    def _ask(self, call: str, n_calls: int, **request: Any) -> Any:
        if self._process.stop_fn():   # many short calls must not hold it up
            raise StopRequested(f"stopped before {call} of {self.name}")
        value, call_s = self._process.ask(call, MAX_CALL_S, do=call, **request)
        self._calls, self._calls_s = self._calls + n_calls, self._calls_s + call_s
        if self._calls_s > CALLS_GRACE_S + MAX_MEAN_CALL_S * self._calls:
            raise BodyError(f"{self.name}: a tick takes {self._calls_s / self._calls:.2f} s on "
                            f"average: make it faster than {MAX_MEAN_CALL_S} s")
        return value

    def _observations(self, call: str, rows: int, text: Any) -> np.ndarray:
        try:
            return np.frombuffer(base64.b64decode(text), "<f8").reshape(rows, self._n_numbers)
        except (ValueError, TypeError):
            raise self._process.damaged(call) from None


def _close(process: ClassProcess, has_close: bool) -> None:
    """Lets the class close what it has opened, and ends the process."""
    with suppress(SeedError):
        if has_close and process.close.alive:
            process.ask("close", MAX_CLOSE_S, do="close")
    process.close()


class UserBody:
    """One row of them."""

    def __init__(self, bodies: UserBodies, row: int):
        self._bodies, self._row = bodies, row
        self.observation_space, self.action_space = bodies.observation_space, bodies.action_space
        self._randomize: int | None = None   # at the next reset
        if bodies.has_render:
            self.render = lambda: bodies.render(row)

    def randomize(self, rng: random.Random) -> None:
        """Another body from the next reset on, if the class has one to offer."""
        self._randomize = rng.getrandbits(53)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        randomize, self._randomize = self._randomize, None
        return self._bodies.reset(self._row, seed or 0, randomize), {}

    def step(self, action: Any) -> Step:
        return self._bodies.step_all([action], [self._row])[0]

    def close(self) -> None:
        self._bodies.close()


class Opener:
    """Makes bodies of a class: one, or all rows of a world in one process."""

    def __init__(self, name: str):
        self.name = name
        self.stop_fn: Callable[[], bool] = bool   # whether the run has to stop; never
        self.rate_hz: float | None = None         # that of the class, once it has been opened

    def __call__(self) -> UserBody:
        return self.open_all(1)[0]

    def open_all(self, rows: int) -> UserBodies:
        bodies = UserBodies(self.name, rows, lambda: self.stop_fn())
        self.rate_hz = bodies.rate_hz
        return bodies

    @classmethod
    def within(cls, open_fn: Any) -> "Opener | None":
        """That of a class in an opener and its wrappers, if there is one."""
        while hasattr(open_fn, "inner"):
            open_fn = open_fn.inner
        return open_fn if isinstance(open_fn, cls) else None


def _space(fields: Mapping[str, Any]) -> Box | Discrete | MultiDiscrete:
    """Of what the worker writes. Raises ValueError, TypeError, KeyError, OverflowError."""
    if "n" in fields:
        return Discrete(int(fields["n"]), int(fields["start"]))
    shape = tuple(map(int, fields["shape"]))
    if "nvec" in fields:
        return MultiDiscrete(*(np.array(list(map(int, fields[key]))).reshape(shape)
                               for key in ("nvec", "starts")))
    return Box(*(np.array(list(map(float, fields[key]))).reshape(shape)
                 for key in ("low", "high")))


def check_repeats(open_fn: Opener, codec: Codec, seed: int, randomize: bool) -> None:
    """Raises BodyError unless two processes do the same in COMPARED_TICKS, one of them in other
    rows and after another episode: a run that is resumed plays its last episodes again."""
    first, second = open_fn.open_all(2), open_fn.open_all(2)
    _play(second, codec, [seed + 3, seed + 4], randomize)
    alike = _play(first, codec, [seed + 1, seed + 2], randomize)
    again = _play(second, codec, [seed + 2, seed + 1], randomize)
    for t, (before, after) in enumerate(zip(alike, again)):
        for what, a, b in zip(("observation", "reward", "end"), before, after):
            if not np.array_equal(a, b[::-1], equal_nan=True):
                raise BodyError(f"{codec.name}: the same seed and actions give another {what} at "
                                f"tick {t}: let reset(seed) seed all that it draws, and keep "
                                f"nothing between episodes")


def _play(bodies: UserBodies, codec: Codec, seeds: Sequence[int],
          randomize: bool) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Observations, rewards and ends of all rows, tick by tick; the first of the reset alone."""
    rows = [bodies[row] for row in range(len(bodies))]
    rngs = [random.Random(seed) for seed in seeds]

    def reset(row: int, seed: int) -> np.ndarray:
        if randomize:
            rows[row].randomize(random.Random(seed))
        return rows[row].reset(seed=seed)[0]
    played = [(np.stack([reset(row, seed) for row, seed in enumerate(seeds)]),
               np.zeros(len(rows)), np.zeros((len(rows), 2)))]
    for t in range(COMPARED_TICKS):
        steps = bodies.step_all([codec.decode(np.array(
            [int(rng.random() * len(part)) for part in codec.actions])) for rng in rngs])
        played.append((np.stack([step[0] for step in steps]),
                       np.array([step[1] for step in steps]),
                       np.array([step[2:4] for step in steps], float)))
        for row, step in enumerate(steps):
            if step[2] or step[3]:
                reset(row, seeds[row] + 10 + t)
    return played
