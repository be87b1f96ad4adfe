"""What a run reports: metrics.jsonl, and one live status line."""
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

PLAIN_EVERY_S = 10.0  # between status lines when the output is not a terminal
LIVE_EVERY_S = 0.2


class Metrics:
    """Appends JSON lines, each with its step. Lines past the resumed step are cut first.

    Lines that the file system refuses are kept and written with a later one.
    """

    def __init__(self, path: Path, step: int):
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            kept = "".join(line + "\n" for line in text.splitlines() if _step_of(line) <= step)
            if kept != text:
                partial = path.with_suffix(".partial")
                partial.write_text(kept, encoding="utf-8")
                os.replace(partial, path)
        self.path, self.pending = path, ""
        self.size = path.stat().st_size if path.exists() else 0

    def write(self, kind: str, step: int, **values: Any) -> None:
        self.pending += json.dumps({"kind": kind, "step": step, **values}) + "\n"
        data = self.pending.encode()
        try:
            with open(self.path, "ab") as file:
                file.truncate(self.size)  # drops what a failed write has left
                file.write(data)
        except OSError:
            return
        self.size, self.pending = self.size + len(data), ""


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
        self.out.write(f"\r\x1b[K{text}" if self.live else text + "\n")
        self.out.flush()
        return True

    def say(self, text: str) -> None:
        """A line that stays."""
        self.out.write(f"\r\x1b[K{text}\n" if self.live else text + "\n")
        self.out.flush()


def duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
