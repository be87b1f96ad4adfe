"""Where a command may write its result: never over a brain, another kind of file, or a link."""
import os
from collections.abc import Callable
from pathlib import Path

from seed.errors import ConfigError
from seed.regular_file import reader
from seed.storage.run_dir import RESULT_NAMES, RUN_FILE_NAMES

HEAD_BYTES = 64


def check_output(flag: str, path: Path, kind: str, is_kind_fn: Callable[[bytes], bool],
                 is_given: bool = True) -> None:
    """Raises ConfigError unless a file can be written there, and only one of its own kind, as
    `is_kind_fn` sees from its first bytes, or an empty one would be replaced. `is_given`:
    whether a person has named the path with the flag; if not, the message proposes that."""
    name = f"{flag} {path}" if is_given else str(path)
    fix = "use another {}" if is_given else f"name another file with {flag}"
    if not path.parent.is_dir():
        raise ConfigError(f"{name}: {path.parent} is not a directory: create it first")
    if os.path.lexists(path):
        try:
            with reader(path) as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            head = None
        if path.is_symlink() or head is None or head and not is_kind_fn(head):
            raise ConfigError(f"{name} exists and is not {kind}: {fix.format('name')}")
    if path.name in RUN_FILE_NAMES - RESULT_NAMES:
        raise ConfigError(f"{name} is the name of a run's own file: {fix.format('name')}")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{name}: {path.parent} is not writable: {fix.format('directory')}")
