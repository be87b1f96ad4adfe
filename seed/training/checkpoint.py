"""One safetensors file holds all a run needs: weights, moments and, as JSON, everything else.

A save writes a temporary file, syncs it, keeps the last file as the previous generation, renames
and syncs the directory: at any instant one whole generation is in place. Files are read strictly
and never unpickled. A checksum in the header covers every byte of the file, itself read as zeros.
"""
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

FORMAT = 2
NAME, PREVIOUS, TEMPORARY = ("checkpoint.safetensors", "checkpoint.previous.safetensors",
                             ".checkpoint.partial")


CHECKSUM, ZEROS = rb'\"blake2b\":\"', b"0" * 32   # as it stands in the header, escaped


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message is one line that names the file and the fault."""


class Checkpoint(NamedTuple):
    tensors: dict[str, np.ndarray]
    meta: dict[str, Any]


def save(run_dir: Path, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> int:
    """Replaces the newest generation; returns the bytes written. Raises OSError, nothing lost."""
    text = json.dumps({"blake2b": ZEROS.decode(), "format": FORMAT, **meta}, sort_keys=True,
                      separators=(",", ":"))
    data = safetensors.numpy.save(
        {key: np.ascontiguousarray(a) for key, a in tensors.items()}, {"seed": text})
    at = data.index(CHECKSUM) + len(CHECKSUM)
    data = data[:at] + _digest(data) + data[at + len(ZEROS):]
    temporary, newest = run_dir / TEMPORARY, run_dir / NAME
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if newest.exists():
            os.replace(newest, run_dir / PREVIOUS)
        os.replace(temporary, newest)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(run_dir, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return len(data)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=len(ZEROS) // 2).hexdigest().encode()


def _is_whole(data: bytes) -> bool:
    """Whether the checksum is that of the file with zeros in its place."""
    at = data.find(CHECKSUM) + len(CHECKSUM)
    stored = data[at:at + len(ZEROS)]
    return stored == _digest(data[:at] + ZEROS + data[at + len(ZEROS):])


def read(path: Path) -> Checkpoint:
    """A checkpoint file. Raises CheckpointError for anything but a whole file of this format."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    try:
        tensors = safetensors.numpy.load(data)
        size = struct.unpack("<Q", data[:8])[0]
        meta = json.loads(json.loads(data[8:8 + size])["__metadata__"]["seed"])
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path} is not a checkpoint of seed: no 'seed' metadata") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} has another format than {FORMAT}: use the version of seed "
                              f"that wrote it")
    if not _is_whole(data):
        raise CheckpointError(f"{path} is damaged: its checksum is wrong")
    return Checkpoint(tensors, meta)


def read_newest(run_dir: Path, warn) -> Checkpoint | None:
    """The newest usable generation, or None in a fresh directory.

    `warn(text)` is told why a newer one was refused. Raises CheckpointError if all are unusable.
    """
    refused: list[CheckpointError] = []
    for name in (NAME, PREVIOUS):
        if not (run_dir / name).exists():
            continue
        try:
            found = read(run_dir / name)
        except CheckpointError as error:
            refused.append(error)
            continue
        for fault in refused:
            warn(f"{fault}; going on from {name}")
        return found
    if refused:
        raise CheckpointError(f"{refused[0]}; no other generation is left: use another --run-dir")
    return None


def check_tensors(tensors: dict[str, np.ndarray], expected: dict[str, np.ndarray],
                  source: str) -> None:
    """Raises CheckpointError unless names, shapes and types are exactly the expected ones."""
    for key in sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{source}: {key} is missing")
    for key in sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(f"{source}: {key} is not expected")
    for key, want in expected.items():
        found = tensors[key]
        if found.shape != want.shape or found.dtype != want.dtype:
            raise CheckpointError(f"{source}: {key} is {found.dtype} {found.shape}, expected "
                                  f"{want.dtype} {want.shape}")
