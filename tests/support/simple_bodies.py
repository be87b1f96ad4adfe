"""Bodies as small as they can be, and some that misbehave."""
import numpy as np

from seed.body.spaces import Box, Discrete


class Target:
    """Rewards the action that is the sign of what is seen; an episode has 10 ticks."""
    observation_space = Box.of((-1, 1))
    action_space = Discrete(2)

    def reset(self, seed=None):
        self._rng, self._ticks = np.random.default_rng(seed), 0
        return self._look(), {}

    def step(self, action):
        reward, self._ticks = float(action == (self._seen > 0)), self._ticks + 1
        return self._look(), reward, False, self._ticks >= 10, {}

    def _look(self):
        self._seen = self._rng.uniform(-1, 1)
        return np.array([self._seen])


class Endless(Target):
    """Never says that an episode ends."""

    def step(self, action):
        return *super().step(action)[:2], False, False, {}


class Forgetful(Target):
    """Does not care for its seed."""

    def reset(self, seed=None):
        return super().reset(None)


def misbehaving(method: str, result):
    """A body whose `method` returns `result`, or raises it if that is an exception."""
    class Body(Target):
        pass

    def call(self, *arguments, **options):
        getattr(Target, method)(self, *arguments, **options)
        if isinstance(result, BaseException):
            raise result
        return result
    setattr(Body, method, call)
    return Body
