"""One writer at a time in a run directory. The kernel drops the lock when its holder dies.

The lock guards a name and what is behind it: a lock file that was deleted or replaced, and a
directory that was renamed, are noticed before each save. The journals that belong to the directory
are written through its descriptor, after the same check.
"""
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seed.errors import InUse, LockLost
from seed.regular_file import open_regular
from seed.storage import atomic_file

HOLDER_WAIT_S = 1.0    # for a holder that may be about to end
READER_WAIT_S = 10.0   # for a process that only reads the file: none that is named in it lives
RETRY_DELAY_S = 0.05


class Lock(NamedTuple):
    """A lock that is held, with a descriptor of the directory that it guards."""
    path: Path
    descriptor: int
    directory: int

    def check(self) -> None:
        """Raises LockLost if the directory no longer has this lock: another may write there."""
        try:
            status = os.stat(self.path.name, dir_fd=self.directory, follow_symlinks=False)
            is_held = os.path.samestat(status, os.fstat(self.descriptor))
        except OSError:
            is_held = False
        if not is_held:
            raise LockLost(f"{self.path} was deleted or replaced during the run: another process "
                           f"may have the directory, so nothing was saved; run the same command "
                           f"again to resume from the last checkpoint")

    def moved_to(self) -> str | None:
        """Where the directory is now, if its path leads elsewhere; it still has the lock."""
        if _is_at(self.directory, self.path.parent):
            return None
        try:
            return os.readlink(f"/proc/self/fd/{self.directory}")
        except OSError:
            return "another place"


def open_guarded(held: Lock | None, path: Path, flags: int) -> int:
    """A descriptor of a regular file of the directory that is held, wherever that was moved; of
    the path itself if none is held. Never follows a link. Raises LockLost, OSError."""
    if held is None:
        return open_regular(path, flags | os.O_NOFOLLOW)
    held.check()
    return _open(path, held.directory, flags)


def sync_guarded(held: Lock | None, path: Path) -> None:
    """The name of such a file is on the disk when this returns. Raises OSError."""
    if held is None:
        atomic_file.sync_directory(path.parent)
    else:
        os.fsync(held.directory)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now; false if that cannot be told."""
    try:
        descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def hold(path: Path) -> Iterator[Lock]:
    """Holds the lock. Directories that are made for it go again if nothing else was written there.

    Raises InUse if another process holds it for longer than a short while, OSError if the file
    cannot be made or is a link."""
    made = [folder for folder in path.parents if not folder.exists()]
    began_s = time.monotonic()
    while (held := _enter(path, began_s)) is None:
        pass
    try:
        # Not held open for writing: that would keep a file system from being remounted read-only.
        with os.fdopen(_open(path, held.directory, os.O_WRONLY | os.O_TRUNC), "w") as writable:
            writable.write(f"{os.getpid()}\n")
        yield held
    finally:
        if made and _is_at(held.directory, path.parent):
            _remove_empty(held, made)
        os.close(held.descriptor)
        os.close(held.directory)


def _enter(path: Path, began_s: float) -> Lock | None:
    """None if the directory was moved or deleted while it waited, as by `seed rm`: then another of
    that name is to be made. Raises InUse, OSError."""
    atomic_file.make_directory(path.parent)
    with contextlib.ExitStack() as on_failure:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        on_failure.callback(os.close, directory)
        try:
            descriptor = _take(path, directory, began_s)
        except FileNotFoundError:
            if _is_at(directory, path.parent):
                raise
            return None
        on_failure.callback(os.close, descriptor)
        if _is_at(directory, path.parent):
            on_failure.pop_all()
            return Lock(path, descriptor, directory)
    return None


def _is_at(directory: int, path: Path) -> bool:
    """Whether the path leads to the open directory."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(directory))
    except OSError:
        return False


def _remove_empty(held: Lock, made: Sequence[Path]) -> None:
    """The directories `made`, the innermost first, if they have the lock at most."""
    with contextlib.suppress(OSError):
        if os.listdir(held.directory) == [held.path.name]:
            os.unlink(held.path.name, dir_fd=held.directory)
            for folder in made:
                folder.rmdir()


def _open(path: Path, directory: int, flags: int, mode: int = 0o644) -> int:
    return open_regular(path.name, flags | os.O_NOFOLLOW, directory, path, mode)


def _take(path: Path, directory: int, began_s: float) -> int:
    """A descriptor of the locked file, which still has its name."""
    while True:
        if not _is_at(directory, path.parent):   # nothing is made where it is being deleted
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        descriptor = _open(path, directory, os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Lock(path, descriptor, directory).check()
            return descriptor
        except (BlockingIOError, LockLost):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        wait_s = HOLDER_WAIT_S if _is_alive(holder) else READER_WAIT_S
        if time.monotonic() - began_s > wait_s:
            raise InUse(f"{path.parent} is in use by process {holder or 'unknown'}: stop it, or "
                        f"use another --run-dir")
        time.sleep(RETRY_DELAY_S)


def _is_alive(pid: str) -> bool:
    """Whether a process has this number; not what it is."""
    return pid.isascii() and pid.isdigit() and os.path.exists(f"/proc/{int(pid)}")
