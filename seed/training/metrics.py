"""What a run reports: metrics.jsonl, and one live status line."""
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

PLAIN_EVERY_S = 10.0  # between status lines when the output is not a terminal
LIVE_EVERY_S = 0.2


class Metrics:
    """Appends JSON lines, each with its step. Lines past the resumed step are cut first."""

    def __init__(self, path: Path, step: int):
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines()
                    if _step_of(line) <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(partial, path)
        self.path = path

    def write(self, kind: str, step: int, **values: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")


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

    def show(self, text: str) -> None:
        now = self.clock()
        if now - self.last < (LIVE_EVERY_S if self.live else PLAIN_EVERY_S):
            return
        self.last = now
        self.out.write(f"\r\x1b[K{text}" if self.live else text + "\n")
        self.out.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.out.write(f"\r\x1b[K{text}\n" if self.live else text + "\n")
        self.out.flush()


def duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
