"""What a run reports: lines of JSON in a file, and one live status line."""
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from seed.storage import atomic_file

MAX_PENDING_CHARS = 4 * 2 ** 20   # of lines that wait for the disk
PLAIN_EVERY_S = 10.0   # between status lines when the output is not a terminal
LIVE_EVERY_S = 0.2     # when it is


class Metrics:
    """Appends JSON lines, each with its kind and step. Lines past the resumed step are cut first.

    Lines that cannot be written wait in memory, up to a limit, and are written with a later one.
    """

    def __init__(self, path: Path, step: int, log: Callable[[str], object] = lambda text: None,
                 rewritten_kinds: Sequence[str] = ()):
        """`rewritten_kinds` are cut at this very step too: the run is going to write them again.

        Logs when lines cannot be written. Raises OSError if the old ones cannot be cut.
        """
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines() if _step_of(line) < step or
                     _step_of(line) == step and json.loads(line).get("kind") not in rewritten_kinds]
            cut = "".join(line + "\n" for line in lines)
            if cut != text:
                atomic_file.write(path, cut.encode())
        self.path, self.pending, self._log, self._is_failing = path, "", log, False
        self.size = path.stat().st_size if path.exists() else 0

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
    """The lines of a kind, without torn ones; none if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [row for row in map(json.loads, (s for s in lines if _step_of(s) < float("inf")))
            if row.get("kind") == kind]


def loss_curve(path: Path, points: int = 200) -> list[tuple[int, float]]:
    """At most `points` (last step, mean loss) of equally many steps each, in order."""
    rows = read(path, "step")
    size = max(1, -(-len(rows) // points))
    groups = [rows[i:i + size] for i in range(0, len(rows), size)]
    return [(group[-1]["step"], sum(row["loss"] for row in group) / len(group))
            for group in groups]


def _step_of(line: str) -> float:
    """The line's step; infinite for one that a power cut left half written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class StatusLine:
    """Rewrites one line on a terminal; elsewhere prints a plain line every PLAIN_EVERY_S."""

    def __init__(self, clock, out: TextIO = sys.stderr):
        self.clock, self.out, self.is_live, self.last_s = clock, out, out.isatty(), float("-inf")

    def show(self, text: str) -> bool:
        """Shows the line if it is time for one; returns whether it was."""
        now = self.clock()
        if now - self.last_s < (LIVE_EVERY_S if self.is_live else PLAIN_EVERY_S):
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
