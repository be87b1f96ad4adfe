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
from seed.storage.run_dir import Log, RunDir
from seed.terminal_text import duration

RETRY_DELAY_S = 10.0
DAY_S, GB = 86400.0, 1e9


class Checkpointer:
    """Writes checkpoints to a run directory, as often as the profile and the budget allow."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, clock: Callable[[], float], log: Log,
                 saved_step: int | None):
        self.run_dir, self.every_s = run_dir, config.save_every_minutes * 60
        self.grace_s, self.gb_per_day = config.save_grace_minutes * 60, config.write_gb_per_day
        self._clock, self._log = clock, log
        self.saved_step = saved_step       # of the newest whole checkpoint; None: there is none
        self._failing_since_s: float | None = None
        self._next_s = clock() + self.every_s
        self._budget_free_at_s = clock()   # when all that is written is within the budget

    @property
    def is_due(self) -> bool:
        return self._clock() > self._next_s

    def log_write_rate(self, size: int) -> None:
        """Logs how much checkpoints of `size` bytes write a day."""
        interval_s = max(self.every_s, self._budget_s(size))
        gb_per_day = size / GB * DAY_S / max(interval_s, 1e-9)
        self._log(f"{size / 1e6:.1f} MB are saved every {duration(interval_s)}: {gb_per_day:.1f} "
                  f"of {self.gb_per_day:g} GB a day")

    def _budget_s(self, size: int) -> float:
        """For how long so many bytes use up the budget."""
        return size / (self.gb_per_day * GB) * DAY_S

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any],
             must_succeed: bool = False) -> int | None:
        """Bytes written; None if that failed within the grace. Raises SaveFailed after the grace or
        if it `must_succeed` at once; OSError if there is no checkpoint yet."""
        try:
            size = self.run_dir.save(tensors, meta, self._is_newest_intact())
        except OSError as error:
            if self.saved_step is None:
                raise
            self._handle_failure(error, must_succeed)
            return None
        if self._failing_since_s is not None:
            self._log(f"saved again at step {meta['step']}")
        self._failing_since_s, self.saved_step, now_s = None, meta["step"], self._clock()
        self._budget_free_at_s = max(self._budget_free_at_s, now_s) + self._budget_s(size)
        self._next_s = max(now_s + self.every_s, self._budget_free_at_s)
        return size

    def _is_newest_intact(self) -> bool:
        """Whether the newest file is worth keeping as the previous generation. Not after a save
        that failed in its last steps: then the previous one is the one that was reported safe."""
        if self._failing_since_s is None:
            return True
        try:
            return checkpoint.read_meta(self.run_dir.checkpoint)["step"] == self.saved_step
        except CheckpointError:
            return False

    def _handle_failure(self, error: OSError, must_succeed: bool) -> None:
        now_s = self._clock()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        left_s = self.grace_s - (now_s - self._failing_since_s)
        if left_s <= 0 or must_succeed:
            raise SaveFailed(
                f"{self.run_dir}: {error.strerror}; only the checkpoint of step {self.saved_step} "
                f"is safe: make the disk writable or free space, and run the same command again")
        self._next_s = now_s + RETRY_DELAY_S
        self._log(f"WARNING: not saved: {error.strerror} in {self.run_dir}; the checkpoint of step "
                  f"{self.saved_step} is safe; retrying for at most {left_s / 60:.0f} min")
