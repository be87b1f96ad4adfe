"""One writer at a time in a run directory. The kernel drops the lock when its holder dies.

The lock guards a name and what is behind it: a lock file that was deleted or replaced, and a
directory that was renamed, are noticed before each save. The journals that belong to the directory
are written through its descriptor, after the same check.
"""
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
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
        try:
            if os.path.samestat(os.stat(self.path.parent), os.fstat(self.directory)):
                return None
        except OSError:
            pass
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
    """Holds the lock. Raises InUse if another process holds it for longer than a short while,
    OSError if the file cannot be made or is a link."""
    atomic_file.make_directory(path.parent)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Not held open for writing: that would keep a file system from being remounted read-only.
        descriptor = _take(path, directory)
        try:
            with os.fdopen(_open(path, directory, os.O_WRONLY | os.O_TRUNC), "w") as writable:
                writable.write(f"{os.getpid()}\n")
            yield Lock(path, descriptor, directory)
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)


def _open(path: Path, directory: int, flags: int, mode: int = 0o644) -> int:
    return open_regular(path.name, flags | os.O_NOFOLLOW, directory, path, mode)


def _take(path: Path, directory: int) -> int:
    """A descriptor of the locked file, which still has its name."""
    began_s = time.monotonic()
    while True:
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
