"""The brains of before adaptations, which `seed adapt --undo` brings back, the newest first.

Each is a whole checkpoint file. A level may be empty: the newest brain is that of the lowest level
that is there. So an undo is a single rename, and a publication that a power cut has interrupted is
completed by the next command, whatever it had moved.
"""
import filecmp
from pathlib import Path
from typing import Any

import numpy as np

from seed.errors import ConfigError
from seed.regular_file import reader
from seed.storage import atomic_file, checkpoint
from seed.storage.run_dir import RunDir


def publish(run_dir: RunDir, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Saves the adapted brain; the one before becomes the newest level, and the oldest is dropped
    if all are taken. Raises OSError; then nothing is lost."""
    atomic_file.copy(run_dir.checkpoint, run_dir.staged_checkpoint)
    run_dir.save(tensors, meta)
    settle(run_dir)


def settle(run_dir: RunDir) -> None:
    """Completes a publication, also one that was killed, so that the newest level is always the
    brain before the present adaptation. Raises OSError."""
    staged, levels = run_dir.staged_checkpoint, run_dir.undo_levels
    if not staged.exists():
        return
    reader(staged).close()   # a directory in its place is named
    if filecmp.cmp(staged, run_dir.checkpoint, shallow=False):
        staged.unlink()   # the adapted brain was not saved
        return
    free = next((i for i, path in enumerate(levels) if not path.exists()), len(levels) - 1)
    for i in range(free, 0, -1):
        atomic_file.move(levels[i - 1], levels[i])
    atomic_file.move(staged, levels[0])


def newest_level(run_dir: RunDir) -> Path | None:
    """The brain of before the present adaptation."""
    return next((path for path in run_dir.undo_levels if path.exists()), None)


def restore(run_dir: RunDir) -> None:
    """Brings back the brain of before the last adaptation, bit for bit; the directory is locked.

    Raises ConfigError if there is none or if the brain was trained since, CheckpointError if it is
    damaged.
    """
    newest = run_dir.recover(lambda text: None)
    if newest:
        settle(run_dir)
    before = newest_level(run_dir)
    if not before:
        raise ConfigError(f"{run_dir} has no brain of before an adaptation: nothing to undo")
    checkpoint.read(before)
    if newest and "adapted" not in newest.meta:
        raise ConfigError(f"the brain in {run_dir} was trained since its adaptation, and would "
                          f"lose that: to restore the one before all the same, rename "
                          f"{before.name} to {run_dir.checkpoint.name}")
    atomic_file.move(before, run_dir.checkpoint)
