"""A file of JSON lines that a run depends on: items of self-play and of a teacher, trials."""
import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


class JsonlLog(Generic[Row]):
    """The rows of a file, up to the first line that is torn or invalid."""

    def __init__(self, path: Path, parse_fn: Callable[[dict[str, Any]], Row],
                 keep_fn: Callable[[Row], bool] = lambda row: True):
        """`parse_fn` makes a row of a line's object; the first row that `keep_fn` refuses and all
        after it are dropped. The file itself changes with the next `append`."""
        self.path, self.rows, self.size = path, list[Row](), 0
        data = path.read_bytes() if path.exists() else b""
        for line in io.BytesIO(data):
            try:
                row = parse_fn(json.loads(line))
                is_kept = line.endswith(b"\n") and keep_fn(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return
            if not is_kept:
                return
            self.rows.append(row)
            self.size += len(line)

    def append(self, rows: Sequence[Row], objects: Sequence[dict[str, Any]]) -> bool:
        """Adds rows, with the objects of their lines; they are on the disk when this returns.

        False if they cannot be written: then nothing has changed.
        """
        data = "".join(json.dumps(line) + "\n" for line in objects).encode()
        try:
            with open(self.path, "ab") as file:
                file.truncate(self.size)   # drops refused rows, and what a failed write left
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):   # a whole line may have been written
                os.truncate(self.path, self.size)
            return False
        self.size += len(data)
        self.rows += rows
        return True

    def clear(self) -> None:
        """Removes all rows and the file."""
        self.path.unlink(missing_ok=True)
        self.rows.clear()
        self.size = 0
