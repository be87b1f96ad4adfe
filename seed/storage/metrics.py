"""What a run reports: lines of JSON in a file, and one live status line."""
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from seed.storage import metrics_reader
from seed.storage.lock import Lock, open_guarded, sync_guarded
from seed.terminal_text import escaped

MAX_PENDING_CHARS = 4 * 2 ** 20   # of lines that wait for the disk
LIVE_EVERY_S = 0.2     # between status lines on a terminal
LOG_EVERY_S = 10.0     # elsewhere
DEFAULT_COLUMNS = 80   # of a terminal that does not tell


class Metrics:
    """Appends JSON lines, each with its kind and step. Lines past the resumed step are cut first.

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
            self.pending += json.dumps({"kind": kind, "step": step, **values}) + "\n"
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


class StatusLine:
    """Rewrites one line on a terminal; elsewhere prints a line every LOG_EVERY_S."""

    def __init__(self, clock: Callable[[], float], out: TextIO | None = None):
        """`out` is standard error if not given."""
        out = out or sys.stderr
        self.clock, self.out, self.last_s = clock, out, float("-inf")
        self.is_live = out.isatty() and os.environ.get("TERM") != "dumb"

    def show(self, text: str) -> bool:
        """Shows the line if it is time for one; returns whether it was."""
        now = self.clock()
        if now - self.last_s < (LIVE_EVERY_S if self.is_live else LOG_EVERY_S):
            return False
        self.last_s = now
        text = escaped(text)
        self._write(f"\r\x1b[K{text[:self._columns() - 1]}" if self.is_live else text + "\n")
        return True

    def _columns(self) -> int:
        """Columns of the terminal as it is now: a longer line would wrap."""
        try:
            return os.get_terminal_size(self.out.fileno()).columns or DEFAULT_COLUMNS
        except OSError:
            return DEFAULT_COLUMNS

    def close(self) -> None:
        """Ends the live line, so that what is printed next has a line of its own."""
        if self.is_live and self.last_s > float("-inf"):
            self._write("\n")

    def log(self, text: str) -> None:
        """A line that stays."""
        self._write(f"\r\x1b[K{escaped(text)}\n" if self.is_live else escaped(text) + "\n")

    def _write(self, text: str) -> None:
        """Drops what cannot be written: the output may be a file on a full disk."""
        with contextlib.suppress(OSError):
            self.out.write(text)
            self.out.flush()


def duration(seconds: float) -> str:
    """As h:mm:ss, or m:ss below an hour."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
