"""Runs a user's task class in its own process, so that it can neither stop nor disturb the run.

    python user_task_worker.py FD PARENT PATH CLASS MARKS

PARENT is the process with which it ends, MARKS in hexadecimal the bytes that a text must not
contain. Requests and replies are JSON lines on the socket FD, with bytes written as latin-1. A
reply is {"value": ...} or {"error": "one line"}. Needs the standard library alone.
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
MAX_LEVELS = 100
MAX_TEXT_BYTES = 4096   # of a prompt or an answer
REQUIRED = ("levels", "chance", "generate", "verify")


class InvalidTask(Exception):
    """What is wrong with a class or a text, in one line."""


def describe(call: str, error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:   # even __str__ is the user's code
        text = type(error).__name__
    return f"{call} raises {' '.join(text.split())[:300]}"


def load(path: str, class_name: str) -> Any:
    """An object of the class, from a file that may import its neighbours."""
    spec = importlib.util.spec_from_file_location(f"user_task_{Path(path).stem}", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InvalidTask(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    task_class = getattr(module, class_name, None)
    if not isinstance(task_class, type):
        raise InvalidTask(f"{path} has no class {class_name}")
    task = task_class()
    for name in REQUIRED:
        if not hasattr(task, name):
            raise InvalidTask(f"the class has no {name}")
    return task


def to_bytes(what: str, value: Any, kind: str = "str or bytes") -> bytes:
    """Bytes or a text's UTF-8. Raises InvalidTask."""
    if not isinstance(value, (str, bytes)):
        raise InvalidTask(f"{what} is {type(value).__name__}: give {kind}")
    try:
        data = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise InvalidTask(f"{what} {value[:40]!r} is not valid text") from None
    if not 0 < len(data) <= MAX_TEXT_BYTES:
        raise InvalidTask(f"{what} has {len(data)} bytes: give 1 to {MAX_TEXT_BYTES}")
    return data


class Worker:
    """Answers requests about one class."""

    def __init__(self, path: str, class_name: str, marks: bytes):
        self.path, self.class_name, self.marks = path, class_name, marks
        self.task: Any = None
        self.uses_bytes: bool | None = None   # and not str; known from its first item

    def reply(self, call: str, do: str, **arguments: Any) -> dict[str, Any]:
        methods: dict[str, Callable[..., Any]] = {
            "load": self.load, "generate": self.generate, "verify": self.verify}
        try:
            return {"value": methods[do](**arguments)}
        except InvalidTask as error:
            return {"error": str(error)}
        except BaseException as error:
            return {"error": describe(call, error)}

    def load(self) -> list[float]:
        """The chance level of each level."""
        self.task = load(self.path, self.class_name)
        n_levels = self.task.levels
        if not isinstance(n_levels, int) or not 1 <= n_levels <= MAX_LEVELS:
            raise InvalidTask(f"levels is {n_levels!r}: give a number from 1 to {MAX_LEVELS}")
        chances = [self.task.chance(level) for level in range(1, n_levels + 1)]
        for level, chance in enumerate(chances, 1):
            if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
                raise InvalidTask(f"chance({level}) is {chance!r}: give 0 to 1")
        return list(map(float, chances))

    def generate(self, level: int, seed: int) -> list[str]:
        item = self.task.generate(random.Random(seed), level)
        if not isinstance(item, tuple) or len(item) != 2:
            raise InvalidTask(f"generate returns {type(item).__name__}: return (prompt, answer)")
        self.uses_bytes = isinstance(item[0], bytes)
        texts = [self._as_bytes(what, value) for what, value in zip(("prompt", "answer"), item)]
        try:
            verdict = self.task.verify(*item)
        except BaseException as error:
            raise InvalidTask(describe("verify", error)) from None
        if not verdict:
            raise InvalidTask(f"verify returns {verdict!r} for generate's {item[0]!r} {item[1]!r}"
                              [:400])
        return [text.decode("latin-1") for text in texts]

    def verify(self, prompt: str, answer: str) -> bool:
        """Judges any answer: wrong if the class cannot even parse it."""
        if self.uses_bytes is None:
            self.generate(1, 0)
        pair = [text.encode("latin-1") for text in (prompt, answer)]
        try:
            return bool(self.task.verify(*(text if self.uses_bytes else
                                           text.decode(errors="replace") for text in pair)))
        except BaseException:
            return False

    def _as_bytes(self, what: str, value: Any) -> bytes:
        data = to_bytes(what, value)
        if set(data) & set(self.marks):
            raise InvalidTask(f"{what} {data[:40]!r} contains byte 0xFE or 0xFF: they are reserved")
        return data


def main(fd: str, parent: str, path: str, class_name: str, marks: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):   # the parent ended before that
        return
    os.dup2(2, 1)   # what the class prints is no reply
    worker = Worker(path, class_name, bytes.fromhex(marks))
    with socket.socket(fileno=int(fd)) as link:
        lines = link.makefile("rw", encoding="ascii")
        for line in lines:
            lines.write(json.dumps(worker.reply(**json.loads(line))) + "\n")
            lines.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
