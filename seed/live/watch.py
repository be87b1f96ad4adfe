"""What a new brain does on the robot, beside what the one before did: it is confirmed or rolled
back.

A candidate has passed the gate in a model; only the robot tells whether the model was right. For
WATCH_TICKS its episodes are compared with the last ones of its parent. It fails as soon as two of
them ended below the least return that the parent had, or the present one has fallen below that.
"""
from collections import deque
from typing import NamedTuple

WATCH_TICKS = 3000         # of a promoted brain, at least
MIN_EPISODES = 2           # that must have ended well in them, or the watch continues
MAX_FAILED = 2             # episodes; then it is rolled back
REMEMBERED = 20            # returns of the brain that acts
MARGIN = 0.1               # of the spread of the parent's returns, below the least of them


class Lived(NamedTuple):
    """Words of the shared block (shared_block.py) at one look."""
    ticks: int
    episodes: int
    last_return: float
    episode_return: float


class Watch:
    """Looks some times a second; it may miss episodes that are shorter than that."""

    def __init__(self) -> None:
        self.returns: deque[float] = deque(maxlen=REMEMBERED)   # of the brain that acts
        self.lowest: float | None = None   # that the parent had, while its child is watched
        self._began_ticks: int | None = None
        self._failed = self._good = 0
        self._episodes: int | None = None

    @property
    def is_watching(self) -> bool:
        return self._began_ticks is not None

    def begin(self, ticks: int) -> None:
        """Another brain acts from here on."""
        spread = max(self.returns) - min(self.returns) if self.returns else 0.0
        self.lowest = min(self.returns) - MARGIN * spread if self.returns else None
        self.returns.clear()
        self._began_ticks, self._failed, self._good = ticks, 0, 0

    def end(self) -> None:
        self._began_ticks, self.lowest = None, None

    def look(self, now: Lived) -> str:
        """The reason why the brain has failed; empty if it has not."""
        has_ended = self._episodes is not None and now.episodes != self._episodes
        self._episodes = now.episodes
        if has_ended:
            self.returns.append(now.last_return)
        if self._began_ticks is None or self.lowest is None:
            return ""
        if has_ended:
            is_low = now.last_return < self.lowest
            self._failed, self._good = self._failed + is_low, self._good + (not is_low)
        if self._failed >= MAX_FAILED:
            return (f"{self._failed} episodes ended below {self.lowest:.4g}, the least return of "
                    f"the brain before")
        if now.episode_return < self.lowest < 0:
            return (f"the return of an episode has fallen to {now.episode_return:.4g}; the least "
                    f"of the brain before was {self.lowest:.4g}")
        return ""

    def is_over(self, ticks: int) -> bool:
        """Whether what was watched may stay."""
        if self._began_ticks is None or ticks - self._began_ticks < WATCH_TICKS:
            return False
        return self.lowest is None or self._good >= MIN_EPISODES
