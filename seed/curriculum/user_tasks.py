"""Tasks of the user's own: a class in a Python file, or a recorded corpus.

Named in a profile's [curriculum.tasks] or with --task: `path.py:ClassName`, `lessons.jsonl` (a JSON
object with prompt and answer a line) or `notes.txt` (each line is learnt from its start on). What
such a file does wrong is a TaskError that names it: it raises, gives garbage, takes too long or
ends its process. A class runs in a process of its own (user_task_worker.py), so that nothing that it does
holds up or ends a run.
"""
import json
import os
import random
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seed.errors import ConfigError
from seed.curriculum import user_task_worker
from seed.curriculum.task import Item, Task, is_holdout
from seed.curriculum.vocab import END, PAD

LIMIT_S = 5.0     # for one call into a user's class
LOAD_S = 30.0     # for loading it, with what it imports
MEAN_S, SLACK_S = 0.05, 20.0   # for all calls: so much each, and so much more
LONGEST = 4096    # bytes of a prompt or an answer
SHOWN = 0.5       # share of a text line that is its prompt


class TaskError(ConfigError):
    """A user's task cannot be used; the message is one line that names it and its fault."""


def is_user_task(name: str) -> bool:
    """Whether a task's name is that of a file."""
    return ".py:" in name or name.endswith((".jsonl", ".txt", ".py"))


def load(name: str) -> Task:
    """The task of a name such as `path.py:ClassName` or `lessons.jsonl`. Raises TaskError."""
    if name.endswith(".py"):
        raise TaskError(f"{name}: name its class too, as in {Path(name).name}:ClassName")
    if "\0" in name:
        raise TaskError(f"{name!r} is no file's name")
    return Corpus(name) if ".py:" not in name else UserTask(name)


def check_forms(tasks: Iterable[Task], key: str, of: str) -> None:
    """Raises ConfigError unless each can tell its questions from other texts, as `key` needs."""
    for task in tasks:
        if isinstance(task, (UserTask, Corpus)):
            raise ConfigError(f"{key}: {task.name} does not say what its prompts look like: take "
                              f"it out of {of}, or use 0")


class UserTask(Task):
    """A user's class with `levels`, `chance(level)`, `generate(rng, level)` and `verify`.

    generate returns (prompt, answer) and draws only from rng.random(); verify(prompt, answer) takes
    what generate gave and says whether the answer is right.
    """
    extrapolates = False

    def __init__(self, name: str):
        self.name = name
        path, _, wanted = name.rpartition(":")
        self._link, other = socket.socketpair()
        with other:
            process = subprocess.Popen(
                [sys.executable, "-P", user_task_worker.__file__, str(other.fileno()),
                 str(os.getpid()), path, wanted, str(LONGEST), bytes([END, PAD]).hex()],
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        self._end = weakref.finalize(self, _end, process, self._link)
        self._calls, self._spent_s = 0, 0.0
        self.chances = tuple(self._ask("loading", LOAD_S, do="load"))

    def _ask(self, doing: str, limit_s: float, **request: Any) -> Any:
        """What the class says. Raises TaskError."""
        began, data = time.monotonic(), bytearray()
        try:
            self._link.sendall(json.dumps({**request, "doing": doing}).encode() + b"\n")
            while not data.endswith(b"\n"):
                self._link.settimeout(max(1e-3, began + limit_s - time.monotonic()))
                part = self._link.recv(65536)
                if not part:
                    raise ConnectionResetError
                data += part
        except TimeoutError:
            self._end()
            raise TaskError(f"{self.name}: {doing} takes longer than {limit_s:.0f} s: make it "
                            f"quicker") from None
        except OSError:
            self._end()
            raise TaskError(f"{self.name}: {doing} ends its process: it must not") from None
        reply = json.loads(data)
        if "fault" in reply:
            raise TaskError(f"{self.name}: {reply['fault']}")
        if request["do"] != "load":
            self._calls, self._spent_s = self._calls + 1, self._spent_s + time.monotonic() - began
            if self._spent_s > SLACK_S + MEAN_S * self._calls:
                raise TaskError(f"{self.name}: its calls take {self._spent_s / self._calls:.2f} s "
                                f"each: make it quicker")
        return reply["value"]

    def generate(self, rng: random.Random, level: int) -> Item:
        """The class has dice of its own, so that it cannot disturb those of others."""
        pair = self._ask(f"generate at level {level}", LIMIT_S, do="generate", level=level,
                         seed=int(rng.random() * 2 ** 53))
        return Item(self.name, level, *(text.encode("latin-1") for text in pair))

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return self._ask("verify", LIMIT_S, do="verify", prompt=prompt.decode("latin-1"),
                         answer=answer.decode("latin-1"))


def _end(process: subprocess.Popen, link: socket.socket) -> None:
    link.close()
    process.kill()
    process.wait()


class Corpus(Task):
    """Recorded prompts and answers; the holdout is chosen by the prompt's hash, as everywhere."""
    extrapolates = False

    def __init__(self, name: str):
        self.name = name
        try:
            if Path(name).exists() and not Path(name).is_file():
                raise TaskError(f"{name} is not a file")
            lines = Path(name).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
        read = self._pair if name.endswith(".jsonl") else self._split
        self.items = [read(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        self.right = {(item.prompt, item.answer) for item in self.items}
        sides = [Counter(item.answer for item in set(self.items)
                         if is_holdout(item.prompt) == kept) for kept in (True, False)]
        if not all(sides):
            raise TaskError(f"{name}: {len(self.items)} lines are too few to keep one of eight "
                            f"back: give at least some dozens")
        self.chances = (max(side.most_common(1)[0][1] / side.total() for side in sides),)

    def _pair(self, number: int, line: str) -> Item:
        place = f"{self.name} line {number}"
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TaskError(f'{place}: give {{"prompt": "...", "answer": "..."}}') from None
        return Item(self.name, 1, *(self._said(place, what, value) for what, value in (
            ("prompt", prompt), ("answer", answer))))

    def _split(self, number: int, line: str) -> Item:
        data = self._said(f"{self.name} line {number}", "the line", line)
        at = max(1, int(len(data) * SHOWN))
        while at > 1 and data[at] & 0xC0 == 0x80:   # inside of a character
            at -= 1
        if len(data) < 2:
            raise TaskError(f"{self.name} line {number}: give at least two bytes")
        return Item(self.name, 1, data[:at], data[at:])

    def _said(self, place: str, what: str, value: Any) -> bytes:
        if not isinstance(value, str):
            raise TaskError(f"{place}: {what} is {type(value).__name__}: give text")
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise TaskError(f"{place}: {what} {value[:40]!r} is not valid text") from None
        if not 0 < len(data) <= LONGEST:
            raise TaskError(f"{place}: {what} has {len(data)} bytes: give 1 to {LONGEST}")
        return data   # UTF-8 never has the bytes that are marks

    def generate(self, rng: random.Random, level: int) -> Item:
        return self.items[int(rng.random() * len(self.items))]

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return (prompt, answer) in self.right
