"""The bytes of an exported file and its sealed description."""
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable
from typing import Any

from .acting import is_codec

MAGIC = b"TFL3"                     # bytes 4 to 8 of every TFLite file
CHECKSUM_KEY = b'{"blake2b":"'      # what the description begins with
CHECKSUM_DIGITS = 32                # hexadecimal
FORMAT = 1                          # version of the description
MAX_FILE_BYTES = 2 ** 31            # of a flatbuffer


class BrainError(ValueError):
    """The file cannot be run here, or the call is wrong. The message is one line that names the
    file or the argument, and the fix."""
    exit_code = 2   # of a command that ends with it


def seal(data: bytes) -> bytes:
    """The file with its checksum: BLAKE2b of the file with zeros in the checksum's place."""
    at = data.index(CHECKSUM_KEY) + len(CHECKSUM_KEY)
    return data[:at] + _digest(data, at) + data[at + CHECKSUM_DIGITS:]


def _digest(data: bytes, at: int) -> bytes:
    digest = hashlib.blake2b(data[:at], digest_size=CHECKSUM_DIGITS // 2)
    digest.update(b"0" * CHECKSUM_DIGITS)
    digest.update(data[at + CHECKSUM_DIGITS:])
    return digest.hexdigest().encode()


def describe(data: bytes, name: str) -> dict[str, Any]:
    """The metadata of an exported file, from its bytes. Raises BrainError unless its checksum and
    version are right."""
    start = data.find(CHECKSUM_KEY)
    if start < 0:
        raise BrainError(f"{name} is not a brain of seed: export one with python -m seed export")
    at = start + len(CHECKSUM_KEY)
    if data[at:at + CHECKSUM_DIGITS] != _digest(data, at):
        raise BrainError(f"{name} is damaged: its checksum is wrong; copy it again")
    size = int.from_bytes(data[start - 4:start], "little")   # of the vector that holds it
    try:
        description = json.loads(data[start:start + size])
    except (ValueError, RecursionError):
        raise BrainError(f"{name} has a description that is no JSON: export it again") from None
    if description.get("format") != FORMAT:   # begins with "{": an object
        raise BrainError(f"{name} is of another version of seed: export it again with this one")
    wrong = [key for key, is_valid_fn in DESCRIBED.items()
             if not _holds(is_valid_fn, description.get(key))]
    if wrong:
        raise BrainError(f"{name} has a wrong description of its {wrong[0]}: export it again")
    return description


def _holds(is_valid_fn: Callable[[Any], object], value: Any) -> bool:
    try:
        return bool(is_valid_fn(value))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _is_integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1e6


# What Brain reads of a description, each key with what its value must be.
DESCRIBED: dict[str, Callable[[Any], object]] = {
    "runtimes": lambda v: v and all(isinstance(version, str) for version in v.values()),
    "prefill": lambda v: _is_integer(v, 0, MAX_FILE_BYTES),
    "explicit_state": lambda v: isinstance(v, bool),
    "vocabulary": lambda v: all(_is_integer(v[key], 0, 255) for key in ("end", "pad")),
    "plain_questions": lambda v: v is None or isinstance(v, bool),   # None: an older file
    "bodies": lambda v: all(
        is_codec(body["codec"]) and len(body["returns"]) == 2
        and all(math.isfinite(n) for n in body["returns"])
        and body["returns"][0] <= 0 <= body["returns"][1] != body["returns"][0]
        and _is_rate(body.get("rate_hz", 1))
        and _is_integer(body["hidden"], 0, MAX_FILE_BYTES) for body in v.values())
    and len({body["hidden"] for body in v.values()}) < 2,
    "loop": lambda v: v is None or all(   # of a brain that is for none
        _is_rate(v[key]) for key in ("rate_hz", "max_tick_ms")),
    "selftest": lambda v: v is None or all(   # of a file that was not verified
        re.fullmatch(r"[\w.+-]+( [\w.+-]+)?", v[key], re.ASCII) and len(v[key]) < 60
        for key in ("machine", "runtime"))
    and 0 < len(v["bytes"]) <= 64 and all(_is_integer(byte, 0, 255) for byte in v["bytes"])
    and len(v["logits"]) == 256 and all(map(math.isfinite, v["logits"]))
    and 0 < v["tolerance"] <= 1,
    "states": lambda v: all(
        re.fullmatch("mask|[a-z]+_[0-9]+", key) and abs(state["start"]) < 1e38   # a float32
        and len(state["shape"]) <= 4 and all(_is_integer(n, 1, MAX_FILE_BYTES)
                                             for n in state["shape"]) for key, state in v.items()),
}


def read(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file that begins as a TFLite file does. Raises BrainError."""
    return read_regular(path, "an exported brain", 8, lambda start: start[4:] == MAGIC,
                        MAX_FILE_BYTES,
                        "is not a TFLite file: export a brain with python -m seed export")


def read_regular(path: str | os.PathLike, kind: str, start_bytes: int,
                 is_right_fn: Callable[[bytes], bool], max_bytes: int, otherwise: str) -> bytes:
    """The bytes of a regular file with a right start, of at most max_bytes; `otherwise`: what the
    BrainError says."""
    name = name_of(path)
    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrainError(f"{name} is not a file: name {kind}")
            start = file.read(start_bytes)
            if not is_right_fn(start) or status.st_size > max_bytes:
                raise BrainError(f"{name} {otherwise}")
            return start + file.read(status.st_size)
    except OSError as error:
        raise BrainError(f"{name}: {error.strerror}; name {kind}") from None


def name_of(path: Any) -> str:
    """Of the file, for a person. Raises BrainError if `path` can be no path."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise BrainError(f"the path is {path!r:.60}: use text or a Path") from None
    if not name or "\0" in name:
        raise BrainError(f"the path is {path!r:.60}: a path has characters, and none is null")
    return name
