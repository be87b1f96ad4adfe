"""When what a brain remembers of its body misleads it: by how unexpected whole episodes are.

A brain that finds out in which body it is (body.randomize) does so fastest from an empty memory: it
acts well within its first episode. What it remembers of a body that has changed since takes it many
short episodes to unlearn. So once two episodes in a row are far less expected than usual, the next
one begins with an empty memory.
"""
import math
from collections import deque
from statistics import median

USUAL_EPISODES = 32   # the last ones
LEAST_EPISODES = 5    # before anything is unusual, and between two times of forgetting
IN_A_ROW = 2
FACTOR, LEAST_NATS = 1.5, 0.1   # more than is usual


class Forgetting:
    """Of one brain in one body."""

    def __init__(self) -> None:
        self._means: deque[float] = deque(maxlen=USUAL_EPISODES)   # surprise of episodes, nats
        self._total_nats, self._n_ticks = 0.0, 0
        self._n_unusual = self._n_since = 0

    def count(self, nats: float) -> None:
        """The surprise of a tick; NaN if it is not known."""
        if math.isfinite(nats):
            self._total_nats, self._n_ticks = self._total_nats + nats, self._n_ticks + 1

    def end_episode(self) -> bool:
        """Whether the next one should begin with an empty memory."""
        if not self._n_ticks:
            return False
        mean = self._total_nats / self._n_ticks
        self._total_nats, self._n_ticks = 0.0, 0
        usual = median(self._means) if len(self._means) >= LEAST_EPISODES else math.inf
        self._means.append(mean)
        self._n_since += 1
        self._n_unusual = self._n_unusual + 1 if mean > FACTOR * usual + LEAST_NATS else 0
        if self._n_unusual < IN_A_ROW or self._n_since < LEAST_EPISODES:
            return False
        self._n_unusual = self._n_since = 0
        return True
