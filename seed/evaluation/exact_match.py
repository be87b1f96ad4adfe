"""Exact match on items never trained on, per task and level, beside the chance level.

One item per row from a fresh state. An item is right if every answer byte, END included, is the
argmax given the true bytes before it: equivalently, greedy decoding gives the answer.
"""
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.curriculum.dataset import IGNORE, Dataset, pack_one_per_row
from seed.curriculum.task import Item
from seed.errors import printable
from seed.evaluation.figure import Z
from seed.interpreter import near

ROWS = 16   # items of one forward pass
# Row lengths, so that few shapes are compiled; longer items take seq_len, or a power of two above.
BUCKETS = (32, 64)
SCORE_KEYS = "task", "level", "correct", "count", "chance"
AnswerFn = Callable[[Item, np.ndarray, np.ndarray], object]   # item, its answer with END, the guess
ForwardFn = Callable[[int, np.ndarray], np.ndarray]   # t, tokens (ROWS, t) -> logits (ROWS, t, v)


@dataclass(frozen=True)
class Score:
    task: str
    level: int
    correct: int
    count: int      # distinct items: easy levels have few
    chance: float   # accuracy of the best answer that ignores the prompt
    hits: tuple[bool, ...] = field(default=(), compare=False, repr=False)   # of each item, in order

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson 1927)."""
        z, n, p = Z, self.count, self.accuracy
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Score":
        """The inverse of `to_dict`."""
        return cls(*(row[name] for name in SCORE_KEYS))

    def to_dict(self) -> dict:
        return {**{name: getattr(self, name) for name in SCORE_KEYS}, "accuracy": self.accuracy,
                "interval": self.interval}


def forward_rows(items: Sequence[Item], t: int,
                 forward_fn: ForwardFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, t, v) and targets (n, t) of n <= ROWS items, one per row."""
    batch, tokens = pack_one_per_row(items, t), np.zeros((ROWS, t), np.int32)
    tokens[:len(items)] = batch.tokens
    return forward_fn(t, tokens)[:len(items)], batch.targets


def _teacher_forced(items: Sequence[Item], forward_fn: ForwardFn, seq_len: int,
                    should_stop_fn: Callable[[], bool] = lambda: False
                    ) -> Iterator[tuple[Item, np.ndarray, np.ndarray]]:
    """Per item until `should_stop_fn` is true: answer bytes with END, their argmax; (n,) each."""
    buckets: dict[int, list[Item]] = {}
    sizes = [*(size for size in BUCKETS if size < seq_len), seq_len]
    for item in items:
        length = len(item.prompt) + len(item.answer)
        fitting = [size for size in sizes if length <= size] or [1 << (length - 1).bit_length()]
        buckets.setdefault(fitting[0], []).append(item)
    for size, bucket in sorted(buckets.items()):
        for i in range(0, len(bucket), ROWS):
            if should_stop_fn():
                return
            row_items = bucket[i:i + ROWS]
            logits, targets = forward_rows(row_items, size, forward_fn)
            for item, guess, target in zip(row_items, logits.argmax(-1), targets):
                in_answer = target != IGNORE
                yield item, target[in_answer], guess[in_answer]


def evaluate(items: Sequence[Item], dataset: Dataset, forward_fn: ForwardFn, seq_len: int,
             should_stop_fn: Callable[[], bool] = lambda: False,
             answer_fn: AnswerFn = lambda *_: None) -> list[Score] | None:
    """Scores in the order of the items' tasks and levels; None if `should_stop_fn` was true.
    `answer_fn` gets each item and its answer with END: after a wrong byte, what would follow the
    right one."""
    distinct, right = list(dict.fromkeys(items)), dict[Item, bool]()
    for item, target, guess in _teacher_forced(distinct, forward_fn, seq_len, should_stop_fn):
        right[item] = bool((guess == target).all())
        answer_fn(item, target, guess)
    if len(right) < len(distinct):
        return None
    groups: dict[tuple[str, int], list[bool]] = {}
    for item in distinct:
        groups.setdefault((item.task, item.level), []).append(right[item])
    return [Score(task, level, sum(hits), len(hits), dataset.chance(task, level), tuple(hits))
            for (task, level), hits in groups.items()]


def agreement(items: Sequence[Item], first_fn: ForwardFn, second_fn: ForwardFn,
              seq_len: int) -> float:
    """Fraction of the items at which two brains choose the same bytes, right or wrong."""
    distinct = list(dict.fromkeys(items))
    first, second = ({item: guess.tobytes() for item, _, guess in
                      _teacher_forced(distinct, forward_fn, seq_len)}
                     for forward_fn in (first_fn, second_fn))
    return sum(first[item] == second[item] for item in distinct) / max(1, len(distinct))


class LevelMean(NamedTuple):
    """Of levels that count alike, however many questions each has."""
    accuracy: float
    chance: float
    interval: tuple[float, float]   # 95 %, from those of the levels (MOVER, Zou and Donner 2008)


def mean_of_levels(scores: Sequence[Score]) -> LevelMean:
    """Of at least one score."""
    n = len(scores)
    accuracy = sum(s.accuracy for s in scores) / n
    below, above = (math.sqrt(sum((s.interval[end] - s.accuracy) ** 2 for s in scores)) / n
                    for end in (0, 1))
    return LevelMean(accuracy, sum(s.chance for s in scores) / n,
                     (max(0.0, accuracy - below), min(1.0, accuracy + above)))


def by_task(scores: Sequence[Score]) -> dict[str, tuple[float, ...]]:
    """Accuracies of each task's levels, in their order."""
    return {name: tuple(s.accuracy for s in scores if s.task == name)
            for name in dict.fromkeys(s.task for s in scores)}


def table(scores: Sequence[Score], levels: bool = True) -> str:
    """One line per task; if `levels`, a line for each of its levels before it."""
    lines = [f"{'task':<14}{'level':>6}{'exact %':>9}{'95 % interval':>16}{'chance %':>10}{'n':>6}"]
    for name in dict.fromkeys(s.task for s in scores):
        task_scores = [s for s in scores if s.task == name]
        if levels or len(task_scores) == 1:
            lines += [_line(s, str(s.level)) for s in task_scores]
        if len(task_scores) > 1:
            count = sum(s.count for s in task_scores)
            chance = sum(s.chance * s.count for s in task_scores) / count
            correct = sum(s.correct for s in task_scores)
            lines.append(_line(Score(name, 0, correct, count, chance), "all"))
    return "\n".join(lines)


def _line(s: Score, level: str) -> str:
    low, high = (100 * x for x in s.interval)
    interval = f"{low:.1f} - {high:.1f}"
    return (f"{printable(s.task):<14}{level:>6}{100 * s.accuracy:>9.1f}{interval:>16}"
            f"{100 * s.chance:>10.1f}{s.count:>6}")


def comparison(names: tuple[str, str], scores: tuple[Sequence[Score], Sequence[Score]]) -> str:
    """One line per task: exact % over all its levels, of two brains."""
    lines = [f"{'task':<28}{names[0]:>10}{names[1]:>10}{'n':>7}"]
    for name in dict.fromkeys(score.task for score in scores[1]):
        counts = [(sum(s.correct for s in brain_scores if s.task == name),
                   sum(s.count for s in brain_scores if s.task == name))
                  for brain_scores in scores]
        lines.append(f"{_shown(name):<28}" + "".join(f"{100 * hits / max(1, n):>10.1f}"
                                                     for hits, n in counts) + f"{counts[1][1]:>7}")
    return "\n".join(lines)


def _shown(task: str) -> str:
    """In a column of 28: a file from the current folder; what is cut off shows."""
    name = printable(near(Path(task)) if task.startswith("/") else task)
    return name if len(name) <= 28 else "..." + name[-25:]
