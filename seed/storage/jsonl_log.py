"""A file of JSON lines that a run depends on: what it has won or heard beyond its lessons."""
import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


class JsonlLog(Generic[Row]):
    """The rows of a file, up to the first line that is torn or not one of its own."""

    def __init__(self, path: Path, of: Callable[[dict[str, Any]], Row],
                 kept: Callable[[Row], bool] = lambda row: True):
        """`of` makes a row of a line's object; from the first row that is not `kept` on, all is
        dropped. The file itself changes with the next `append`."""
        self.path, self.rows, self.size = path, list[Row](), 0
        data = path.read_bytes() if path.exists() else b""
        for line in io.BytesIO(data):
            try:
                row = of(json.loads(line))
                good = line.endswith(b"\n") and kept(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return
            if not good:
                return
            self.rows.append(row)
            self.size += len(line)

    def append(self, rows: Sequence[Row], objects: Sequence[dict[str, Any]]) -> bool:
        """Adds rows, as the objects of their lines; they are on the disk when it returns.

        False if the disk refuses them: then nothing has changed.
        """
        data = "".join(json.dumps(found) + "\n" for found in objects).encode()
        try:
            with open(self.path, "ab") as file:
                file.truncate(self.size)  # drops what was not kept, or a failed write has left
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):   # a whole line may have come through
                os.truncate(self.path, self.size)
            return False
        self.size += len(data)
        self.rows += rows
        return True

    def clear(self) -> None:
        """No rows, and no file."""
        self.path.unlink(missing_ok=True)
        self.rows.clear()
        self.size = 0
