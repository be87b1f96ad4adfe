"""The interface of a body: that of Gymnasium, as a class of your own, `--body robot.py:MyRobot`,
has it."""
from typing import Any, Protocol


class Body(Protocol):
    """A class in a file, made without arguments; nothing of Gymnasium or of seed has to be
    imported.

    A space is one of Gymnasium's (Box, Discrete, MultiDiscrete, MultiBinary), any object with `low`
    and `high`, `n` or `nvec`, a list of (low, high), a number of choices, or a list of such
    numbers. Up to 512 numbers are seen, an action has up to 64 parts.

    Optional: `rate_hz`, ticks per second; `randomize(rng)`, which makes another body of it, from
    the next reset on, with `body.randomize=true`; `render()`, a text, or None if it shows itself;
    `close()`. For `seed live` also `sense()`, the observation as it is now; `stop()`, motors off,
    called from another thread while a call hangs, and at the end; `action_limits`, a (low, high)
    for each number of an action; `max_change` of each, per second; and `safe_action`.
    """
    observation_space: Any
    action_space: Any

    def reset(self, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """An episode begins: what is seen, and a dict, which is not read. In a training the same
        `seed`, followed by the same actions, has to give the same numbers again."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One tick: what is seen after it, the reward, whether the episode has ended by itself,
        whether it was cut, and a dict, of which `is_success` is read at an end, if it is there.
        `action`: an int for Discrete, else an array of the space's shape. All calls take 0.05 s on
        average in a training, one of them 5 s, at most."""
