"""One trainer at a time in a run directory. The kernel drops the lock when its holder dies."""
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from seed.config import ConfigError

NAME = "lock"


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the lock. Raises ConfigError if another process has it, OSError if there is no file."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / NAME
    path.touch()
    with open(path, encoding="utf-8") as file:  # not for writing: that would keep a file system rw
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{run_dir} is in use by process {file.read().strip() or 'unknown'}: "
                              f"stop it, or use another --run-dir") from None
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
