"""Answers requests about a user's task class, in its process (user_class_worker.py). An item's
tokens are written as latin-1. Needs the standard library alone."""
import random
from collections.abc import Callable
from typing import Any

from seed.curriculum.task_interface import TaskClass
from seed.curriculum.user_class_worker import InvalidClass, describe, load, outer_pid, shown
from seed.curriculum.user_items import item_tokens
from seed.curriculum.vocab import escape, unescape

MAX_LEVELS = 100          # that are trained, and as many that are evaluated only
FLAGS = {"stepwise": False, "holdout": True}
REQUIRED = ("levels", "chance", "generate", "verify")


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
        if type(n_levels) is not int or not 1 <= n_levels <= MAX_LEVELS:
            raise InvalidClass(f"levels is {shown(n_levels)}: give a number from 1 to {MAX_LEVELS}")
        chances = [self.task.chance(level) for level in range(1, n_levels + 1)]
        for level, chance in enumerate(chances, 1):
            if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
                raise InvalidClass(f"chance({level}) is {shown(chance)}: give 0 to 1")
        n_beyond = getattr(self.task, "extrapolation_levels", 0)
        if type(n_beyond) is not int or not 0 <= n_beyond <= MAX_LEVELS:
            raise InvalidClass(f"extrapolation_levels is {shown(n_beyond)}: give a number from 0 "
                               f"to {MAX_LEVELS}")
        flags = {name: getattr(self.task, name, default) for name, default in FLAGS.items()}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise InvalidClass(f"{name} is {shown(flag)}: give True or False")
        return {"chance_levels": list(map(float, chances)), "extrapolation_levels": n_beyond,
                **flags, "pid": outer_pid()}

    def generate(self, level: int, seed: int) -> list[str]:
        item = self.task.generate(random.Random(seed), level)
        if not isinstance(item, tuple) or len(item) not in (2, 3):
            raise InvalidClass(f"generate returns {type(item).__name__}: return (prompt, answer), "
                               'or (prompt, answer, {"questions": [(end, text), ...]})')
        tokens = item_tokens(*item)
        self._check_kind(*item[:2])
        try:
            verdict = self.task.verify(*item[:2])
        except BaseException as error:
            raise InvalidClass(describe("verify", error)) from None
        if not verdict:
            raise InvalidClass(f"verify returns {shown(verdict)} for generate's {shown(item[0])} "
                               f"{shown(item[1])}")
        return [text.decode("latin-1") for text in tokens]

    def _check_kind(self, prompt: str | bytes, answer: str | bytes) -> None:
        """All items are str or all are bytes, as `verify` then gets them. Raises InvalidClass."""
        if self.uses_bytes is None:
            self.uses_bytes = isinstance(prompt, bytes)
        kind = "bytes" if self.uses_bytes else "str"
        for what, value in (("prompt", prompt), ("answer", answer)):
            if isinstance(value, bytes) != self.uses_bytes:
                raise InvalidClass(f"{what} {shown(value)} is {type(value).__name__}, and other "
                                   f"texts of the class are {kind}: give all as {kind}")

    def verify(self, prompt: str, answer: str) -> bool:
        """Judges any answer: wrong if the class cannot even parse it."""
        if self.uses_bytes is None:
            self.generate(1, 0)
        tokens = [text.encode("latin-1") for text in (prompt, answer)]
        pair = list(map(unescape, tokens))
        if list(map(escape, pair)) != tokens:   # ESCAPE before a byte that it does not stand for
            return False
        try:
            return bool(self.task.verify(*(text if self.uses_bytes else
                                           text.decode(errors="replace") for text in pair)))
        except BaseException:
            return False
