"""A body around another, with the same API: it changes what goes in or what comes out."""
import random
from collections.abc import Callable, Sequence
from typing import Any

Step = tuple[Any, float, bool, bool, Any]   # observation, reward, terminated, truncated, info


class Wrapper:
    """Changes nothing; those that do override `before`, `first` and `after`."""

    def __init__(self, body: Any):
        self.body = body
        self.observation_space, self.action_space = body.observation_space, body.action_space

    def before(self, action: Any) -> Any:
        """The action that the body gets."""
        return action

    def first(self, observation: Any) -> Any:
        """The observation of a reset."""
        return observation

    def after(self, action: Any, step: Step) -> Step:
        """What step returns, of what the body's own does; `action` as it was given."""
        return step

    def randomize(self, rng: random.Random) -> None:
        if hasattr(self.body, "randomize"):
            self.body.randomize(rng)

    def reset(self, seed: int | None = None) -> tuple[Any, Any]:
        observation, info = self.body.reset(seed=seed)
        return self.first(observation), info

    def step(self, action: Any) -> Step:
        return self.after(action, self.body.step(self.before(action)))


class WrappedBodies:
    """Rows of bodies that take a tick at once, each in a wrapper."""

    def __init__(self, bodies: Any, wrap_fn: Callable[[Any], Wrapper]):
        self._bodies, self._rows = bodies, [wrap_fn(bodies[i]) for i in range(len(bodies))]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Wrapper:
        return self._rows[row]

    def step_all(self, actions: Sequence[Any]) -> list[Step]:
        steps = self._bodies.step_all([row.before(action)
                                       for row, action in zip(self._rows, actions)])
        return [row.after(action, step) for row, action, step in zip(self._rows, actions, steps)]


class WrappedOpener:
    """Opens bodies in a wrapper, all rows of a world at once if `inner` does."""

    def __init__(self, inner: Callable[[], Any], wrap_fn: Callable[[Any], Wrapper]):
        self.inner, self._wrap_fn = inner, wrap_fn
        if hasattr(inner, "open_all"):
            self.open_all = self._open_all

    @property
    def rate_hz(self) -> float | None:
        return getattr(self.inner, "rate_hz", None)

    def __call__(self) -> Wrapper:
        return self._wrap_fn(self.inner())

    def _open_all(self, rows: int) -> WrappedBodies:
        return WrappedBodies(self.inner.open_all(rows), self._wrap_fn)   # type: ignore
