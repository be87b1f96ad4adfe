"""Compiled kernels, one file each, in a private directory: $XDG_CACHE_HOME/seed-brain/kernels, else
~/.cache/seed-brain/kernels.

Machine code runs with all rights of its process. So none is ever taken from a run directory or a
brain, which are passed on; the directory belongs to this user and nobody else may write to it; and
a file whose digest is wrong, or that a process used which crashed, is compiled again.
"""
import contextlib
import faulthandler
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

DIGEST_BYTES = 32
MAX_OBJECT_BYTES = 64 * 2 ** 20
MAX_OBJECTS = 8192   # beyond it the older half is removed: each size of brain has about a hundred
CRASH_PREFIX, LAST_CRASH = "crash-", "last-crash.txt"
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
Log = Callable[[str], object]


def default_folder() -> Path | None:
    """Where this user's kernels are; None if the user has no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "seed-brain" / "kernels"


class KernelCache:
    """Without a usable folder it is empty and stays so: kernels are compiled in each process."""

    def __init__(self, folder: Path | None):
        self.folder, self._descriptor = folder, -1
        self._warnings: list[str] = []
        self._crash_file: TextIO | None = None
        self._process = os.getpid()
        try:
            self._descriptor = _open_private(folder) if folder else -1
            if self._descriptor >= 0:
                self._drop_after_a_crash()
                self._limit()
        except OSError as error:
            self._warnings.append(f"compiled kernels are not kept: {folder}: {error.strerror}; set "
                                  f"XDG_CACHE_HOME to a directory of this user")

    def report(self, log: Log) -> None:
        """Logs, once, what was wrong with the directory."""
        while self._warnings:
            log(self._warnings.pop())

    def get(self, key: str) -> bytes | None:
        """The object of a key; None if there is none, or one that is not as it was written."""
        name = _name(key)
        try:
            with open(name, "rb", opener=self._open_fn(READ_FLAGS)) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_OBJECT_BYTES:
                    return None
                data = file.read(MAX_OBJECT_BYTES)
        except OSError:
            return None
        code = data[DIGEST_BYTES:]
        return code if data[:DIGEST_BYTES] == _digest(name, code) else None

    def put(self, key: str, code: bytes) -> None:
        """Writes an object, unless that fails. A reader of half of it sees a wrong digest."""
        name = _name(key)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._descriptor)
            with open(name, "wb", opener=self._open_fn(
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
                file.write(_digest(name, code) + code)
        except OSError:
            with contextlib.suppress(OSError):   # a full disk
                os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        if self._crash_file and self._process == os.getpid():   # a forked child shares the file
            faulthandler.disable()
            with contextlib.suppress(OSError):   # the directory is gone
                os.unlink(self._crash_file.name, dir_fd=self._descriptor)
            self._crash_file.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._crash_file, self._descriptor = None, -1

    def _open_fn(self, flags: int) -> Callable[[str, int], int]:
        if self._descriptor < 0:
            raise FileNotFoundError
        return lambda name, _: os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def _drop_after_a_crash(self) -> None:
        """Each process has a locked file, to which a fatal signal writes. One that is not empty and
        no longer locked is of a process that crashed: maybe by a kernel."""
        for name in os.listdir(self._descriptor):
            if name.startswith(CRASH_PREFIX):
                with contextlib.suppress(FileNotFoundError):   # its process has just ended
                    self._look_at_crash(name)
        name = f"{CRASH_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        self._crash_file = open(name, "w", opener=self._open_fn(
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        fcntl.flock(self._crash_file, fcntl.LOCK_EX)
        faulthandler.enable(self._crash_file)

    def _look_at_crash(self, name: str) -> None:
        with open(name, opener=self._open_fn(READ_FLAGS), errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return   # its process is alive
            reason = file.readline(200).strip()
            if not reason:
                os.unlink(name, dir_fd=self._descriptor)
                return
            self._remove(self._objects())
            os.replace(name, LAST_CRASH, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            self._warnings.append(f"the last process crashed ({reason}): all kernels are "
                                  f"compiled again; details in {self.folder}/{LAST_CRASH}")

    def _objects(self) -> list[str]:
        return [name for name in os.listdir(self._descriptor) if not name.endswith(".txt")
                and not name.startswith(CRASH_PREFIX)]

    def _limit(self) -> None:
        names = self._objects()
        if len(names) > MAX_OBJECTS:
            age = dict[str, float]()
            for name in names:
                with contextlib.suppress(FileNotFoundError):   # as in _remove
                    age[name] = os.stat(name, dir_fd=self._descriptor).st_mtime
            self._remove(sorted(age, key=lambda name: age[name])[:len(age) // 2])

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):   # another process removes them too
                os.unlink(name, dir_fd=self._descriptor)


def _open_private(folder: Path) -> int:
    """A descriptor of the folder, made if it is not there. Raises OSError unless it belongs to this
    user and nobody else may write to it."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
        return descriptor
    os.close(descriptor)
    raise PermissionError(0, "it belongs to another user, or others may write to it")


def _name(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=20).hexdigest()


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + code, digest_size=DIGEST_BYTES).digest()
