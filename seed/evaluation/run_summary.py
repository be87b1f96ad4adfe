"""A run in a line: read from its files, without loading its brain."""
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import CheckpointError
from seed.evaluation.exact_match import Score, mean_of_levels
from seed.storage import checkpoint, metrics_reader
from seed.storage.lock import is_held
from seed.storage.run_dir import RunDir
from seed.storage.runs import read_status

ENDED = ("finished", "stopped", "failed")   # what a training says of itself last
DAMAGED = "damaged"


class RunSummary(NamedTuple):
    run: str
    profile: str
    step: int
    right: float | None   # of held-out questions in the last evaluation, the mean of all levels
    size_mb: float        # of all its files
    saved_time: float     # Unix time of the checkpoint
    state: str            # in use, finished, stopped, failed or damaged; unknown


def summary(run_dir: RunDir) -> RunSummary:
    """Of a directory with a checkpoint. Raises OSError if that has gone meanwhile."""
    saved_time, step, profile = run_dir.checkpoint.stat().st_mtime, 0, "?"
    state = str(read_status(run_dir).get("state"))
    state = "in use" if is_held(run_dir.lock) else state if state in ENDED else "unknown"
    try:
        meta = checkpoint.read_meta(run_dir.checkpoint)
        step, profile = int(meta["step"]), str(meta["profile"]["name"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        state = DAMAGED
    return RunSummary(str(run_dir), profile, step, _right(run_dir), size_mb(run_dir.path),
                      saved_time, state)


def _right(run_dir: RunDir) -> float | None:
    rows: Sequence[dict[str, Any]] = ()
    with suppress(OSError):
        for row in metrics_reader.rows(run_dir.metrics, "eval"):
            rows = row["scores"] or rows
    return mean_of_levels([Score.from_dict(row) for row in rows]).accuracy if rows else None


def size_mb(folder: Path) -> float:
    """Of the files in it; links are not followed."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.lstat().st_size if not path.is_dir() else 0
    return size / 2 ** 20
