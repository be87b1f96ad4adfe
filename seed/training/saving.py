"""Checkpoints of a running training: when they are due, and what if they cannot be written.

A full, read-only or failing file system does not end a run at once: it trains on unsaved, says so,
tries again every RETRY_S seconds, and gives up when the grace is over.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seed.training import checkpoint

RETRY_S = 10.0


class Unsaved(RuntimeError):
    """What was learnt cannot be saved; the message is one line that says why and what is safe."""


class Saving:
    """Writes checkpoints to a run directory, every `every_s` seconds if asked when due."""

    def __init__(self, run_dir: Path, every_s: float, grace_s: float, clock: Callable[[], float],
                 say: Callable[[str], None], saved_step: int):
        self.run_dir, self.every_s, self.grace_s = run_dir, every_s, grace_s
        self._clock, self._say = clock, say
        self.saved_step = saved_step              # of the newest checkpoint that is whole
        self.failing_since: float | None = None
        self._next = clock() + every_s

    def due(self) -> bool:
        return self._clock() > self._next

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int | None:
        """Bytes written, or None if that failed and the grace is not over. Raises Unsaved."""
        try:
            size = checkpoint.save(self.run_dir, tensors, meta)
        except OSError as error:
            self._failed(error)
            return None
        if self.failing_since is not None:
            self._say(f"saved again at step {meta['step']}")
        self.failing_since, self._next = None, self._clock() + self.every_s
        self.saved_step = meta["step"]
        return size

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

    def unsaved(self, error: OSError | None = None) -> Unsaved:
        why = error.strerror if error else "the file system failed"
        return Unsaved(f"{self.run_dir}: {why}; only the checkpoint of step {self.saved_step} is "
                       f"safe: make room there and run the same command again")
