"""A file of JSON lines that a run depends on: items of self-play and of a teacher, trials."""
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from seed.errors import ConfigError
from seed.regular_file import open_regular, parse_json
from seed.storage import atomic_file, lines
from seed.storage.lock import Lock, open_guarded, sync_guarded

Row = TypeVar("Row")
MAX_LOG_BYTES = 2 ** 29   # of rows that are kept in memory


class JsonlLog(Generic[Row]):
    """The rows of a file, up to the first line that is torn or invalid."""

    def __init__(self, path: Path, parse_fn: Callable[[dict[str, Any]], Row],
                 keep_fn: Callable[[Row], bool] = lambda row: True, held: Lock | None = None):
        """`parse_fn` makes a row of a line's object; the first row that `keep_fn` refuses and all
        after it are dropped. The file itself changes with the next `append`, if the directory of
        the file is still `held`.

        Raises OSError if the path is a link or no regular file, ConfigError if it is too large.
        """
        self.path, self.rows, self.size, self._held = path, list[Row](), 0, held
        try:
            descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "rb") as file:
            for line in lines.forward(file):
                try:
                    row = parse_fn(parse_json(line))
                    is_kept = line.endswith(b"\n") and keep_fn(row)
                except (ValueError, KeyError, TypeError, AttributeError):
                    return
                if not is_kept:
                    return
                self.rows.append(row)
                self.size += len(line)
                if self.size > MAX_LOG_BYTES:
                    raise ConfigError(f"{path} has more than {MAX_LOG_BYTES / 2 ** 20:.0f} MB of "
                                      f"rows: use another --run-dir")

    def append(self, rows: Sequence[Row], objects: Sequence[dict[str, Any]]) -> bool:
        """Adds rows, with the objects of their lines; they are on the disk when this returns.

        False if they cannot be written, or if rows that are known are no longer in the file: then
        nothing has changed. Raises LockLost if another process may write the file.
        """
        data = "".join(json.dumps(line) + "\n" for line in objects).encode()
        try:
            descriptor = open_guarded(self._held, self.path, os.O_WRONLY | os.O_CREAT)
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(descriptor).st_size < self.size:
                    return False
                file.truncate(self.size)   # drops refused rows, and what a failed write left
                file.seek(self.size)
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                    if not self.size:   # the file may be new
                        sync_guarded(self._held, self.path)
                except OSError:
                    os.ftruncate(descriptor, self.size)   # a whole line may have been written
                    raise
        except OSError:
            return False
        self.size += len(data)
        self.rows += rows
        return True

    def clear(self) -> None:
        """Removes all rows and the file; it is off the disk when this returns."""
        atomic_file.remove(self.path)
        self.rows.clear()
        self.size = 0
