"""Checkpoints of a running training: when they are due, and what if they cannot be written.

A full, read-only or failing file system does not end a run at once: it trains on unsaved, says so,
tries again every RETRY_S seconds, and gives up when the grace is over. A card wears by what is
written, so periodic saves keep to a budget a day; those that are asked for count, but never wait.
"""
from collections.abc import Callable
from typing import Any

import numpy as np

from seed.config import TrainConfig
from seed.storage import checkpoint
from seed.storage.metrics import duration
from seed.storage.run_dir import RunDir
from seed.errors import SaveFailed

RETRY_S = 10.0
DAY_S, GB = 86400.0, 1e9


class Checkpointer:
    """Writes checkpoints to a run directory, as often as the profile and the budget allow."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, clock: Callable[[], float],
                 say: Callable[[str], None], saved_step: int):
        self.run_dir, self.every_s = run_dir, config.save_every_minutes * 60
        self.grace_s, self.budget = config.save_grace_minutes * 60, config.write_gb_per_day
        self._clock, self._say = clock, say
        self.saved_step = saved_step              # of the newest checkpoint that is whole
        self.failing_since: float | None = None
        self._next = clock() + self.every_s
        self._paid = clock()                      # when all that is written is within the budget

    def due(self) -> bool:
        return self._clock() > self._next

    def begin(self, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int:
        """The first checkpoint, and its bytes. Raises OSError: a run that cannot save is refused.
        """
        size = self.run_dir.save(tensors, meta)
        self._written(size)
        return size

    def announce(self, size: int) -> None:
        """Says what checkpoints of that size will write a day."""
        pause = max(self.every_s, size / (self.budget * GB) * DAY_S)
        self._say(f"a checkpoint has {size / 1e6:.1f} MB, one is written every {duration(pause)}: "
                  f"{size / GB * DAY_S / max(pause, 1e-9):.1f} GB a day of at most "
                  f"{self.budget:g} (train.write_gb_per_day)")

    def _written(self, size: int) -> None:
        now = self._clock()
        self._paid = max(self._paid, now) + size / (self.budget * GB) * DAY_S
        self._next = max(now + self.every_s, self._paid)

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int | None:
        """Bytes written, or None if that failed and the grace is not over. Raises SaveFailed."""
        try:
            size = self.run_dir.save(tensors, meta, self._newest_is_safe())
        except OSError as error:
            self._failed(error)
            return None
        if self.failing_since is not None:
            self._say(f"saved again at step {meta['step']}")
        self._written(size)
        self.failing_since = None
        self.saved_step = meta["step"]
        return size

    def _newest_is_safe(self) -> bool:
        """Whether the newest file is to be kept. Not after a save that failed in its last steps:
        then the one before is what was promised, and must not make way for it."""
        if self.failing_since is None:
            return True
        try:
            return checkpoint.read_meta(self.run_dir.checkpoint)["step"] == self.saved_step
        except checkpoint.CheckpointError:
            return False

    def _failed(self, error: OSError) -> None:
        now = self._clock()
        if self.failing_since is None:
            self.failing_since = now
        left = self.grace_s - (now - self.failing_since)
        if left <= 0:
            raise self.unsaved(error)
        self._next = now + RETRY_S
        self._say(f"WARNING: not saved: {error.strerror} in {self.run_dir}; the checkpoint of step "
                  f"{self.saved_step} is safe; trying again, for {left / 60:.0f} min at the most")

    def unsaved(self, error: OSError | None = None) -> SaveFailed:
        why = error.strerror if error else "the file system failed"
        return SaveFailed(f"{self.run_dir}: {why}; only the checkpoint of step {self.saved_step} is "
                          f"safe: make room there and run the same command again")
