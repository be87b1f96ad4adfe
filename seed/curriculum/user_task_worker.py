"""Runs a user's task class in its own process, so that it can neither stop nor disturb the run.

    python user_task_worker.py FD PATH CLASS MARKS

MARKS are in hexadecimal the bytes that a text must not contain. Requests and replies are frames on
the socket FD: four bytes with the length, then JSON, with bytes written as latin-1. A reply has the
request's id and a `value`, or an `error` of one line. Needs the standard library alone.
"""
import importlib.util
import json
import os
import random
import reprlib
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_LEVELS = 100
MAX_TEXT_BYTES = 4096     # of a prompt or an answer
MAX_FRAME_BYTES = 65536   # JSON needs up to six bytes for one
MAX_ERROR = 400           # characters
LENGTH_BYTES = 4          # of a frame's length
REQUIRED = ("levels", "chance", "generate", "verify")


class InvalidTask(Exception):
    """What is wrong with a class or a text, in one line."""


def describe(call: str, error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {str(error)[:300]}"
    except BaseException:   # even __str__ is the user's code
        text = type(error).__name__
    return f"{call} raises {' '.join(text.split())[:300]}"


def shown(value: object) -> str:
    """A value of whatever size as a short text."""
    try:
        return reprlib.repr(value)[:120]
    except BaseException:   # __repr__ is the user's code too
        return type(value).__name__


def outer_pid() -> int:
    """The id outside of this process's PID namespace; 0 if /proc is not there to tell it."""
    try:
        return int(os.readlink("/proc/self"))
    except (OSError, ValueError):
        return 0


def to_frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


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
        raise InvalidTask(f"{what} {shown(value)} is not valid text") from None
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
            return {"error": str(error)[:MAX_ERROR]}
        except BaseException as error:
            return {"error": describe(call, error)}

    def load(self) -> dict[str, Any]:
        """The chance level of each level, and this process as the run sees it."""
        self.task = load(self.path, self.class_name)
        n_levels = self.task.levels
        if not isinstance(n_levels, int) or not 1 <= n_levels <= MAX_LEVELS:
            raise InvalidTask(f"levels is {shown(n_levels)}: give a number from 1 to {MAX_LEVELS}")
        chances = [self.task.chance(level) for level in range(1, n_levels + 1)]
        for level, chance in enumerate(chances, 1):
            if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
                raise InvalidTask(f"chance({level}) is {shown(chance)}: give 0 to 1")
        return {"chance_levels": list(map(float, chances)), "pid": outer_pid()}

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
            raise InvalidTask(f"verify returns {shown(verdict)} for generate's {shown(item[0])} "
                              f"{shown(item[1])}")
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
            raise InvalidTask(f"{what} {shown(data)} contains byte 0xFE or 0xFF: they are reserved")
        return data


def main(fd: str, path: str, class_name: str, marks: str) -> None:
    os.set_inheritable(int(fd), False)   # no process of the class is heard
    worker = Worker(path, class_name, bytes.fromhex(marks))
    with suppress(OSError), socket.socket(fileno=int(fd)) as link:   # the run may end first
        frames = link.makefile("rb")
        while header := frames.read(LENGTH_BYTES):
            request = json.loads(frames.read(int.from_bytes(header, "big")))
            number = request.pop("id")
            link.sendall(to_frame({"id": number, **worker.reply(**request)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
