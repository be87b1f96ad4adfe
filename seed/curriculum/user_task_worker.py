"""Runs a user's class in a process of its own: whatever it does, the run is not harmed.

    python own_child.py FD PARENT PATH CLASS LONGEST MARKS

PARENT is the process that it must not outlive, LONGEST the most bytes of a text, MARKS in
hexadecimal the bytes that it must not hold. StopSignals and replies are JSON lines on the socket FD;
bytes are written as latin-1. A reply is {"value": ...} or {"fault": "one line"}. Needs the standard
library alone.
"""
import ctypes
import importlib.util
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
NEEDED = ("levels", "chance", "generate", "verify")


class Fault(Exception):
    """What the class does wrong, in one line."""


def told(doing: str, error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:   # even that is the user's code
        text = type(error).__name__
    return f"{doing} raises {' '.join(text.split())[:300]}"


def load(path: str, wanted: str) -> Any:
    """An object of the class, from a file whose neighbours it may import."""
    spec = importlib.util.spec_from_file_location(f"own_{Path(path).stem}", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise Fault(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    made = getattr(module, wanted, None)
    if not isinstance(made, type):
        raise Fault(f"{path} has no class {wanted}")
    own = made()
    for part in NEEDED:
        if not hasattr(own, part):
            raise Fault(f"the class has no {part}")
    return own


class Child:
    """Answers requests about one class."""

    def __init__(self, path: str, wanted: str, longest: int, marks: bytes):
        self.path, self.wanted, self.longest, self.marks = path, wanted, longest, marks
        self.own: Any = None
        self.bytes: bool | None = None   # whether it speaks bytes or text; told by its first item

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        calls: dict[str, Callable[[], Any]] = {
            "load": self.load, "generate": lambda: self.generate(request["level"], request["seed"]),
            "verify": lambda: self.verify(request["prompt"], request["answer"])}
        try:
            return {"value": calls[request["do"]]()}
        except Fault as fault:
            return {"fault": str(fault)}
        except BaseException as error:
            return {"fault": told(request["doing"], error)}

    def load(self) -> list[float]:
        """The chance of each level."""
        self.own = load(self.path, self.wanted)
        count = self.own.levels
        if not isinstance(count, int) or not 1 <= count <= 100:
            raise Fault(f"levels is {count!r}: give a number from 1 to 100")
        chances = [self.own.chance(level) for level in range(1, count + 1)]
        for level, chance in enumerate(chances, 1):
            if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
                raise Fault(f"chance({level}) is {chance!r}: give 0 to 1")
        return list(map(float, chances))

    def generate(self, level: int, seed: int) -> list[str]:
        found = self.own.generate(random.Random(seed), level)
        if not isinstance(found, tuple) or len(found) != 2:
            raise Fault(f"generate gives {type(found).__name__}: give the pair (prompt, answer)")
        self.bytes = isinstance(found[0], bytes)
        data = [self._as_bytes(what, value) for what, value in zip(("prompt", "answer"), found)]
        try:
            right = self.own.verify(*found)
        except BaseException as error:
            raise Fault(told("verify", error)) from None
        if not right:
            raise Fault(f"verify says {right!r} to its own {found[0]!r} {found[1]!r}"[:400])
        return [one.decode("latin-1") for one in data]

    def verify(self, prompt: str, answer: str) -> bool:
        """An answer of somebody else, which is wrong if the class cannot even read it."""
        if self.bytes is None:
            self.generate(1, 0)
        pair = [text.encode("latin-1") for text in (prompt, answer)]
        try:
            return bool(self.own.verify(*(one if self.bytes else one.decode(errors="replace")
                                          for one in pair)))
        except BaseException:
            return False

    def _as_bytes(self, what: str, value: Any) -> bytes:
        if not isinstance(value, (str, bytes)):
            raise Fault(f"{what} is {type(value).__name__}: give str or bytes")
        try:
            data = value.encode() if isinstance(value, str) else value
        except UnicodeEncodeError:
            raise Fault(f"{what} {value[:40]!r} is not valid text") from None
        if not 0 < len(data) <= self.longest:
            raise Fault(f"{what} has {len(data)} bytes: give 1 to {self.longest}")
        if set(data) & set(self.marks):
            raise Fault(f"{what} {data[:40]!r} holds byte 0xFE or 0xFF: they are marks")
        return data


def main(descriptor: str, parent: str, path: str, wanted: str, longest: str, marks: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):   # it has ended before that
        return
    os.dup2(2, 1)   # what the class prints is no reply
    child = Child(path, wanted, int(longest), bytes.fromhex(marks))
    with socket.socket(fileno=int(descriptor)) as link:
        lines = link.makefile("rw", encoding="ascii")
        for line in lines:
            lines.write(json.dumps(child.answer(json.loads(line))) + "\n")
            lines.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
