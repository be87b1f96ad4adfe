"""One safetensors file holds all that a run needs: weights, moments and, as JSON, the rest.

Files are read strictly and never unpickled. A checksum in the header covers every byte of the file,
itself read as zeros.
"""
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from seed.config import from_dict
from seed.curriculum.state import CurriculumState
from seed.errors import CheckpointError, CheckpointMissing, ConfigError
from seed.regular_file import parse_json, reader
from seed.system_health import MB, mem_available_mb

FORMAT = 6
CHECKSUM, ZEROS = rb'\"blake2b\":\"', b"0" * 32   # as it stands in the header, escaped
MAX_HEADER_BYTES = 4 * 2 ** 20   # the largest brain's header has under 1 MB
COUNT_KEYS = ("step", "skipped", "nonfinite_in_a_row", "rollbacks")
PLAN_KEYS = {"decay_start", "total_steps"}
MAX_COUNT = MAX_ELAPSED_S = 10 ** 9
TRAINED = "trained."   # before a name: the weights of a step, where the brain is their mean
MAX_BUFFERS = 512   # of one write, below every system's limit


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""
    tensors: dict[str, np.ndarray]
    meta: dict[str, Any]
    sha256: str = ""       # of the file that was read

    def brain(self) -> "Checkpoint":
        """Without the weights that only its training needs."""
        return self._replace(tensors={key: array for key, array in self.tensors.items()
                                      if not key.startswith(TRAINED)})


def write(descriptor: int, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int:
    """Writes a checkpoint file; returns its bytes. Raises OSError."""
    parts = _encode(tensors, meta)
    total = sum(part.nbytes for part in parts)
    while parts:
        written = os.writev(descriptor, parts[:MAX_BUFFERS])
        while parts and written >= parts[0].nbytes:
            written -= parts.pop(0).nbytes
        if written:
            parts[0] = parts[0][written:]
    return total


def _encode(tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> list[memoryview]:
    """The file's header with its checksum, then the tensors' own bytes in the file's order."""
    text = json.dumps({**meta, "blake2b": ZEROS.decode(), "format": FORMAT}, sort_keys=True,
                      separators=(",", ":"))
    fields: dict[str, Any] = {"__metadata__": {"seed": text}}
    parts, at = [], 0
    for key in sorted(tensors):
        array = np.ascontiguousarray(tensors[key])
        fields[key] = {"dtype": "F32", "shape": array.shape,
                       "data_offsets": [at, at + array.nbytes]}
        parts.append(array.reshape(-1).view(np.uint8).data)
        at += array.nbytes
    body = json.dumps(fields, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    head = struct.pack("<Q", len(body)) + body
    start = head.index(CHECKSUM) + len(CHECKSUM)
    sealed = head[:start] + _digest(head, *parts) + head[start + len(ZEROS):]
    return [memoryview(sealed), *parts]


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=len(ZEROS) // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def _is_whole(data: memoryview) -> bool:
    """Whether the checksum is right."""
    start = bytes(data[:8 + MAX_HEADER_BYTES]).find(CHECKSUM) + len(CHECKSUM)
    end = start + len(ZEROS)
    return bytes(data[start:end]) == _digest(data[:start], ZEROS, data[end:])


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint; its tensors are not read, its checksum is not checked."""
    with _opened(path) as file:
        return _meta(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, never waiting for a pipe. Raises CheckpointError for it and for an OSError."""
    try:
        with reader(path) as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def _meta(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Reads and checks the header, at most MAX_HEADER_BYTES whatever it claims."""
    start = file.read(8)
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 0 < size <= MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} is not a whole safetensors file: its header would "
                              f"have {size} bytes")
    try:
        meta = parse_json(parse_json(file.read(size))["__metadata__"]["seed"])
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if type(error) is ValueError else "no 'seed' metadata"
        raise CheckpointError(f"{path} is not a checkpoint of seed: {reason}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT}: use the version of seed that "
                              f"wrote it")
    _check_meta(path, meta)
    return meta


def _check_meta(path: Path, meta: dict[str, Any]) -> None:
    plan, elapsed_s = meta.get("plan"), meta.get("elapsed_s")
    ends = plan if isinstance(plan, dict) and plan.keys() == PLAN_KEYS else {"plan": -1}
    counts = {**{key: meta.get(key) for key in COUNT_KEYS},
              **{key: value for key, value in ends.items() if value is not None}}
    for key, value in counts.items():
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise CheckpointError(f"{path}: its {key} is {str(value)[:40]!r}, not a count")
    if not isinstance(elapsed_s, (int, float)) or not 0 <= elapsed_s <= MAX_ELAPSED_S:
        raise CheckpointError(f"{path}: its elapsed_s is {str(elapsed_s)[:40]!r}, not a time")
    try:
        from_dict(meta.get("profile"))
        curriculum = CurriculumState.from_dict(meta.get("curriculum"))
    except ConfigError as error:
        raise CheckpointError(f"{path}: in its profile, {error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if curriculum.evaluated_at > meta["step"]:
        raise CheckpointError(f"{path}: its curriculum was evaluated after step {meta['step']}")


def read(path: Path) -> Checkpoint:
    """A checkpoint file. Raises CheckpointError for anything but a whole file of this format.

    Never takes much more than half of the available memory, whatever the file's size: its bytes
    and the arrays are in memory together.
    """
    with _opened(path) as file:
        meta = _meta(path, file)
        size = os.fstat(file.fileno()).st_size
        available = mem_available_mb().value
        if available is not None and 2 * size > available * MB / 2:
            raise CheckpointError(f"{path} has {size / MB:.0f} MB: reading it takes more than half "
                                  f"of the available memory; use a smaller brain")
        file.seek(0)
        data = file.read()
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None
    if not _is_whole(memoryview(data)):
        raise CheckpointError(f"{path} is damaged: its checksum is wrong")
    return Checkpoint(tensors, meta, hashlib.sha256(data).hexdigest())


def check_tensors(tensors: dict[str, np.ndarray], expected: dict[str, np.ndarray],
                  source: str) -> None:
    """Raises CheckpointError unless names, shapes and types are exactly the expected ones."""
    for key in sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{source}: {key} is missing")
    for key in sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(f"{source}: {key} is not expected")
    for key, array in expected.items():
        tensor = tensors[key]
        if tensor.shape != array.shape or tensor.dtype != array.dtype:
            raise CheckpointError(f"{source}: {key} is {tensor.dtype} {tensor.shape}, expected "
                                  f"{array.dtype} {array.shape}")
