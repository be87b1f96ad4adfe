"""Answers requests about a user's task class, in its process (user_class_worker.py). Bytes are
written as latin-1. Needs the standard library alone."""
import random
from collections.abc import Callable
from typing import Any

from seed.curriculum.task_interface import TaskClass
from seed.curriculum.user_class_worker import InvalidClass, describe, load, outer_pid, shown
from seed.curriculum.vocab import END, PAD

MAX_LEVELS = 100
MAX_TEXT_BYTES = 4096     # of a prompt or an answer
REQUIRED = ("levels", "chance", "generate", "verify")


def to_bytes(what: str, value: Any, kind: str = "str or bytes") -> bytes:
    """Bytes or a text's UTF-8. Raises InvalidClass."""
    if not isinstance(value, (str, bytes)):
        raise InvalidClass(f"{what} is {type(value).__name__}: give {kind}")
    try:
        data = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise InvalidClass(f"{what} {shown(value)} is not valid text") from None
    if not 0 < len(data) <= MAX_TEXT_BYTES:
        raise InvalidClass(f"{what} has {len(data)} bytes: give 1 to {MAX_TEXT_BYTES}")
    return data


class Calls:
    """Of one class."""

    def __init__(self, path: str, class_name: str):
        self.path, self.class_name = path, class_name
        self.task: TaskClass         # once it is loaded
        self.uses_bytes: bool | None = None   # and not str; known from its first item

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"load": self.load, "generate": self.generate, "verify": self.verify}

    def load(self) -> dict[str, Any]:
        """The chance level of each level, and this process as the run sees it."""
        self.task = load(self.path, self.class_name, REQUIRED)()
        n_levels = self.task.levels
        if not isinstance(n_levels, int) or not 1 <= n_levels <= MAX_LEVELS:
            raise InvalidClass(f"levels is {shown(n_levels)}: give a number from 1 to {MAX_LEVELS}")
        chances = [self.task.chance(level) for level in range(1, n_levels + 1)]
        for level, chance in enumerate(chances, 1):
            if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
                raise InvalidClass(f"chance({level}) is {shown(chance)}: give 0 to 1")
        return {"chance_levels": list(map(float, chances)), "pid": outer_pid()}

    def generate(self, level: int, seed: int) -> list[str]:
        item = self.task.generate(random.Random(seed), level)
        if not isinstance(item, tuple) or len(item) != 2:
            raise InvalidClass(f"generate returns {type(item).__name__}: return (prompt, answer)")
        self.uses_bytes = isinstance(item[0], bytes)
        texts = [self._as_bytes(what, value) for what, value in zip(("prompt", "answer"), item)]
        try:
            verdict = self.task.verify(*item)
        except BaseException as error:
            raise InvalidClass(describe("verify", error)) from None
        if not verdict:
            raise InvalidClass(f"verify returns {shown(verdict)} for generate's {shown(item[0])} "
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
        if set(data) & {END, PAD}:
            raise InvalidClass(f"{what} {shown(data)} contains byte 0xFE or 0xFF: they are "
                               f"reserved")
        return data
