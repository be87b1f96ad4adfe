"""The lines of a metrics file, each once, also while a run writes it."""
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.regular_file import reader
from seed.storage import lines
from seed.storage.metrics_reader import parse_row

MARK_BYTES = 256   # before the place that was read up to: they show whether the file was cut


class MetricsFollower:
    """`add_fn` gets each valid line's object; `begin_fn` is called where none of those before
    count any more: the file was cut, as a run does that resumes, or it is another one."""

    def __init__(self, path: Path, begin_fn: Callable[[], object],
                 add_fn: Callable[[dict[str, Any]], object]):
        self._path, self._begin, self._add = path, begin_fn, add_fn
        self._size, self._mark = 0, b""

    def read(self) -> None:
        """What was added since the last time. Raises OSError; a file that is not there is empty."""
        try:
            file = reader(self._path)
        except FileNotFoundError:
            self._restart()
            return
        with file:
            start = self._size - len(self._mark)
            if os.pread(file.fileno(), len(self._mark), start) != self._mark:
                self._restart()
            file.seek(self._size)
            for line in lines.forward(file):
                if line and not line.endswith(b"\n"):
                    break   # it is being written
                row = parse_row(line)
                if row:
                    self._add(row)
                if line:   # else it is too long, and its end is not read yet
                    self._size = file.tell()
            start = max(0, self._size - MARK_BYTES)
            self._mark = os.pread(file.fileno(), self._size - start, start)

    def _restart(self) -> None:
        if self._size:
            self._begin()
        self._size, self._mark = 0, b""
