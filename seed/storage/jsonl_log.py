"""A file of JSON lines that a run depends on: items of self-play and of a teacher, trials, what
was decided of a robot's brains."""
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from seed.errors import ConfigError
from seed.regular_file import open_regular, parse_json
from seed.storage import atomic_file, lines
from seed.storage.lock import Lock, open_guarded, sync_guarded

Row = TypeVar("Row")
MAX_LOG_BYTES = 2 ** 29   # of rows that are kept in memory


class JsonlLog(Generic[Row]):
    """The rows of a file. A last line that is torn is none, and goes with the next `append`.

    So does, with all that follows, a whole line that is no row, where a row counts only after those
    before it: a power cut may leave the second of two rows that were added together, and not the
    first. With `is_independent` such a line (a flipped bit, a hand, a newer version) stays in the
    file, and the rows after it count. `damage` tells of it.
    """

    def __init__(self, path: Path, parse_fn: Callable[[dict[str, Any]], Row],
                 keep_fn: Callable[[Row], bool] = lambda row: True, held: Lock | None = None,
                 is_independent: bool = False):
        """`parse_fn` makes a row of a line's object; the first row that `keep_fn` refuses and all
        after it are dropped. The file itself changes with the next `append`, if the directory of
        the file is still `held`.

        Raises OSError if the path is a link or no regular file, ConfigError if it is too large.
        """
        self.path, self.rows, self.size, self._held = path, list[Row](), 0, held
        self._is_independent = is_independent
        self.damage = ""   # for a person
        try:
            descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "rb") as file:
            damaged, first = self._read(file, parse_fn, keep_fn, is_independent)
        if damaged:
            self.damage = f"{path} line {first} is " + (
                f"no row of this version ({damaged} in all): it stays there, the others count"
                if is_independent else "damaged: it and what follows does not count")

    def _read(self, file: BinaryIO, parse_fn: Callable[[dict[str, Any]], Row],
              keep_fn: Callable[[Row], bool], is_independent: bool) -> tuple[int, int]:
        """How many lines are no rows, and the number of the first of them."""
        damaged = first = 0
        is_huge = os.fstat(file.fileno()).st_size > MAX_LOG_BYTES
        for number, line in enumerate(lines.forward(file), 1):
            if line and not line.endswith(b"\n"):
                break
            try:
                row = parse_fn(parse_json(line))
                if not keep_fn(row):
                    break
                self.rows.append(row)
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged, first = damaged + 1, first or number
                if not is_independent or is_huge:
                    break
            if line:   # else it is too long, and its end is not read yet
                self.size = file.tell()
            if self.size > MAX_LOG_BYTES:
                raise ConfigError(f"{self.path} has more than {MAX_LOG_BYTES / 2 ** 20:.0f} MB of "
                                  f"rows: use another --run-dir")
        return damaged, first

    def append(self, rows: Sequence[Row], objects: Sequence[dict[str, Any]]) -> bool:
        """Adds rows, with the objects of their lines; they are on the disk when this returns. A
        number that is not finite is null there, as JSON has no other word for it.

        False if they cannot be written, or if rows that are known are no longer in the file, unless
        each is independent: then nothing has changed. Raises LockLost if another process may write
        the file.
        """
        data = "".join(json.dumps(_finite(line), allow_nan=False) + "\n"
                       for line in objects).encode()
        try:
            descriptor = open_guarded(self._held, self.path, os.O_RDWR | os.O_CREAT)
            with os.fdopen(descriptor, "r+b") as file:
                size = os.fstat(descriptor).st_size
                if size < self.size:
                    if not self._is_independent:
                        return False
                    self.size = size   # removed or cut from outside
                    if size and os.pread(descriptor, 1, size - 1) != b"\n":
                        data = b"\n" + data
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


def _finite(value: Any) -> Any:
    """The value with null for each number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
