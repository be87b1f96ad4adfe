"""A few answers of an evaluation, for a person to read."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from seed.curriculum.task import Item
from seed.terminal.progress import Answer

MAX_EXAMPLES = 3   # of a task
MAX_TASKS = 100
MAX_BYTES = 300    # of a question and its answer; longer ones are no examples
MAX_SHORT_BYTES = 24   # of a question and its answer, in a panel


class Examples:
    """Of each task its first item, its last and one between: chosen before they are answered."""

    def __init__(self, items: Sequence[Item]):
        tasks: dict[str, list[Item]] = {}
        for item in dict.fromkeys(items):
            if len(item.prompt) + len(item.answer) <= MAX_BYTES:
                tasks.setdefault(item.task, []).append(item)
        chosen = [item for task_items in list(tasks.values())[:MAX_TASKS]
                  for item in _spread(task_items)]
        self._answers: dict[Item, Answer | None] = dict.fromkeys(chosen)

    def add(self, item: Item, target: np.ndarray, guess: np.ndarray) -> None:
        """An AnswerFn of an evaluation; other items than the chosen are left out."""
        if item in self._answers:
            self._answers[item] = Answer.of(item, target, guess)

    def to_rows(self) -> list[dict[str, Any]]:
        """For JSON, in the order of the tasks."""
        return [{"task": item.task, "level": item.level, **answer._asdict()}
                for item, answer in self._answers.items() if answer]


class ShortAnswers:
    """Those that have room in a panel."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def add(self, item: Item, target: np.ndarray, guess: np.ndarray) -> None:
        """An AnswerFn of an evaluation."""
        if len(item.prompt) + len(target) < MAX_SHORT_BYTES:
            self.answers.append(Answer.of(item, target, guess))


def _spread(items: list[Item]) -> list[Item]:
    last = max(1, min(len(items), MAX_EXAMPLES) - 1)
    return [items[(len(items) - 1) * i // last] for i in range(min(len(items), MAX_EXAMPLES))]
