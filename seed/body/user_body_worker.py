"""Answers requests about a user's body class, in its process (curriculum/user_class_worker.py): one
object of the class for each row. Observations are float64, written in base64. Needs numpy."""
import base64
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seed.body.tick_rate import checked_rate
from seed.curriculum.user_class_worker import InvalidClass, describe, load, outer_pid, shown

MAX_NUMBERS = 4096   # of a space
MAX_CHOICE = 2 ** 53
MAX_TEXT = 4000      # characters that are shown of a tick
REQUIRED = ("observation_space", "action_space", "reset", "step")
SPACES = ("Box, Discrete, MultiDiscrete or MultiBinary, a list of (low, high), or a number of "
          "choices")


def space_fields(what: str, space: Any) -> dict[str, Any]:
    """A space as lists: `low`, `high`, `shape`; `nvec`, `starts`, `shape`; or `n`, `start`.

    Any object with these attributes is a space; so is a list of (low, high), one for each number, a
    number of choices, and a list of such numbers. Raises InvalidClass.
    """
    if hasattr(space, "nvec"):
        return _choices(what, space.nvec, getattr(space, "start", 0))
    if hasattr(space, "low") and hasattr(space, "high"):
        return _box(what, space.low, space.high)
    is_scalar = getattr(space, "shape", ()) in ((), None)
    if hasattr(space, "n") and is_scalar:
        return _discrete(what, int(space.n), int(getattr(space, "start", 0)))
    if hasattr(space, "n"):
        return _choices(what, np.full(space.shape, 2), 0)   # bits
    if type(space) is int:
        return _discrete(what, space, 0)
    if isinstance(space, (list, tuple)) and space:
        if all(type(item) is int for item in space):
            return _choices(what, space, 0)
        if all(isinstance(item, (list, tuple)) and len(item) == 2 for item in space):
            return _box(what, *zip(*space))
    raise InvalidClass(f"{what} is {shown(space)}: give {SPACES}")


def _discrete(what: str, n: int, start: int) -> dict[str, Any]:
    if max(abs(n), abs(start)) > MAX_CHOICE:
        raise InvalidClass(f"{what} has choices beyond {MAX_CHOICE}: give fewer")
    return {"n": n, "start": start}


def _choices(what: str, sizes: Any, starts: Any) -> dict[str, Any]:
    shape = np.shape(sizes)
    return {"nvec": _listed(what, sizes, int), "shape": list(shape),
            "starts": _listed(what, np.broadcast_to(starts, shape), int)}


def _box(what: str, low: Any, high: Any) -> dict[str, Any]:
    shape = np.shape(low)
    if np.shape(high) != shape:
        raise InvalidClass(f"{what} has a low of shape {shape} and a high of shape "
                           f"{np.shape(high)}: make them equal")
    return {"low": _listed(what, low, float), "high": _listed(what, high, float),
            "shape": list(shape)}


def _listed(what: str, values: Any, kind: type) -> list[Any]:
    array = np.asarray(values, np.float64)
    if not 0 < array.size <= MAX_NUMBERS:
        raise InvalidClass(f"{what} has {array.size} numbers: give 1 to {MAX_NUMBERS}")
    return [kind(value) for value in array.flat]


def _rate(value: Any) -> float | None:
    """Of the class's ticks."""
    try:
        return checked_rate(value.item() if isinstance(value, np.generic) else value)
    except ValueError as error:
        raise InvalidClass(str(error)) from None


def checked_parts(call: str, result: Any, names: str) -> Any:
    """What a method has returned, if it has as many parts as it should."""
    if not isinstance(result, (tuple, list)) or len(result) != names.count(",") + 1:
        count = f" of {len(result)}" if isinstance(result, (tuple, list)) else ""
        raise InvalidClass(f"{call} returns {type(result).__name__}{count}: return ({names})")
    return result


def as_reward(reward: Any) -> float:
    """Raises InvalidClass if it is no number."""
    try:
        return float(reward)
    except (TypeError, ValueError, OverflowError):
        raise InvalidClass(f"step returns the reward {shown(reward)}: give a number") from None


class Calls:
    """Of one class."""

    def __init__(self, path: str, class_name: str):
        self.path, self.class_name = path, class_name
        self.bodies: list[Any] = []
        self.n_numbers = 0   # of an observation

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"load": self.load, "reset": self.reset, "step": self.step,
                "render": self.render, "close": self.close}

    def load(self, rows: int) -> dict[str, Any]:
        """The spaces, and this process as the run sees it."""
        make = load(self.path, self.class_name, REQUIRED)
        self.bodies = [make() for _ in range(rows)]
        spaces = {name: space_fields(name, getattr(self.bodies[0], name))
                  for name in ("observation_space", "action_space")}
        self.n_numbers = math.prod(spaces["observation_space"].get("shape", ()))
        return {**spaces, "rate_hz": _rate(getattr(self.bodies[0], "rate_hz", None)),
                "has_close": hasattr(self.bodies[0], "close"),
                "has_render": hasattr(self.bodies[0], "render"), "pid": outer_pid()}

    def reset(self, row: int, seed: int, randomize: int | None) -> str:
        """`randomize`: a seed for another body, if it has one to offer."""
        body = self.bodies[row]
        if randomize is not None and hasattr(body, "randomize"):
            try:
                body.randomize(random.Random(randomize))
            except BaseException as error:
                raise InvalidClass(describe("randomize", error)) from None
        observation, _ = checked_parts("reset", body.reset(seed=seed), "observation, info")
        return base64.b64encode(self.numbers(observation).tobytes()).decode()

    def step(self, rows: Sequence[int], actions: Sequence[Any],
             dtype: str | None) -> dict[str, Any]:
        """One tick of those rows; an action is an array of `dtype`, or an index without it."""
        observations, rewards, ends, successes = [], [], [], []
        for row, action in zip(rows, actions):
            result = self.bodies[row].step(np.array(action, dtype) if dtype else action)
            observation, reward, terminated, truncated, info = checked_parts(
                "step", result, "observation, reward, terminated, truncated, info")
            observations.append(self.numbers(observation))
            rewards.append(as_reward(reward))
            ends.append([bool(terminated), bool(truncated)])
            success = info.get("is_success") if isinstance(info, dict) else None
            successes.append(None if success is None else bool(success))
        return {"observations": base64.b64encode(np.stack(observations).tobytes()).decode(),
                "rewards": rewards, "ends": ends, "successes": successes}

    def render(self, row: int) -> str | None:
        text = self.bodies[row].render()
        if text is not None and type(text) is not str:
            raise InvalidClass(f"render returns {type(text).__name__}: return text, or None if it "
                               f"shows itself")
        return None if text is None else text[:MAX_TEXT]

    def close(self) -> None:
        for body in self.bodies:
            body.close()

    def numbers(self, observation: Any) -> np.ndarray:
        try:
            numbers = np.asarray(observation, "<f8").reshape(-1)
        except (TypeError, ValueError):
            raise InvalidClass(f"an observation is {shown(observation)}: give "
                               f"{self.n_numbers} numbers") from None
        if numbers.shape != (self.n_numbers,):
            raise InvalidClass(f"an observation has shape {np.shape(observation)}, its "
                               f"observation_space ({self.n_numbers},): make them equal")
        return numbers
