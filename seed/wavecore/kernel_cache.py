"""A cache of compiled kernels that cannot be read or written costs time, and nothing else.

tinygrad 0.14 keeps it in a SQLite file, and a disk that is full in the middle of a run, or a broken
file, ends the program: here the kernel is compiled, and not kept.
"""
import functools
import sqlite3
from collections.abc import Callable
from typing import Any

from tinygrad import device


def _harmless(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but None where the file fails."""
    @functools.wraps(call)
    def tried(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except sqlite3.Error:
            return None
    return tried


def install() -> None:
    """For every kernel that tinygrad compiles from now on."""
    for name in ("diskcache_get", "diskcache_put"):
        setattr(device, name, _harmless(getattr(device, name)))
