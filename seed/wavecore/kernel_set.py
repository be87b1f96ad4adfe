"""Kernels that were compiled ahead of time for one CPU, as a file: for a board without a compiler.

A set is MAGIC, the digest of all that follows, a line of JSON, and the object files one behind the
other. The line names the CPU, the command that made the set, and each object's key and size.

Machine code runs with all rights of its process. So a set is read only from the directory that a
person has named, or beside the kernels' sources; only if it belongs to this user or to root and
nobody else may write to it; and only if it is whole.
"""
import hashlib
import json
import os
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import KernelSetError
from seed.regular_file import parse_json, reader
from seed.storage import atomic_file
from seed.wavecore.cpu import Target

VARIABLE = "SEED_KERNELS"
SUFFIX = ".kernels"
MAGIC = b"seed-brain kernels 1\n"
DIGEST_BYTES = 32
MAX_SET_BYTES = 256 * 2 ** 20


class KernelSet(NamedTuple):
    target: Target
    made_by: str                    # the command
    compiler: str                   # its --version
    objects: Mapping[str, bytes]    # by `key`


def key(c_text: str) -> str:
    return hashlib.blake2b(c_text.encode(), digest_size=20).hexdigest()


def folder() -> Path:
    """Where kernel sets are looked for."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(__file__).parent / "built"


def write(path: Path, kernels: KernelSet) -> None:
    """Whole or not at all. Raises OSError."""
    fields = {"cpu": kernels.target, "made_by": kernels.made_by, "compiler": kernels.compiler,
              "sizes": {name: len(code) for name, code in kernels.objects.items()}}
    body = json.dumps(fields).encode() + b"\n" + b"".join(kernels.objects.values())
    atomic_file.write(path, MAGIC + _digest(body) + body)


def read(path: Path) -> KernelSet:
    """Raises KernelSetError, OSError."""
    with reader(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise KernelSetError(f"{path} is machine code that others may change: it must belong "
                                 f"to root or to this user; chmod go-w {path}")
        data = file.read(MAX_SET_BYTES)
    body = data[len(MAGIC) + DIGEST_BYTES:]
    line, _, code = body.partition(b"\n")
    try:
        if data[:-len(body) or None] != MAGIC + _digest(body):
            raise ValueError
        return _parsed(parse_json(line), code)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise KernelSetError(f"{path} is damaged, or of another version: make it again with "
                             f"seed kernels, or delete it") from None


def _parsed(fields: dict[str, Any], code: bytes) -> KernelSet:
    """Raises AttributeError, KeyError, TypeError, ValueError if they are not those of a set."""
    name, machine, needs = fields["cpu"]
    made_by, compiler, sizes = fields["made_by"], fields["compiler"], fields["sizes"]
    is_text = all(type(text) is str for text in (name, machine, *needs, made_by, compiler))
    is_whole = all(type(size) is int and size >= 0 for size in sizes.values()) \
        and sum(sizes.values()) == len(code)
    if not is_text or not is_whole:
        raise ValueError
    ends = list(accumulate(sizes.values()))
    return KernelSet(Target(name, machine, tuple(needs)), made_by, compiler, {
        key: code[end - size:end] for (key, size), end in zip(sizes.items(), ends)})


def read_all() -> tuple[list[KernelSet], str]:
    """The sets that this CPU can run, in the order of their files' names, and why there is no other
    one. Raises KernelSetError for one that cannot be used, OSError."""
    directory, sets, others = folder(), list[KernelSet](), list[str]()
    if os.environ.get(VARIABLE) and not directory.is_dir():
        raise KernelSetError(f"{VARIABLE} is {str(directory)!r}, which is not a directory: unset "
                             f"it, or name the directory of kernel sets")
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        kernels = read(path)
        lack = kernels.target.lacks()
        if lack:
            others.append(f"{path.name}: {lack}")
        else:
            sets.append(kernels)
    return sets, "; ".join(others)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
