"""What a run reports: lines of JSON in a file."""
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seed.storage import metrics_reader
from seed.storage.lock import Lock, open_guarded, sync_guarded

MAX_PENDING_CHARS = 4 * 2 ** 20   # of lines that wait for the disk


class Metrics:
    """Appends JSON lines, each with its kind, step and time. Lines past the resumed step are cut
    first.

    Lines that cannot be written wait in memory, up to a limit, and are written with a later one. A
    file that was truncated, deleted or replaced, as by a rotation of logs, is continued as it is.
    """

    def __init__(self, path: Path, step: int, log: Callable[[str], object] = lambda text: None,
                 rewritten_kinds: Sequence[str] = (), held: Lock | None = None):
        """`rewritten_kinds` are cut at this very step too: the run is going to write them again.
        Lines are written as long as the directory of the file is `held`.

        Logs when lines cannot be written. Raises OSError if the old ones cannot be cut.
        """
        metrics_reader.cut(path, step, rewritten_kinds)
        self.path, self.pending, self._log, self._is_failing = path, "", log, False
        self._held = held
        self._file: tuple[int, int] | None = None   # device and inode of the file of this size
        self.size = 0
        self._synced_name: tuple[int, int] | None = None   # of it, once its name is on the disk

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Raises LockLost if another process may write the file."""
        if len(self.pending) < MAX_PENDING_CHARS:
            line = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
            self.pending += json.dumps(line) + "\n"
        try:
            self._append(self.pending.encode())
        except OSError as error:
            if not self._is_failing:
                self._log(f"WARNING: metrics are not written: {error.strerror} in {self.path}; "
                          f"training continues")
            self._is_failing = True
            return
        self.pending, self._is_failing = "", False

    def _append(self, data: bytes) -> None:
        descriptor = open_guarded(self._held, self.path, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self.size:
                self._file, self.size = (status.st_dev, status.st_ino), status.st_size
                if self.size and os.pread(descriptor, 1, self.size - 1) != b"\n":
                    data = b"\n" + data   # ends a torn line
            if status.st_size > self.size:
                file.truncate(self.size)   # drops what a failed write left
            file.seek(self.size)
            view = memoryview(data)
            while view:
                view = view[file.write(view):]
        self.size += len(data)

    def sync(self) -> None:
        """What was written is on the disk when this returns, unless the disk fails."""
        try:
            descriptor = open_guarded(self._held, self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if self._file != self._synced_name:
                sync_guarded(self._held, self.path)
                self._synced_name = self._file
        except OSError:
            pass   # the next write logs it
