"""What a new brain does on the robot, beside what the one before did: it is confirmed or rolled
back.

A candidate has passed the gate in a model; only the robot tells whether the model was right. For
WATCH_TICKS it is compared with what its parent did at worst. It fails as soon as

- two episodes ended below the least return of the parent's last ones, or the present one has fallen
  below that;
- it raises, ends, gives what is not finite, or is late twice for some ticks in a row; or
- in WINDOW_TICKS the mean reward is lower, what it sees surprises it more, or more of its actions
  are beyond the limits, than in any such window of the parent, by a margin.

Returns tell of short episodes, windows of long ones and of a robot whose episode never ends. What
happens while the brain does not act, by a fault or by a person's will, does not tell of it.
"""
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seed.live.safety import Fault, State

WATCH_TICKS = 3000         # of a promoted brain, at least
MIN_EPISODES = 2           # that must have ended well in them, or the watch continues
LONG_WATCH = 3             # times WATCH_TICKS of good windows, after which no episode need end
MAX_FAILED = 2             # episodes; then it is rolled back
MAX_LATE = 2               # faults, as the brain does not answer in time
REMEMBERED = 20            # returns of the brain that acts
MARGIN = 0.1               # of the spread of the parent's returns, below the least of them
WINDOW_TICKS = 50
MIN_WINDOWS, MAX_WINDOWS = 10, 60   # that tell something; that are remembered
WINDOW_MARGIN = 0.5        # of the spread of the parent's windows, beyond the worst of them
# At least: of a mean reward's and of a surprise's own size; of all actions.
REWARD_MARGIN, SURPRISE_MARGIN, LIMITED_MARGIN = 0.05, 0.5, 0.25


class Lived(NamedTuple):
    """Words of the shared block (shared_block.py) at one look. `limited`: actions that were clamped
    or slewed; `is_acting`: not while a fault or a person holds the brain back."""
    ticks: int
    episodes: int
    last_return: float
    episode_return: float
    steps: int = 0
    total_reward: float = 0.0
    surprise: float = 0.0
    limited: int = 0
    is_acting: bool = True
    faults: int = 0

    @classmethod
    def of(cls, words: Mapping[str, float]) -> "Lived":
        return cls(int(words["ticks"]), int(words["episodes"]), words["last_return"],
                   words["episode_return"], int(words["steps"]), words["total_reward"],
                   words["surprise"], int(words["clamped"] + words["slewed"]),
                   words["state"] in (State.ACTING, State.RESETTING), int(words["faults"]))


class Window(NamedTuple):
    reward: float      # mean of a tick
    surprise: float
    limited: float     # of the actions


class Bounds(NamedTuple):
    """Beyond which a brain fails; None: nothing is known of the one before."""
    least_return: float | None = None
    least_reward: float | None = None
    max_surprise: float | None = None
    max_limited: float | None = None

    @classmethod
    def of(cls, returns: Sequence[float], windows: Sequence[Window]) -> "Bounds":
        """Of a brain that acted well enough."""
        lowest = min(returns) - MARGIN * (max(returns) - min(returns)) if returns else None
        if len(windows) < MIN_WINDOWS:
            return cls(lowest)
        rewards, surprises, limited = map(list, zip(*windows))
        return cls(lowest,
                   min(rewards) - max(WINDOW_MARGIN * (max(rewards) - min(rewards)),
                                      REWARD_MARGIN * max(map(abs, rewards))),
                   max(surprises) + max(WINDOW_MARGIN * (max(surprises) - min(surprises)),
                                        SURPRISE_MARGIN * max(map(abs, surprises))),
                   max(limited) + LIMITED_MARGIN)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Bounds":
        """Of a line of the lineage: what is no number there is not known."""
        return cls(*(float(value) if isinstance(value := fields.get(name), (int, float)) else None
                     for name in cls._fields))

    def reason(self, window: Window) -> str:
        """Why a brain fails that has lived so; empty if it does not."""
        if self.least_reward is not None and window.reward < self.least_reward:
            return (f"its mean reward of {WINDOW_TICKS} ticks is {window.reward:.4g}; that of the "
                    f"brain before was never below {self.least_reward:.4g}")
        if self.max_surprise is not None and window.surprise > self.max_surprise:
            return (f"what it sees surprises it by {window.surprise:.3g}; the brain before was "
                    f"never surprised by more than {self.max_surprise:.3g}")
        if self.max_limited is not None and window.limited > self.max_limited:
            return (f"{100 * window.limited:.0f} % of its actions are beyond the limits; of the "
                    f"brain before never more than {100 * self.max_limited:.0f} %")
        return ""


class Watch:
    """Looks some times a second; it may miss episodes that are shorter than that."""

    def __init__(self, watch_ticks: int = WATCH_TICKS) -> None:
        self._watch_ticks = watch_ticks
        self.returns: deque[float] = deque(maxlen=REMEMBERED)   # of the brain that acts
        self.windows: deque[Window] = deque(maxlen=MAX_WINDOWS)
        self.bounds = Bounds()             # while a brain is watched, of its parent
        self._began_ticks: int | None = None
        self._failed = self._good = self._late = self._good_ticks = 0
        self._last: Lived | None = None
        self._is_own = True                # the whole episode until now is what the brain did
        self._start: Lived | None = None   # of a window

    @property
    def is_watching(self) -> bool:
        return self._began_ticks is not None

    def begin(self, ticks: int, bounds: Bounds | None = None) -> None:
        """Another brain acts from here on; `bounds`: of an earlier process that watched it."""
        self.bounds = bounds or Bounds.of(self.returns, self.windows)
        self.returns.clear()
        self.windows.clear()
        self._start = None
        self._last = None   # an episode that has just ended is the parent's
        self._began_ticks = ticks
        self._failed = self._good = self._late = self._good_ticks = 0

    def end(self) -> None:
        self._began_ticks, self.bounds = None, Bounds()

    def look(self, now: Lived) -> str:
        """The reason why the brain has failed; empty if it has not."""
        last, self._last = self._last or now, now
        was_acting = now.is_acting and now.faults == last.faults
        window_reason = self._look_at_window(now, was_acting)
        was_own, has_ended = self._is_own and was_acting, now.episodes != last.episodes
        self._is_own = was_acting if has_ended else was_own
        if was_own and has_ended:
            self.returns.append(now.last_return)
        if not self.is_watching:
            return ""
        lowest = self.bounds.least_return
        return (self._look_at_returns(now, lowest, has_ended)
                if was_own and lowest is not None else "") or window_reason

    def look_at_fault(self, fault: Fault, text: str) -> str:
        """The same, of a fault while a brain is watched. One delay may be the machine's."""
        self._late += fault == Fault.BRAIN_LATE
        is_failure = fault in (Fault.BRAIN_ERROR, Fault.BRAIN_ENDED) or (
            fault == Fault.BRAIN_LATE and self._late >= MAX_LATE)
        return text if is_failure else ""

    def _look_at_window(self, now: Lived, was_acting: bool) -> str:
        if not was_acting:
            self._start = None
            return ""
        start = self._start = self._start or now
        n = now.steps - start.steps   # a reset may take its time
        if n < WINDOW_TICKS:
            return ""
        window = Window((now.total_reward - start.total_reward) / n, now.surprise,
                        (now.limited - start.limited) / n)
        self.windows.append(window)
        self._start, self._good_ticks = now, self._good_ticks + n
        return self.bounds.reason(window)

    def _look_at_returns(self, now: Lived, lowest: float, has_ended: bool) -> str:
        if has_ended:
            is_low = now.last_return < lowest
            self._failed, self._good = self._failed + is_low, self._good + (not is_low)
        if self._failed >= MAX_FAILED:
            return (f"{self._failed} episodes ended below {lowest:.4g}, the least return of the "
                    f"brain before")
        if now.episode_return < lowest < 0:
            return (f"the return of an episode has fallen to {now.episode_return:.4g}; the least "
                    f"of the brain before was {lowest:.4g}")
        return ""

    def is_over(self, ticks: int) -> bool:
        """Whether what was watched may stay."""
        if self._began_ticks is None or ticks - self._began_ticks < self._watch_ticks:
            return False
        return (self.bounds.least_return is None or self._good >= MIN_EPISODES
                or self._good_ticks >= LONG_WATCH * self._watch_ticks)
