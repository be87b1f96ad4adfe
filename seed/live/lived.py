"""What was lived: the newest recorded ticks, of which a candidate learns; and what of it stays."""
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from seed.body.episodes import FILE_NAME, METADATA
from seed.regular_file import read_json, reader
from seed.storage import atomic_file, lines

SURPRISE = "surprise.json"
LOOK_EVERY_S = 2.0        # for a newer file
MAX_FILES = 5000          # half of what a directory of episodes may have
MAX_TRIMMED = 20          # files at once, as the disk has to be waited for after each
FIRST = b'"is_first": true'   # of a line, as step_line writes it


def files_of(folder: Path) -> list[Path]:
    """From the oldest to the newest. Raises OSError."""
    return sorted((folder / name for name in os.listdir(folder) if FILE_NAME.fullmatch(name)),
                  key=lambda path: _order(path.name))


def _order(name: str) -> tuple[int, str]:
    """Numbers may have more digits than those before."""
    return len(name), name


def copy_newest(folder: Path, target: Path, max_ticks: int) -> int:
    """Copies the last lines of the files, at most so many but one episode at least, from an
    episode's first step on; returns how many. One that is being written is torn there too, as after
    a power cut. Raises OSError."""
    atomic_file.make_directory(target)
    n, is_full = 0, False
    for path in reversed(files_of(folder)):
        if is_full:
            break
        try:
            file = reader(path)
        except FileNotFoundError:   # it has just been trimmed
            continue
        with file:
            end = start = file.seek(0, os.SEEK_END)
            count = whole = 0
            for at, line in lines.backward(file):
                count += 1
                if FIRST in line:
                    start, whole = at, count
                is_full = n + count >= max_ticks and n + whole > 0
                if is_full:
                    break
            if whole:
                file.seek(start)
                atomic_file.write(target / path.name, file.read(end - start))
            n += whole
    atomic_file.copy(folder / METADATA, target / METADATA)
    return n


class Memory:
    """Which episodes stay: the newest, and of the older ones those that were the most surprising.

    A file of them stays or goes as a whole. Half of the bytes is for the newest files; what no
    longer fits goes from the older ones, beginning with the file whose ticks were on the mean the
    least surprising for the brain that acted. `surprise.json` beside the directory has these means,
    and which files are of before the body's last change. Without a mean a file counts as the least
    surprising.
    """

    def __init__(self, folder: Path, max_bytes: float,
                 clock: Callable[[], float] = time.monotonic):
        self.folder, self._max_bytes, self._clock = folder, max_bytes, clock
        self._path = folder.parent / SURPRISE
        self._means, self.changed_after = _read_means(self._path)
        self._newest, self._next_look_s, self._written = "", -math.inf, ""
        self._sum = self._n = 0.0

    def look(self, surprise: float) -> None:
        """The surprise now counts for the file that is being written."""
        now_s = self._clock()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            with suppress(OSError):
                self._begin(files_of(self.folder)[-1].name)
        if math.isfinite(surprise) and self._newest:
            self._sum, self._n = self._sum + surprise, self._n + 1

    def _begin(self, newest: str) -> None:
        if newest != self._newest and self._n:
            self._means[self._newest] = self._sum / self._n
        if newest != self._newest:
            self._newest, self._sum, self._n = newest, 0.0, 0.0

    def forget_before(self) -> None:
        """The body has changed: the files until now tell of another one."""
        self.changed_after = self._newest

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
        text = json.dumps({"means": self._means, "changed_after": self.changed_after})
        if text != self._written:
            atomic_file.write(self._path, text.encode())
            self._written = text
        return n

    def surprising(self, max_bytes: float) -> list[Path]:
        """The most surprising files since the body's last change, at most so many bytes. Raises
        OSError."""
        files = [path for path in files_of(self.folder)
                 if _order(path.name) > _order(self.changed_after) and path.name in self._means]
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


def _read_means(path: Path) -> tuple[dict[str, float], str]:
    """Empty if there are none or the file is damaged."""
    try:
        fields = read_json(path)
        means = {str(name): float(mean) for name, mean in fields["means"].items()}
        return means, str(fields["changed_after"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, ""
