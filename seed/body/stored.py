"""Recorded episodes in memory: a byte a channel of each tick, and the return from there."""
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from seed.body.codec import Codec
from seed.body.episodes import EpisodeFolder, Step
from seed.body.value_range import ValueRange
from seed.errors import ConfigError

HOLDOUT_EPISODES = 8      # one in so many is held out; of fewer the last one
MIN_SEGMENT_ROUNDS = 5    # short episodes follow one another in a segment of about that length
MAX_SEGMENT_ROUNDS = 16   # a longer episode is divided
VALUE_MARGIN = 0.25       # of the range of returns, beyond what was recorded


class Segment(NamedTuple):
    """Ticks start..stop that a row sees in order, from an empty state. If it begins within an
    episode its first round only leads to the state."""
    start: int
    stop: int
    begins_inside: bool


class Stored(NamedTuple):
    """The ticks of all episodes in order; each array has a row a tick."""
    codec: Codec              # of the body whose tables learn
    body: str                 # what the episodes are of
    digest: str               # of the files
    levels: np.ndarray        # (N, channels) uint8
    choices: np.ndarray       # (N, parts) uint8
    returns: np.ndarray       # (N,) float32, discounted, to the end of the episode
    seen: np.ndarray          # (N,) float32, the fraction of a return that was recorded
    begins: np.ndarray        # (N,) bool, an episode's first
    ends: np.ndarray          # (N,) bool, an episode's last
    rewards: np.ndarray       # (N,) float32
    terminated: np.ndarray    # (N,) bool, an episode's last with nothing beyond it
    sizes: Mapping[str, int]  # of the files, as they were read

    @property
    def values(self) -> ValueRange:
        """For a body that is new to a brain."""
        low, high = float(self.returns.min()), float(self.returns.max())
        margin = VALUE_MARGIN * ((high - low) or 1.0)
        return ValueRange(min(0.0, low - margin), max(0.0, high + margin))

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Ticks to learn and ticks that are held out: of whole episodes, if there are several."""
        number = np.cumsum(self.begins) - 1
        n, n_ticks = int(number[-1]) + 1, len(number)
        if n == 1:
            is_held_out = np.arange(n_ticks) >= n_ticks - max(1, n_ticks // HOLDOUT_EPISODES)
        elif n < HOLDOUT_EPISODES:
            is_held_out = number == n - 1
        else:
            is_held_out = number % HOLDOUT_EPISODES == HOLDOUT_EPISODES - 1
        ticks = np.arange(n_ticks)
        return (ticks[~is_held_out] if n_ticks > 1 else ticks), ticks[is_held_out]

    def previous(self, ticks: np.ndarray) -> np.ndarray:
        """The choices before these ticks, -1 where an episode begins; int64."""
        before = self.choices[np.maximum(ticks - 1, 0)].astype(np.int64)
        return np.where(self.begins[ticks][..., None], -1, before)


def load(folder: EpisodeFolder, codec: Codec | None, discount: float) -> Stored:
    """`codec`: of the body, if a brain has it already. Raises ConfigError."""
    codec = matching(folder, codec)
    levels, choices, scalars = bytearray(), bytearray(), list[np.ndarray]()
    for episode in episodes_of(folder.steps()):
        *steps, last = episode
        if not steps:
            continue
        seen = np.array([step.observation for step in steps], float)
        levels += codec.levels(seen)[0].astype(np.uint8).tobytes()
        choices += np.array([step.choices for step in steps], np.uint8).tobytes()
        scalars.append(_scalars(np.array([step.reward for step in steps], float),
                                last.is_terminal, discount))
    if not scalars:
        raise folder.no_episode()
    ticks = np.concatenate(scalars, 1)
    return Stored(codec, folder.body, folder.digest,
                  np.frombuffer(levels, np.uint8).reshape(-1, len(codec.channels)),
                  np.frombuffer(choices, np.uint8).reshape(-1, len(codec.actions)),
                  ticks[0], ticks[1], ticks[2] > 0, ticks[3] > 0, ticks[4], ticks[5] > 0,
                  folder.sizes)


def matching(folder: EpisodeFolder, codec: Codec | None) -> Codec:
    """The codec of a brain's body, whose choices the folder's steps then have; without one that of
    the folder. Raises ConfigError if the episodes are not of such a body."""
    if codec and codec.form == folder.codec.form == "numbers" and (
            len(codec.actions) == len(folder.codec.actions)):   # numbers are the nearest of its own
        folder.codec = replace(folder.codec, actions=codec.actions)
    codec = codec or folder.measure()
    expected = folder.codec
    if (len(codec.channels), codec.form, codec.shape, tuple(map(len, codec.actions))) != (
            len(expected.channels), expected.form, expected.shape,
            tuple(map(len, expected.actions))):
        raise ConfigError(f"{folder.path} has other observations or actions than {codec.name} of "
                          f"this brain: record that body, or use another --run-dir")
    return codec


def episodes_of(steps: Iterator[Step]) -> Iterator[list[Step]]:
    episode: list[Step] = []
    for step in steps:
        episode.append(step)
        if step.is_last:
            yield episode
            episode = []


def _scalars(rewards: np.ndarray, is_terminal: bool, discount: float) -> np.ndarray:
    """float32 (6, n): returns, `seen`, begins, ends, rewards, terminated. Beyond a cut the rewards
    are taken to continue as they were, which counts the less the sooner the cut."""
    n, total = len(rewards), 0.0
    returns = np.zeros(n)
    for t in reversed(range(n)):
        returns[t] = total = rewards[t] + discount * total
    seen = np.ones(n) if is_terminal else 1 - discount ** np.arange(n, 0, -1.0)
    ticks = np.arange(n)
    is_last = ticks == n - 1
    return np.array([returns / seen, seen, ticks == 0, is_last, rewards, is_last & is_terminal],
                    np.float32)


def segments_of(begins: np.ndarray, ticks: int) -> list[Segment]:
    """Of ticks in order, of episodes that begin at `begins`, for rounds of so many `ticks`."""
    starts = [int(i) for i in np.flatnonzero(begins)]
    segments, start = list[Segment](), 0
    for a, b in zip(starts, [*starts[1:], len(begins)]):
        if b - a > MAX_SEGMENT_ROUNDS * ticks:
            if start < a:
                segments.append(Segment(start, a, False))
            segments += _divided(a, b, ticks)
            start = b
        elif b - start >= MIN_SEGMENT_ROUNDS * ticks or b == len(begins):
            segments.append(Segment(start, b, False))
            start = b
    return segments


def _divided(start: int, stop: int, ticks: int) -> Iterator[Segment]:
    """An episode in pieces, each of which leads to its state through the end of the one before."""
    length = MAX_SEGMENT_ROUNDS * ticks
    yield Segment(start, start + length, False)
    for a in range(start + length, stop, length):
        yield Segment(a - ticks, min(a + length, stop), True)
