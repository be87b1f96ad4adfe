"""What was lived: the newest recorded ticks, of which a candidate learns; and what of it stays."""
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from seed.body.episodes import FILE_NAME, METADATA
from seed.regular_file import read_json, reader
from seed.runtime.recording import PERIOD_S
from seed.storage import atomic_file, lines

SURPRISE = "surprise.json"
LOOK_EVERY_S = 2.0        # for a newer file
MAX_LAG_S = LOOK_EVERY_S + PERIOD_S   # of what is known to be recorded, behind what was lived
MAX_FILES = 5000          # half of what a directory of episodes may have
MAX_TRIMMED = 20          # files at once, as the disk has to be waited for after each
# Of a line, as step_line writes it.
FIRST, INSIDE, LAST = b'"is_first": true', b'"is_first": false', b'"is_last": true'


class Position(NamedTuple):
    """In a directory of episodes: so many bytes of that file, and all older files, come before."""
    file: str = ""
    size: int = 0

    def is_before(self, path: Path, start: int) -> bool:
        """Whether a line that starts there comes after this position."""
        return (_order(self.file), self.size) <= (_order(path.name), start)


def files_of(folder: Path) -> list[Path]:
    """From the oldest to the newest. Raises OSError."""
    return sorted((folder / name for name in os.listdir(folder) if FILE_NAME.fullmatch(name)),
                  key=lambda path: _order(path.name))


def _order(name: str) -> tuple[int, str]:
    """Numbers may have more digits than those before."""
    return len(name), name


def newest_ticks(folder: Path) -> Iterator[tuple[Path, int]]:
    """(file, where its line starts) of each tick with an action, from the last one back. Raises
    OSError."""
    for path in reversed(files_of(folder)):
        try:
            file = reader(path)
        except FileNotFoundError:   # it has just been trimmed
            continue
        with file:
            for start, line in lines.backward(file):
                if LAST not in line:
                    yield path, start


def copy_newest(folder: Path, target: Path, max_ticks: int, since: Position = Position(),
                own_since: Position | None = None) -> tuple[int, int]:
    """Copies the newest ticks of those since a position, at most so many; the first of them begins
    an episode. Returns how many, and how many of these are since `own_since` (None: none is). One
    that is being written is torn there too, as after a power cut. Raises OSError."""
    atomic_file.make_directory(target)
    starts = dict[Path, int]()   # where what is copied of a file begins
    n = n_own = 0
    for path, start in islice(newest_ticks(folder), max_ticks):
        if not since.is_before(path, start):
            break
        starts[path], n = start, n + 1
        n_own += own_since is not None and own_since.is_before(path, start)
    for path, start in starts.items():
        with suppress(FileNotFoundError), reader(path) as file:
            file.seek(start)
            first, rest = file.readline(), file.read()
            atomic_file.write(target / path.name, first.replace(INSIDE, FIRST) + rest)
    atomic_file.copy(folder / METADATA, target / METADATA)
    return n, n_own


class Memory:
    """Which episodes stay: the newest, and of the older ones those that were the most surprising.

    A file of them stays or goes as a whole. Half of the bytes is for the newest files; what no
    longer fits goes from the older ones, beginning with the file whose ticks were on the mean the
    least surprising for the brain that acted. `surprise.json` beside the directory has these means,
    and what was recorded before the body's last change. Without a mean a file counts as the least
    surprising. What is recorded is not what is lived: not while the brain is held back, the disk is
    full or the budget is spent.
    """

    def __init__(self, folder: Path, max_bytes: float,
                 clock: Callable[[], float] = time.monotonic):
        self.folder, self._max_bytes, self._clock = folder, max_bytes, clock
        self._path = folder.parent / SURPRISE
        self._means, self.changed_at = _read_means(self._path)
        self._newest, self._next_look_s, self._written = "", -math.inf, ""
        self._sum = self._n = 0.0
        self.recorded = Position()   # until the last look
        self.own_since: Position | None = None   # of the brain that acts; None until the next look
        self._look_at_files()

    def look(self, surprise: float) -> None:
        """The surprise now counts for the file that is being written."""
        now_s = self._clock()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            before = self.recorded.file
            self._look_at_files()
            self._begin(self.recorded.file)
            if self.own_since is None:   # a brain that begins to act begins a file
                is_same = self.recorded.file == before
                self.own_since = self.recorded if is_same else Position(self.recorded.file)
        if math.isfinite(surprise) and self._newest:
            self._sum, self._n = self._sum + surprise, self._n + 1

    def _begin(self, newest: str) -> None:
        if newest != self._newest and self._n:
            self._means[self._newest] = self._sum / self._n
        if newest != self._newest:
            self._newest, self._sum, self._n = newest, 0.0, 0.0

    def _look_at_files(self) -> None:
        with suppress(OSError, IndexError):   # there is none yet
            newest = files_of(self.folder)[-1]
            self.recorded = Position(newest.name, newest.stat().st_size)

    def forget_before(self, position: Position) -> None:
        """The body has changed: what was recorded until there tells of another one."""
        self.changed_at = position

    def begin_own(self) -> None:
        """From now on another brain acts, or the same in another way."""
        self.own_since = None

    def trim(self) -> int:
        """Removes some of what is too much, and returns how many files. Raises OSError."""
        files = files_of(self.folder)
        sizes = {path: path.stat().st_size for path in files}
        recent = _last(files, sizes, self._max_bytes / 2)
        older = sorted(files[:len(files) - len(recent)],   # of equal ones the oldest first
                       key=lambda path: self._means.get(path.name, -math.inf))
        n, total = 0, sum(sizes.values())
        while older[n:MAX_TRIMMED] and (total > self._max_bytes or len(files) - n > MAX_FILES):
            atomic_file.remove(older[n])
            total, n = total - sizes[older[n]], n + 1
        names = {path.name for path in files} - {path.name for path in older[:n]}
        self._means = {name: mean for name, mean in self._means.items() if name in names}
        text = json.dumps({"means": self._means, "changed_at": self.changed_at})
        if text != self._written:
            atomic_file.write(self._path, text.encode())
            self._written = text
        return n

    def surprising(self, max_bytes: float) -> list[Path]:
        """The most surprising files since the body's last change, at most so many bytes. Raises
        OSError."""
        files = [path for path in files_of(self.folder)
                 if _order(path.name) > _order(self.changed_at.file) and path.name in self._means]
        ranked = sorted(files, key=lambda path: self._means[path.name])
        return _last(ranked, {path: path.stat().st_size for path in files}, max_bytes)


def _last(files: Sequence[Path], sizes: Mapping[Path, int], max_bytes: float) -> list[Path]:
    """As many from the end as have so many bytes together, but one at least."""
    n, total = 0, 0.0
    for path in reversed(files):
        total += sizes[path]
        if n and total > max_bytes:
            break
        n += 1
    return list(files[len(files) - n:])


def _read_means(path: Path) -> tuple[dict[str, float], Position]:
    """Empty if there are none or the file is damaged."""
    try:
        fields = read_json(path)
        means = {str(name): float(mean) for name, mean in fields["means"].items()}
        file, size = fields["changed_at"]
        return means, Position(str(file), int(size))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, Position()
