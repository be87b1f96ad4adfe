"""A file that is written whole or not at all, and names that are on the disk once they are told.

A temporary file is locked while it is written. One that nobody holds was left by a writer that was
killed: the next writer removes it, whatever a clock says that a power cut has set back.
"""
import errno
import fcntl
import os
import re
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from seed.regular_file import blocks, open_regular

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.partial")
MAX_LOST = 10   # temporary files that another process took for abandoned, before they were locked


def write(path: Path, data: bytes) -> None:
    """Replaces a file, or the link in its place; the new one is on the disk when this returns.

    Raises OSError, which names the file; then the old one is still there.
    """
    _replace(path, lambda file: file.write(data))


def copy(source: Path, target: Path, max_bytes: int = sys.maxsize) -> None:
    """As `write`, with the contents of `source`, or so many first bytes of it."""
    def fill(file: BinaryIO) -> None:
        for block in blocks(source, max_bytes):
            file.write(block)
    _replace(target, fill)


def keep_beginning(path: Path, size: int, end: bytes) -> None:
    """As `write`, with the file's own first `size` bytes and `end`."""
    def fill(file: BinaryIO) -> None:
        for block in blocks(path, size):
            file.write(block)
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


def remove(path: Path) -> None:
    """Removes a file, if it is there; done on the disk when this returns. Raises OSError."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """With its parents, if they are not there; on the disk when this returns. Raises OSError."""
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent)
    path.mkdir(exist_ok=True)
    with suppress(PermissionError):   # a parent that cannot be read
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """The names in a directory are on the disk when this returns. Raises OSError."""
    directory = _open_directory(path)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _replace(path: Path, fill_fn: Callable[[BinaryIO], object]) -> None:
    try:
        directory = _open_directory(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        replace_in(directory, path.name, fill_fn)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(directory)


def replace_in(directory: int, name: str, fill_fn: Callable[[BinaryIO], object],
               previous: str = "", sync: bool = True) -> None:
    """As `write`, in an open directory; the old file, if there is one, is then named `previous`.
    Without `sync` it is whole for every reader, but not on the disk at once.

    The temporary file has a random name that no other writer and no link can have.
    """
    prefix, partial = f".{name[:200]}.", ""
    try:
        remove_abandoned(directory, prefix)
        partial, descriptor = _open_temporary(directory, prefix)
        with os.fdopen(descriptor, "wb") as file:
            fill_fn(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            if previous and os.access(name, os.F_OK, dir_fd=directory):
                os.replace(name, previous, src_dir_fd=directory, dst_dir_fd=directory)
            os.replace(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
        if sync:
            os.fsync(directory)
    except OSError:
        with suppress(OSError):
            os.unlink(partial, dir_fd=directory)
        raise


def _open_temporary(directory: int, prefix: str) -> tuple[str, int]:
    """Name and descriptor of a new file that this process has locked. Raises OSError."""
    for _ in range(MAX_LOST):
        name = f"{prefix}{secrets.token_hex(8)}.partial"
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644,
                             dir_fd=directory)
        if _lock(descriptor) and _has_name(directory, name):
            return name, descriptor
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "temporary files vanish")


def _lock(descriptor: int) -> bool:
    """False if another process holds the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:   # a file system without locks: there nobody takes it for abandoned
        pass
    return True


def _has_name(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove_abandoned(directory: int, prefix: str = ".") -> None:
    """Removes temporary files whose writers were killed, of names with that prefix."""
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and TEMPORARY.fullmatch(name):
                with suppress(OSError):
                    _remove_if_abandoned(directory, name)


def _remove_if_abandoned(directory: int, name: str) -> None:
    """Raises OSError if a process holds it."""
    descriptor = open_regular(name, os.O_WRONLY | os.O_NOFOLLOW, directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    finally:
        os.close(descriptor)
