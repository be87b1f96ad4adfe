"""Exact match on items never trained on, per task and level, beside the chance level.

One item a row from a fresh state. Every answer byte, END included, must be the arg max when the
true bytes before it are given; that is so exactly when greedy generation gives the answer.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from seed.curriculum.lessons import IGNORE, Curriculum, pack_one_per_row
from seed.curriculum.task import Item

ROWS = 16   # items of one forward pass
# Row lengths, so that few shapes are compiled; longer items take seq_len, or a power of two above.
BUCKETS = (32, 64)
Forward = Callable[[int, np.ndarray], np.ndarray]   # (row length, tokens (ROWS, t)) -> logits


@dataclass(frozen=True)
class Score:
    task: str
    level: int
    correct: int
    count: int      # distinct items: easy levels have few
    chance: float

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson 1927)."""
        z, n, p = 1.96, self.count, self.accuracy
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_dict(self) -> dict:
        return {**asdict(self), "accuracy": self.accuracy, "interval": self.interval}


def evaluate(items: Sequence[Item], curriculum: Curriculum, forward: Forward, seq_len: int,
             stopped: Callable[[], bool] = lambda: False) -> list[Score] | None:
    """Scores in the order of the items' tasks and levels; None if `stopped` became true."""
    distinct = list(dict.fromkeys(items))
    buckets: dict[int, list[Item]] = {}
    for item in distinct:
        length = len(item.prompt) + len(item.answer)
        sizes = [*(size for size in BUCKETS if size < seq_len), seq_len]
        fits = [size for size in sizes if length <= size] or [1 << (length - 1).bit_length()]
        buckets.setdefault(fits[0], []).append(item)
    right: dict[Item, bool] = {}
    for size, found in sorted(buckets.items()):
        for i in range(0, len(found), ROWS):
            if stopped():
                return None
            part = found[i:i + ROWS]
            tokens, targets = pack_one_per_row(part, size)
            padded = np.zeros((ROWS, size), np.int32)
            padded[:len(part)] = tokens
            guess = forward(size, padded)[:len(part)].argmax(-1)
            right |= zip(part, ((guess == targets) | (targets == IGNORE)).all(1).tolist())
    groups: dict[tuple[str, int], list[bool]] = {}
    for item in distinct:
        groups.setdefault((item.task, item.level), []).append(right[item])
    return [Score(task, level, sum(hits), len(hits), curriculum.tasks[task].chance(level))
            for (task, level), hits in groups.items()]


def by_task(scores: Sequence[Score]) -> dict[str, tuple[float, ...]]:
    """Accuracies of each task's levels, in their order."""
    return {name: tuple(s.accuracy for s in scores if s.task == name)
            for name in dict.fromkeys(s.task for s in scores)}


def table(scores: Sequence[Score]) -> str:
    """One line a task and level, and one a task."""
    lines = [f"{'task':<14}{'level':>6}{'exact %':>9}{'95 % interval':>16}{'chance %':>10}{'n':>6}"]
    for name in dict.fromkeys(s.task for s in scores):
        own = [s for s in scores if s.task == name]
        lines += [_line(s, str(s.level)) for s in own]
        if len(own) > 1:
            count = sum(s.count for s in own)
            chance = sum(s.chance * s.count for s in own) / count
            lines.append(_line(Score(name, 0, sum(s.correct for s in own), count, chance), "all"))
    return "\n".join(lines)


def _line(s: Score, level: str) -> str:
    low, high = (100 * x for x in s.interval)
    interval = f"{low:.1f} - {high:.1f}"
    return (f"{s.task:<14}{level:>6}{100 * s.accuracy:>9.1f}{interval:>16}{100 * s.chance:>10.1f}"
            f"{s.count:>6}")
