"""What a dashboard and a supervisor read of a run: status.json and heartbeat, each replaced whole.

In memory (tmpfs) they are replaced each second, on a disk every ten, which wears a card less than
the metrics do; neither is synced. One that cannot be written is told once and stops nothing.
"""
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from seed.errors import LockLost
from seed.storage import atomic_file
from seed.storage.run_dir import RunDir

MEMORY_EVERY_S, DISK_EVERY_S = 1.0, 10.0
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


class StatusFiles:
    """Of the directory that a run directory names for them, or of itself."""

    def __init__(self, run_dir: RunDir, clock: Callable[[], float], log: Callable[[str], object]):
        self.run_dir, self.directory = run_dir, run_dir.status_dir or run_dir.path
        self.every_s = MEMORY_EVERY_S if is_in_memory(self.directory) else DISK_EVERY_S
        self._clock, self._log, self._next_s = clock, log, -math.inf
        self._beats, self._is_failing = 0, False

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._next_s

    def write(self, facts: dict[str, Any]) -> None:
        """Replaces both files now."""
        self._next_s, self._beats = self._clock() + self.every_s, self._beats + 1
        facts = {"time": round(time.time(), 3), "pid": os.getpid(), "beat": self._beats, **facts}
        heartbeat = f"{facts['pid']} {self._beats} {facts['time']:.0f}\n"
        try:
            self._replace({self.run_dir.status.name: json.dumps(_finite(facts)) + "\n",
                           self.run_dir.heartbeat.name: heartbeat})
            self._is_failing = False
        except LockLost:
            pass   # the next save tells it
        except OSError as error:
            if not self._is_failing:
                self._log(f"WARNING: the status is not written: {error.strerror} in "
                          f"{self.directory}; all else continues")
            self._is_failing = True

    def _replace(self, texts: dict[str, str]) -> None:
        """Raises OSError, LockLost."""
        if self.run_dir.held and not self.run_dir.status_dir:
            self.run_dir.held.check()
            self._replace_in(self.run_dir.held.directory, texts)
            return
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._replace_in(directory, texts)
        finally:
            os.close(directory)

    def _replace_in(self, directory: int, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            def fill(file: BinaryIO, data: bytes = text.encode()) -> None:
                if self.run_dir.status_dir:   # for others to read, whatever the umask of a service
                    os.fchmod(file.fileno(), 0o644)
                file.write(data)
            atomic_file.replace_in(directory, name, fill, sync=False)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_in_memory(directory: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether its file system needs no disk; false if that cannot be told."""
    with suppress(OSError, ValueError, IndexError):
        device = os.stat(directory).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in mounts.read_text(errors="replace").splitlines():
            fields = line.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1] in MEMORY_FILE_SYSTEMS
    return False
