"""User tasks: a class in a Python file, or a recorded corpus.

Named in a profile's [curriculum.tasks] or with --task: `path.py:ClassName`, `items.jsonl` (a JSON
object with prompt and answer a line) or `notes.txt` (the second half of each line continues the
first). A file that raises, returns garbage, takes too long or ends its process is a UserTaskError
that names it. A class runs in its own process, user_task_worker.py.
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

from seed.errors import ConfigError, UserTaskError
from seed.curriculum import user_task_worker
from seed.curriculum.task import Item, Task, is_holdout, pick
from seed.curriculum.user_task_worker import InvalidTask, to_bytes
from seed.curriculum.vocab import END, PAD

MAX_LOAD_S = 30.0        # to load a class with what it imports
MAX_CALL_S = 5.0         # for one call of its methods
MAX_MEAN_CALL_S = 0.05   # for all calls so far on average, after a grace
CALLS_GRACE_S = 20.0
PROMPT_FRACTION = 0.5    # of a text line; the rest is its answer


def is_user_task(name: str) -> bool:
    """Whether a task's name is that of a file."""
    return ".py:" in name or name.endswith((".jsonl", ".txt", ".py"))


def load(name: str) -> Task:
    """The task of a name such as `path.py:ClassName` or `items.jsonl`. Raises UserTaskError."""
    if name.endswith(".py"):
        raise UserTaskError(f"{name}: name its class too, as in {Path(name).name}:ClassName")
    if "\0" in name:
        raise UserTaskError(f"{name!r} is no file name")
    return Corpus(name) if ".py:" not in name else UserTask(name)


def require_prompt_pattern(tasks: Iterable[Task], key: str, tasks_key: str) -> None:
    """Raises ConfigError unless each task can tell its prompts from other texts, as `key` needs."""
    for task in tasks:
        if isinstance(task, (UserTask, Corpus)):
            raise ConfigError(f"{key} needs tasks with a prompt pattern, {task.name} has none: "
                              f"remove it from {tasks_key}, or set {key}=0")


class UserTask(Task):
    """A user's class with `levels`, `chance(level)`, `generate(rng, level)` and `verify`.

    generate returns (prompt, answer) and draws only from rng.random(); verify(prompt, answer)
    returns whether the answer is right.
    """
    extrapolates = False

    def __init__(self, name: str):
        self.name = name
        path, _, class_name = name.rpartition(":")
        self._link, worker_link = socket.socketpair()
        with worker_link:
            process = subprocess.Popen(
                [sys.executable, "-P", user_task_worker.__file__, str(worker_link.fileno()),
                 str(os.getpid()), path, class_name, bytes([END, PAD]).hex()],
                pass_fds=[worker_link.fileno()], stdin=subprocess.DEVNULL)
        self._close = weakref.finalize(self, _end, process, self._link)
        self._calls, self._calls_s = 0, 0.0
        self.chance_levels = tuple(self._call("loading", MAX_LOAD_S, do="load"))

    def _call(self, call: str, max_s: float, **request: Any) -> Any:
        """What the worker replies to a request. Raises UserTaskError."""
        start, data = time.monotonic(), bytearray()
        try:
            self._link.sendall(json.dumps({**request, "call": call}).encode() + b"\n")
            while not data.endswith(b"\n"):
                self._link.settimeout(max(1e-3, start + max_s - time.monotonic()))
                chunk = self._link.recv(65536)
                if not chunk:
                    raise ConnectionResetError
                data += chunk
        except TimeoutError:
            self._close()
            raise UserTaskError(f"{self.name}: {call} takes longer than {max_s:.0f} s: make it "
                                f"faster") from None
        except OSError:
            self._close()
            raise UserTaskError(f"{self.name}: the task's process exited during {call}") from None
        reply = json.loads(data)
        if "error" in reply:
            raise UserTaskError(f"{self.name}: {reply['error']}")
        if request["do"] != "load":
            self._calls, self._calls_s = self._calls + 1, self._calls_s + time.monotonic() - start
            if self._calls_s > CALLS_GRACE_S + MAX_MEAN_CALL_S * self._calls:
                raise UserTaskError(f"{self.name}: a call takes {self._calls_s / self._calls:.2f} "
                                    f"s on average: make it faster than {MAX_MEAN_CALL_S} s")
        return reply["value"]

    def generate(self, rng: random.Random, level: int) -> Item:
        """The class gets its own generator, so that it cannot disturb other draws."""
        pair = self._call(f"generate at level {level}", MAX_CALL_S, do="generate", level=level,
                          seed=int(rng.random() * 2 ** 53))
        return Item(self.name, level, *(text.encode("latin-1") for text in pair))

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return self._call("verify", MAX_CALL_S, do="verify", prompt=prompt.decode("latin-1"),
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
                raise UserTaskError(f"{name} is not a file")
            lines = Path(name).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserTaskError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
        self.items = [self._item(number, line)
                      for number, line in enumerate(lines, 1) if line.strip()]
        self.pairs = {(item.prompt, item.answer) for item in self.items}
        answers = [Counter(item.answer for item in set(self.items)
                           if is_holdout(item.prompt) == holdout) for holdout in (True, False)]
        if not all(answers):
            n_prompts = len({item.prompt for item in self.items})
            raise UserTaskError(f"{name}: {len(self.items)} lines have {n_prompts} distinct prompt"
                                f"{'' if n_prompts == 1 else 's'}, too few for a holdout of one in "
                                f"eight: give at least some dozens")
        self.chance_levels = (max(side.most_common(1)[0][1] / side.total() for side in answers),)

    def _item(self, number: int, line: str) -> Item:
        split_fn = _split_json if self.name.endswith(".jsonl") else _split_text
        try:
            return Item(self.name, 1, *split_fn(line))
        except InvalidTask as error:
            raise UserTaskError(f"{self.name} line {number}: {error}") from None

    def generate(self, rng: random.Random, level: int) -> Item:
        return pick(rng, self.items)

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return (prompt, answer) in self.pairs


def _split_json(line: str) -> list[bytes]:
    try:
        row = json.loads(line)
        texts = {what: row[what] for what in ("prompt", "answer")}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidTask('give {"prompt": "...", "answer": "..."}') from None
    return [to_bytes(what, text, "text") for what, text in texts.items()]


def _split_text(line: str) -> list[bytes]:
    data = to_bytes("the line", line)
    if len(data) < 2:
        raise InvalidTask("give at least two bytes")
    split = max(1, int(len(data) * PROMPT_FRACTION))
    while split > 1 and data[split] & 0xC0 == 0x80:   # inside a character
        split -= 1
    return [data[:split], data[split:]]
