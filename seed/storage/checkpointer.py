"""The checkpoints of a running training: when they are due, and what happens if they fail.

A full, read-only or failing file system does not end a run at once: it trains on, warns, retries
every RETRY_DELAY_S seconds and ends with SaveFailed when train.save_grace_minutes are over. A card
wears by what is written, so periodic saves keep to train.write_gb_per_day; saves that were asked
for count towards it, but never wait.
"""
from collections.abc import Callable
from typing import Any

import numpy as np

from seed.config import TrainConfig
from seed.errors import CheckpointError, SaveFailed
from seed.storage import checkpoint
from seed.storage.metrics import duration
from seed.storage.run_dir import Log, RunDir

RETRY_DELAY_S = 10.0
DAY_S, GB = 86400.0, 1e9


class Checkpointer:
    """Writes checkpoints to a run directory, as often as the profile and the budget allow."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, clock: Callable[[], float], log: Log,
                 saved_step: int):
        self.run_dir, self.every_s = run_dir, config.save_every_minutes * 60
        self.grace_s, self.gb_per_day = config.save_grace_minutes * 60, config.write_gb_per_day
        self._clock, self._log = clock, log
        self.saved_step = saved_step              # of the newest whole checkpoint
        self.failing_since_s: float | None = None
        self._next_s = clock() + self.every_s
        self._budget_free_at_s = clock()          # when all that is written is within the budget

    @property
    def is_due(self) -> bool:
        return self._clock() > self._next_s

    def save_first(self, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int:
        """The first checkpoint; returns its bytes. Raises OSError: a run that cannot save at its
        start does not begin."""
        size = self.run_dir.save(tensors, meta)
        self._schedule_next(size)
        return size

    def log_write_rate(self, size: int) -> None:
        """Logs how much checkpoints of `size` bytes write a day."""
        interval_s = max(self.every_s, self._budget_s(size))
        gb_per_day = size / GB * DAY_S / max(interval_s, 1e-9)
        self._log(f"a checkpoint of {size / 1e6:.1f} MB is saved every {duration(interval_s)}: "
                  f"{gb_per_day:.1f} GB a day of at most {self.gb_per_day:g} "
                  f"(train.write_gb_per_day)")

    def _budget_s(self, size: int) -> float:
        """For how long so many bytes use up the budget."""
        return size / (self.gb_per_day * GB) * DAY_S

    def _schedule_next(self, size: int) -> None:
        now = self._clock()
        self._budget_free_at_s = max(self._budget_free_at_s, now) + self._budget_s(size)
        self._next_s = max(now + self.every_s, self._budget_free_at_s)

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int | None:
        """Bytes written; None if that failed within the grace. Raises SaveFailed after it."""
        try:
            size = self.run_dir.save(tensors, meta, self._is_newest_intact())
        except OSError as error:
            self._handle_failure(error)
            return None
        if self.failing_since_s is not None:
            self._log(f"saved again at step {meta['step']}")
        self._schedule_next(size)
        self.failing_since_s = None
        self.saved_step = meta["step"]
        return size

    def _is_newest_intact(self) -> bool:
        """Whether the newest file is worth keeping as the previous generation. Not after a save
        that failed in its last steps: then the previous one is the one that was reported safe."""
        if self.failing_since_s is None:
            return True
        try:
            return checkpoint.read_meta(self.run_dir.checkpoint)["step"] == self.saved_step
        except CheckpointError:
            return False

    def _handle_failure(self, error: OSError) -> None:
        now = self._clock()
        if self.failing_since_s is None:
            self.failing_since_s = now
        left_s = self.grace_s - (now - self.failing_since_s)
        if left_s <= 0:
            raise SaveFailed(self.unsaved_message(error)) from None
        self._next_s = now + RETRY_DELAY_S
        self._log(f"WARNING: not saved: {error.strerror} in {self.run_dir}; the checkpoint of step "
                  f"{self.saved_step} is safe; retrying for at most {left_s / 60:.0f} min")

    def unsaved_message(self, error: OSError | None = None) -> str:
        reason = error.strerror if error else "the file system failed"
        return (f"{self.run_dir}: {reason}; only the checkpoint of step {self.saved_step} is safe: "
                f"free space there and run the same command again")
