"""A file that is written whole or not at all."""
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from seed.regular_file import reader

ABANDONED_AFTER_S = 3600.0   # a temporary file that old was left by a process that was killed


def write(path: Path, data: bytes) -> None:
    """Replaces a file, or the link in its place; the new one is on the disk when this returns.

    Raises OSError, which names the file; then the old one is still there.
    """
    _replace(path, lambda file: file.write(data))


def copy(source: Path, target: Path) -> None:
    """As `write`, with the contents of `source`."""
    def fill(file: BinaryIO) -> None:
        with reader(source) as data:
            shutil.copyfileobj(data, file, 2 ** 20)
    _replace(target, fill)


def keep_beginning(path: Path, size: int, end: bytes) -> None:
    """As `write`, with the file's own first `size` bytes and `end`."""
    def fill(file: BinaryIO) -> None:
        with reader(path) as data:
            left = size
            while left and (block := data.read(min(left, 2 ** 20))):
                file.write(block)
                left -= len(block)
        file.write(end)
    _replace(path, fill)


def move(source: Path, target: Path) -> None:
    """Renames within a directory; done on the disk when this returns. Raises OSError."""
    directory = _open_directory(target.parent)
    try:
        os.replace(source.name, target.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise
    finally:
        os.close(directory)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _replace(path: Path, fill_fn: Callable[[BinaryIO], object]) -> None:
    """The temporary file has a random name that no other writer and no link can have."""
    try:
        directory = _open_directory(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    prefix = f".{path.name[:200]}."
    partial = f"{prefix}{secrets.token_hex(8)}.partial"
    try:
        _remove_abandoned(directory, prefix)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644,
                             dir_fd=directory)
        with os.fdopen(descriptor, "wb") as file:
            fill_fn(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        with suppress(OSError):
            os.unlink(partial, dir_fd=directory)
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(directory)


def _remove_abandoned(directory: int, prefix: str) -> None:
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and name.endswith(".partial"):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if time.time() - status.st_mtime > ABANDONED_AFTER_S:
                    os.unlink(name, dir_fd=directory)
