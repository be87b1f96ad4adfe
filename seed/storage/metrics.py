"""What a run reports: metrics.jsonl, and one live status line."""
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from seed.storage import atomic_file

MOST_PENDING = 4 * 2 ** 20   # characters of lines that wait for the disk
PLAIN_EVERY_S = 10.0  # between status lines when the output is not a terminal
LIVE_EVERY_S = 0.2


class Metrics:
    """Appends JSON lines, each with its step. Lines past the resumed step are cut first.

    Lines that the file system refuses are kept, as long as they take little memory, and written
    with a later one.
    """

    def __init__(self, path: Path, step: int, warn: Callable[[str], None] = lambda text: None,
                 again: Sequence[str] = ()):
        """`warn` is told when lines are refused; `again`: kinds of lines of this very step that are
        going to be written again. Raises OSError if the old ones cannot be cut."""
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            kept = "".join(line + "\n" for line in text.splitlines() if _step_of(line) < step or
                           _step_of(line) == step and json.loads(line).get("kind") not in again)
            if kept != text:
                atomic_file.write(path, kept.encode())
        self.path, self.pending, self.warn, self.refused = path, "", warn, False
        self.size = path.stat().st_size if path.exists() else 0

    def write(self, kind: str, step: int, **values: Any) -> None:
        if len(self.pending) < MOST_PENDING:
            self.pending += json.dumps({"kind": kind, "step": step, **values}) + "\n"
        data = self.pending.encode()
        try:
            with open(self.path, "ab") as file:
                file.truncate(self.size)  # drops what a failed write has left
                file.write(data)
        except OSError as error:
            if not self.refused:
                self.warn(f"WARNING: nothing is logged: {error.strerror} in {self.path}")
            self.refused = True
            return
        self.size, self.pending, self.refused = self.size + len(data), "", False

    def sync(self) -> None:
        """What was written is on the disk when it returns, if the disk can."""
        try:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        except OSError:
            pass  # a write says so


def read(path: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind; none if there is no such file. A torn line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [row for row in map(json.loads, (s for s in lines if _step_of(s) < float("inf")))
            if row.get("kind") == kind]


def loss_curve(path: Path, points: int = 200) -> list[tuple[int, float]]:
    """At most so many (last step, mean loss) of a run's steps, in order."""
    rows = read(path, "step")
    size = max(1, -(-len(rows) // points))
    parts = [rows[i:i + size] for i in range(0, len(rows), size)]
    return [(part[-1]["step"], sum(row["loss"] for row in part) / len(part)) for part in parts]


def _step_of(line: str) -> float:
    """The line's step; infinite for a line that a power cut left half written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class StatusLine:
    """Rewrites one line on a terminal; elsewhere prints a plain line now and then."""

    def __init__(self, clock, out: TextIO = sys.stderr):
        self.clock, self.out, self.live, self.last = clock, out, out.isatty(), -1e9

    def show(self, text: str) -> bool:
        """Whether it was time to show the line."""
        now = self.clock()
        if now - self.last < (LIVE_EVERY_S if self.live else PLAIN_EVERY_S):
            return False
        self.last = now
        self._write(f"\r\x1b[K{text}" if self.live else text + "\n")
        return True

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(f"\r\x1b[K{text}\n" if self.live else text + "\n")

    def _write(self, text: str) -> None:
        """Lost if it is refused: a file of a full disk may be behind it, and the run goes on."""
        with contextlib.suppress(OSError):
            self.out.write(text)
            self.out.flush()


def duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
