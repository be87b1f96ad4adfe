"""What a fast loop has to itself: its live directory, and a core that no other loop of this board
has. A claim is a locked file; the kernel drops it when all of its holders have ended."""
import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from seed.errors import ConfigError, InUse
from seed.live.real_time import fast_cores
from seed.regular_file import open_regular

LOCK, MEMORY = "fast_loop.lock", Path("/dev/shm")
HOLDER_WAIT_S, RETRY_DELAY_S = 5.0, 0.02   # for the tick loop of a parent that was killed


def take(path: Path) -> int | None:
    """A descriptor that holds the claim; None if somebody else does. Raises OSError."""
    try:
        descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = open_regular(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def take_directory(live_dir: Path) -> int:
    """Raises InUse if a fast loop has it that does not end soon, ConfigError."""
    ends_s = time.monotonic() + HOLDER_WAIT_S
    try:
        live_dir.mkdir(parents=True, exist_ok=True)
        while (claim := take(live_dir / LOCK)) is None:
            if time.monotonic() > ends_s:
                raise InUse(f"{live_dir} has a fast loop already: end it first, or use another "
                            f"directory")
            time.sleep(RETRY_DELAY_S)
    except OSError as error:
        raise ConfigError(f"{error.filename or live_dir}: {error.strerror}: use another directory"
                          ) from None
    return claim


def take_core(memory: Path = MEMORY) -> tuple[int | None, int, str]:
    """The claim, the core, and a line if it is shared: where every core that may be a fast loop's
    has one, or claims cannot be made."""
    cores: Sequence[int] = fast_cores()
    for core in cores:
        with suppress(OSError):
            if (claim := take(memory / f"seed-live-core-{core}")) is not None:
                return claim, core, ""
    return None, cores[0], (f"core {cores[0]} has another fast loop: both share it, and ticks may "
                            f"be late")
