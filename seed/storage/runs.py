"""The runs of a folder, and which of them a command means that names none.

Only status files and times are read, without numpy: a training asks before it watches signals.
"""
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from seed.regular_file import read_json
from seed.storage.lock import is_held
from seed.storage.run_dir import RunDir

RUNS = Path("runs")   # in the working directory
NUMBER = re.compile("[1-9][0-9]{0,8}")   # of a run; a longer one may have no next name


def runs_in(folder: Path) -> list[RunDir]:
    """The directories in a folder that have a checkpoint, the newest last."""
    times: list[tuple[float, Path]] = []
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith("."):   # it is being deleted
                continue
            with suppress(OSError):
                times.append((RunDir(path).checkpoint.stat().st_mtime, path))
    return [RunDir(path) for _, path in sorted(times)]


def run_to_train(profile: str, folder: Path = RUNS) -> RunDir:
    """The numbered run that the same command has begun and not ended, else the next number.

    `profile`: its name. One that another process trains is left to it.
    """
    numbers = [0]
    with suppress(OSError):
        numbers += [int(name) for name in os.listdir(folder) if NUMBER.fullmatch(name)]
    newest = RunDir(folder / str(max(numbers)))
    status = read_status(newest)
    is_open = status.get("state") != "finished" and status.get("profile", profile) == profile
    if newest.path.is_dir() and is_open and not is_held(newest.lock):
        return newest
    return RunDir(folder / str(max(numbers) + 1))


def read_status(run_dir: RunDir) -> dict[str, Any]:
    """What the last training there has said of itself (docs/board.md); empty if that is not known.
    It is not synced: after a power cut it may be old."""
    try:
        status = read_json(run_dir.status)
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
