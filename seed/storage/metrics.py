"""What a run reports: lines of JSON in a file, and one live status line."""
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from seed.storage import atomic_file

MAX_PENDING_CHARS = 4 * 2 ** 20   # of lines that wait for the disk
LIVE_EVERY_S = 0.2     # between status lines on a terminal
LOG_EVERY_S = 10.0     # elsewhere


class Metrics:
    """Appends JSON lines, each with its kind and step. Lines past the resumed step are cut first.

    Lines that cannot be written wait in memory, up to a limit, and are written with a later one.
    """

    def __init__(self, path: Path, step: int, log: Callable[[str], object] = lambda text: None,
                 rewritten_kinds: Sequence[str] = ()):
        """`rewritten_kinds` are cut at this very step too: the run is going to write them again.

        Logs when lines cannot be written. Raises OSError if the old ones cannot be cut.
        """
        lines = [line for line, row in _lines(path) if row["step"] < step or
                 row["step"] == step and row.get("kind") not in rewritten_kinds]
        data = "".join(line + "\n" for line in lines).encode()
        if path.exists() and data != path.read_bytes():
            atomic_file.write(path, data)
        self.path, self.pending, self.size = path, "", len(data)
        self._log, self._is_failing = log, False

    def write(self, kind: str, step: int, **values: Any) -> None:
        if len(self.pending) < MAX_PENDING_CHARS:
            self.pending += json.dumps({"kind": kind, "step": step, **values}) + "\n"
        data = self.pending.encode()
        try:
            with open(self.path, "ab") as file:
                file.truncate(self.size)   # drops what a failed write left
                file.write(data)
        except OSError as error:
            if not self._is_failing:
                self._log(f"WARNING: metrics are not written: {error.strerror} in {self.path}; "
                          f"training continues")
            self._is_failing = True
            return
        self.size, self.pending, self._is_failing = self.size + len(data), "", False

    def sync(self) -> None:
        """What was written is on the disk when this returns, unless the disk fails."""
        try:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        except OSError:
            pass   # the next write logs it


def read(path: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of a kind; none if there is no such file."""
    return [row for _, row in _lines(path) if row.get("kind") == kind]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines and what they hold, but for those that a power cut left half written."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if row["step"] < float("inf"):
                yield line, row


def loss_curve(path: Path, points: int = 200) -> list[tuple[int, float]]:
    """At most `points` pairs (last step, mean loss), each of equally many steps, in order."""
    rows = read(path, "step")
    size = max(1, -(-len(rows) // points))
    groups = [rows[i:i + size] for i in range(0, len(rows), size)]
    return [(group[-1]["step"], sum(row["loss"] for row in group) / len(group))
            for group in groups]


class StatusLine:
    """Rewrites one line on a terminal; elsewhere prints a line every LOG_EVERY_S."""

    def __init__(self, clock, out: TextIO = sys.stderr):
        self.clock, self.out, self.is_live, self.last_s = clock, out, out.isatty(), float("-inf")

    def show(self, text: str) -> bool:
        """Shows the line if it is time for one; returns whether it was."""
        now = self.clock()
        if now - self.last_s < (LIVE_EVERY_S if self.is_live else LOG_EVERY_S):
            return False
        self.last_s = now
        self._write(f"\r\x1b[K{text}" if self.is_live else text + "\n")
        return True

    def log(self, text: str) -> None:
        """A line that stays."""
        self._write(f"\r\x1b[K{text}\n" if self.is_live else text + "\n")

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
