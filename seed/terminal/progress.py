"""What is known of a training at one instant, for every view of it."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from seed.curriculum.task import Item
from seed.curriculum.vocab import decode

MAX_LOSSES = 64


class Answer(NamedTuple):
    """To one held-out question, up to the first byte that is wrong; `right`: what it should be."""
    prompt: str
    answer: str
    right: str

    @classmethod
    def of(cls, item: Item, target: np.ndarray, guess: np.ndarray) -> "Answer":
        """As the evaluation has them, (n,) bytes with END."""
        wrong = np.flatnonzero(target != guess)
        answer = guess[:-1] if not wrong.size else guess[:wrong[0] + 1]
        return cls(decode(item.prompt), decode(bytes(answer.tolist()))
                   + ("" if not wrong.size else "…"), decode(item.answer))


@dataclass(frozen=True)
class Progress:
    """Fields that are None are not known, or there is nothing of the kind."""
    profile: str
    run_dir: str
    step: int
    total_steps: int = 0                 # 0: the time is the limit
    fraction: float = 0.0                # of the run
    left_s: float | None = None
    next_eval_s: float | None = None
    loss: float | None = None            # a mean of the last steps
    losses: Sequence[float] = ()         # of equal parts of the run, the last one the newest
    grade: int | None = None             # the lowest that is not passed
    n_grades: int = 0
    accuracy: Mapping[int, Mapping[str, float]] = field(default_factory=dict)   # grade, task
    passed: Sequence[str] = ()
    event: str = ""                      # the last one: a grade that unlocked
    answers: Sequence[Answer] = ()
    returns: Mapping[str, Sequence[float]] = field(default_factory=dict)   # of bodies, in order
    temp_c: float | None = None
    board: str = "ok"                    # the governor's level
    memory_mb: float | None = None
    max_memory_mb: float = 0.0
    tokens_per_s: float = 0.0
    saved_s: float | None = None         # since the last save
    duty: float = 1.0
    reason: str = ""                     # of a duty below 1
    waited_s: float = 0.0
    skipped: int = 0                     # steps that were not finite
    doing: str = ""                      # another thing than training steps


class Losses:
    """Means of equal parts of a run, never more than MAX_LOSSES."""

    def __init__(self) -> None:
        self.means: list[float] = []
        self._size, self._part = 1, list[float]()

    def add(self, loss: float) -> None:
        self._part.append(loss)
        if len(self._part) < self._size:
            return
        self.means.append(sum(self._part) / self._size)
        self._part = []
        if len(self.means) == MAX_LOSSES:
            self.means = [(a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2])]
            self._size *= 2
