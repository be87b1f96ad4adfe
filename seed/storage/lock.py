"""One writer at a time in a run directory. The kernel drops the lock when its holder dies."""
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from seed.errors import ConfigError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock. Raises ConfigError if another process holds it, OSError if the file cannot be
    made or is a link."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    os.close(opener(str(path), os.O_RDONLY | os.O_CREAT))
    # Not held open for writing: that would keep a file system from being remounted read-only.
    with open(path, encoding="utf-8", opener=opener) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            raise ConfigError(f"{path.parent} is in use by process {holder}: stop it, or use "
                              f"another --run-dir") from None
        with open(path, "w", encoding="utf-8", opener=opener) as writable:
            writable.write(f"{os.getpid()}\n")
        yield
