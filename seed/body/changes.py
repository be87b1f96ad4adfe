"""Changes of a body: what a brain may have to adapt to."""
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seed.body.spaces import Box, choices_of
from seed.body.wrapper import Step, WrappedOpener, Wrapper

MAX_DELAY_TICKS = 2   # that are drawn


class Delayed(Wrapper):
    """An action takes effect so many ticks later; before the first, the middle one does."""

    def __init__(self, body: Any, ticks: int):
        super().__init__(body)
        self._ticks, self._middle = ticks, _middle(body.action_space)
        self._waiting: list[Any] = []

    def first(self, observation: Any) -> Any:
        self._waiting = [self._middle] * self._ticks
        return observation

    def before(self, action: Any) -> Any:
        self._waiting.append(action)
        return self._waiting.pop(0)


class RandomlyDelayed(Delayed):
    """`randomize` draws a delay of 0 to MAX_DELAY_TICKS too."""

    def __init__(self, body: Any):
        super().__init__(body, 0)

    def randomize(self, rng: random.Random) -> None:
        super().randomize(rng)
        self._ticks = int((MAX_DELAY_TICKS + 1) * rng.random())


class Reversed(Wrapper):
    """Each part of an action counts from its other end."""

    def before(self, action: Any) -> Any:
        space = self.action_space
        choices = choices_of(space)
        if choices:
            return 2 * choices[1] + choices[0] - 1 - action
        return (space.low + space.high - action).astype(action.dtype)


class Masked(Wrapper):
    """Shows only those numbers of an observation."""

    def __init__(self, body: Any, channels: Sequence[int]):
        super().__init__(body)
        self._channels, space = list(channels), body.observation_space
        self.observation_space = Box(*(np.ravel(bound)[self._channels]
                                       for bound in (space.low, space.high)))

    def first(self, observation: Any) -> Any:
        return np.ravel(observation)[self._channels]

    def after(self, action: Any, step: Step) -> Step:
        return self.first(step[0]), *step[1:]   # type: ignore


def changed(open_fn: Callable[[], Any], *changes: Callable[[Any], Wrapper]) -> Callable[[], Any]:
    """An opener of the same bodies in these wrappers, the first innermost; one with settings is
    `lambda body: Delayed(body, 2)`."""
    for change in changes:
        open_fn = WrappedOpener(open_fn, change)
    return open_fn


def _middle(space: Any) -> Any:
    choices = choices_of(space)
    if choices:
        middle = choices[1] + choices[0] // 2
        return middle if middle.shape else int(middle)
    return ((np.asarray(space.low) + np.asarray(space.high)) / 2).astype(np.float32)
