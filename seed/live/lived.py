"""What was lived: the newest recorded ticks, of which a candidate learns; and what of it stays."""
import os
from pathlib import Path

from seed.body.episodes import FILE_NAME, METADATA
from seed.regular_file import reader
from seed.storage import atomic_file, lines

FIRST = b'"is_first": true'   # of a line, as step_line writes it


def files_of(folder: Path) -> list[Path]:
    """From the oldest to the newest. Raises OSError."""
    return sorted(folder / name for name in os.listdir(folder) if FILE_NAME.fullmatch(name))


def copy_newest(folder: Path, target: Path, max_ticks: int) -> int:
    """Copies the last lines of the files, at most so many but one episode at least, from an
    episode's first step on; returns how many. One that is being written is torn there too, as after
    a power cut. Raises OSError."""
    atomic_file.make_directory(target)
    n, is_full = 0, False
    for number, path in reversed(list(enumerate(files_of(folder)))):
        if is_full:
            break
        with reader(path) as file:
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
                atomic_file.write(target / f"episodes-{number:05}.jsonl",
                                  file.read(end - start))
            n += whole
    atomic_file.copy(folder / METADATA, target / METADATA)
    return n


def remove_oldest(folder: Path, max_bytes: int) -> int:
    """Removes the oldest files while all have more bytes; never the newest, which is being written.
    Returns how many. Raises OSError."""
    files = files_of(folder)
    sizes = [path.stat().st_size for path in files]
    removed = 0
    while removed < len(files) - 1 and sum(sizes[removed:]) > max_bytes:
        atomic_file.remove(files[removed])
        removed += 1
    return removed
