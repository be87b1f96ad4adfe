"""The state of a brain between two runs of a robot: a file that is written whole or not at all,
with a checksum, for one exported file alone."""
import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .sealed_file import BrainError, name_of, read_regular

MAGIC = b"seed state 1\n"
DIGEST_BYTES = 16                   # BLAKE2b of all that follows it
MAX_FIELDS_BYTES = 2 ** 20


def write(path: str | os.PathLike, fields: dict[str, Any], arrays: Sequence[np.ndarray]) -> None:
    """The fields as one line of JSON, then the float32 arrays; on the disk when this returns.
    Raises BrainError, and never replaces a file that is something else."""
    if os.path.lexists(name_of(path)):
        read_regular(path, "a saved state", len(MAGIC), lambda start: start in (MAGIC, b""),
                     2 ** 40, "is something else than a state: name another file")
    rest = json.dumps(fields).encode() + b"\n" + b"".join(
        array.astype("<f4").tobytes() for array in arrays)
    try:
        write_whole(path, MAGIC + _digest(rest) + rest)
    except OSError as error:
        raise BrainError(f"{name_of(path)}: {error.strerror}; the state is not saved: name a file "
                         f"that can be written") from None


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Replaces a file, whole or not at all; on the disk when this returns. Raises OSError."""
    temporary = f"{name_of(path)}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)   # of a robot that lost its power
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(temporary) or ".")


def make_directory(path: Path) -> None:
    """With its parents, if they are not there; on the disk when this returns. Raises OSError."""
    if not path.is_dir():
        if not path.parent.exists():
            make_directory(path.parent)
        path.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):   # a parent that cannot be read
            sync_directory(path.parent)


def sync_directory(path: str | os.PathLike) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_state(path: str | os.PathLike, max_bytes: int) -> bytes:
    """What follows the checksum. Raises BrainError."""
    data = read_regular(path, "a saved state", len(MAGIC), lambda start: start == MAGIC, max_bytes,
                        "is no state of a brain: name one that save_state wrote")
    start = len(MAGIC) + DIGEST_BYTES
    if _digest(data[start:]) != data[len(MAGIC):start]:
        raise BrainError(f"{name_of(path)} is damaged: its checksum is wrong; begin anew, or load "
                         f"another")
    return data[start:]


def load(path: str | os.PathLike, brain: str, shapes: Sequence[Sequence[int]]
         ) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The fields, and an array of each shape. Raises BrainError unless the file is whole and that
    of `brain`."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    line, _, data = read_state(path, MAX_FIELDS_BYTES + 4 * sum(sizes)).partition(b"\n")
    try:
        fields = json.loads(line)
        is_same = fields["brain"] == brain and len(data) == 4 * sum(sizes)
    except (KeyError, TypeError, ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise BrainError(f"{name_of(path)} is the state of another brain: load it with the file "
                         f"that saved it, or begin anew")
    numbers = np.frombuffer(data, "<f4").astype(np.float32)
    parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
    return fields, [part.reshape(shape) for part, shape in zip(parts, shapes)]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
