"""How new an observation is to a body in training: a bonus for tuples of coarse levels that were
seldom seen, which falls with the root of their count (Strehl and Littman 2008)."""
import numpy as np

from seed.body.codec import ABSENT, LEVELS

TUPLES = 4096         # of coarse levels, about, that the observations of a narrow body can have
MOST_CELLS = 16       # of a channel
TABLE_BITS = 16       # counts are kept in a table of this many bits: tuples beyond it share some
FACTOR = np.uint64(0x9E3779B97F4A7C15)   # 2^64 / golden ratio, of multiplicative hashing


class Novelty:
    """Counts of one body, (2^TABLE_BITS,) float32, as checkpoints have; from 2^24 on one stays."""

    def __init__(self, n_channels: int) -> None:
        self.counts = np.zeros(1 << TABLE_BITS, np.float32)
        self._cells = max(2, min(MOST_CELLS, int(TUPLES ** (1 / n_channels) + 1e-9)))

    def bonus(self, levels: np.ndarray) -> np.ndarray:
        """Counts the observations (..., channels), then says of each how new it is (...): 1 at the
        first time, 1 / sqrt(n) at the nth."""
        at = self._places(levels)
        np.add.at(self.counts, at, np.float32(1))
        return 1 / np.sqrt(self.counts[at].astype(np.float64))   # type: ignore

    def _places(self, levels: np.ndarray) -> np.ndarray:
        """Of the tuples in the table."""
        cells = np.where(levels == ABSENT, self._cells, levels * self._cells // LEVELS)
        key = np.zeros(levels.shape[:-1], np.uint64)
        for i in range(levels.shape[-1]):
            key = (key + cells[..., i].astype(np.uint64) + np.uint64(1)) * FACTOR
            key ^= key >> np.uint64(32)
        return (key * FACTOR >> np.uint64(64 - TABLE_BITS)).astype(np.int64)
