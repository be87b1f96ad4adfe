"""The one place that opens files, and one reader of JSON that others may have written.

A FIFO, a device or a directory in place of a file is refused at once instead of waited for or
written to, and a link is followed only where a person has named the file.
"""
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_SMALL_BYTES = 16 * 2 ** 20   # of a file that is read as a whole: a profile, a table of sizes
MAX_INTEGER_BITS = 63
BLOCK_BYTES = 2 ** 20
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def open_regular(path: str | Path, flags: int = os.O_RDONLY, dir_fd: int | None = None,
                 display: Path | None = None, mode: int = 0o644) -> int:
    """A descriptor of a regular file. `dir_fd`: of the directory that `path` is relative to.

    Raises OSError, which names `display` or the path, also for any other kind of file.
    """
    shown = str(display or path)
    try:
        try:
            _require_regular(os.stat(path, dir_fd=dir_fd), shown)   # opening a device may act on it
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, mode, dir_fd=dir_fd)
        try:
            _require_regular(os.fstat(descriptor), shown)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        error.filename = shown
        raise
    return descriptor


def _require_regular(status: os.stat_result, shown: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", shown)


def reader(path: str | Path) -> BinaryIO:
    """An open file for reading. Raises OSError."""
    return os.fdopen(open_regular(path), "rb")


def read_bytes(path: str | Path, max_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """The contents of a small file. Raises OSError, also if it is larger."""
    with reader(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EINVAL, f"it is larger than {max_bytes:,} bytes", str(path))
    return data


def blocks(path: str | Path, max_bytes: int = sys.maxsize) -> Iterator[bytes]:
    """The contents of a file of any size, or so many first bytes, piece by piece. Raises OSError.
    """
    left = max_bytes
    with reader(path) as file:
        while left and (block := file.read(min(left, BLOCK_BYTES))):
            left -= len(block)
            yield block


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError and nothing else: also for NaN, infinities,
    integers beyond 64 bits, nesting that is too deep and text that is not Unicode.

    A byte of a file name that is not UTF-8 stays what Python makes of it.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        if ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or int(text).bit_length() > MAX_INTEGER_BITS:
        raise ValueError(f"{text[:20]}... is out of range")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:   # infinite or NaN
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def read_json(path: str | Path) -> Any:
    """The value of a small JSON file. Raises OSError or ValueError."""
    return parse_json(read_bytes(path))
