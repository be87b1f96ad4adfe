"""Exact match on items never trained on, per task and level, beside the chance level.

One item a row from a fresh state. Every answer byte, END included, must be the arg max when the
true bytes before it are given; that is so exactly when greedy generation gives the answer.
"""
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from seed.curriculum.dataset import IGNORE, Dataset, pack_one_per_row
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


def _guesses(items: Sequence[Item], forward: Forward, seq_len: int,
             stopped: Callable[[], bool]) -> Iterator[tuple[Item, np.ndarray, np.ndarray]]:
    """Of each item: the answer bytes with END, and the arg max at their places, (n,) each.

    Ends early when `stopped` becomes true.
    """
    buckets: dict[int, list[Item]] = {}
    for item in items:
        length = len(item.prompt) + len(item.answer)
        sizes = [*(size for size in BUCKETS if size < seq_len), seq_len]
        fits = [size for size in sizes if length <= size] or [1 << (length - 1).bit_length()]
        buckets.setdefault(fits[0], []).append(item)
    for size, found in sorted(buckets.items()):
        for i in range(0, len(found), ROWS):
            if stopped():
                return
            part = found[i:i + ROWS]
            batch = pack_one_per_row(part, size)
            padded = np.zeros((ROWS, size), np.int32)
            padded[:len(part)] = batch.tokens
            guess = forward(size, padded)[:len(part)].argmax(-1)
            for item, own, target in zip(part, guess, batch.targets):
                learnt = target != IGNORE
                yield item, target[learnt], own[learnt]


def evaluate(items: Sequence[Item], dataset: Dataset, forward: Forward, seq_len: int,
             stopped: Callable[[], bool] = lambda: False) -> list[Score] | None:
    """Scores in the order of the items' tasks and levels; None if `stopped` became true."""
    distinct = list(dict.fromkeys(items))
    right = {item: bool((guess == target).all())
             for item, target, guess in _guesses(distinct, forward, seq_len, stopped)}
    if len(right) < len(distinct):
        return None
    groups: dict[tuple[str, int], list[bool]] = {}
    for item in distinct:
        groups.setdefault((item.task, item.level), []).append(right[item])
    return [Score(task, level, sum(hits), len(hits), dataset.tasks[task].chance(level))
            for (task, level), hits in groups.items()]


def agreement(items: Sequence[Item], one: Forward, other: Forward, seq_len: int) -> float:
    """Share of the items at which two brains take the same bytes, right or wrong."""
    distinct = list(dict.fromkeys(items))
    said = [{item: guess.tobytes() for item, _, guess in
             _guesses(distinct, forward, seq_len, lambda: False)} for forward in (one, other)]
    return sum(said[0][item] == said[1][item] for item in distinct) / max(1, len(distinct))


def by_task(scores: Sequence[Score]) -> dict[str, tuple[float, ...]]:
    """Accuracies of each task's levels, in their order."""
    return {name: tuple(s.accuracy for s in scores if s.task == name)
            for name in dict.fromkeys(s.task for s in scores)}


def table(scores: Sequence[Score], levels: bool = True) -> str:
    """One line a task, and before it one for each of its `levels`."""
    lines = [f"{'task':<14}{'level':>6}{'exact %':>9}{'95 % interval':>16}{'chance %':>10}{'n':>6}"]
    for name in dict.fromkeys(s.task for s in scores):
        own = [s for s in scores if s.task == name]
        lines += [_line(s, str(s.level)) for s in own if levels or len(own) == 1]
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


def comparison(names: tuple[str, str], scores: tuple[Sequence[Score], Sequence[Score]]) -> str:
    """One line a task: exact % over all its levels, of two brains."""
    lines = [f"{'task':<28}{names[0]:>10}{names[1]:>10}{'n':>7}"]
    for name in dict.fromkeys(score.task for score in scores[1]):
        counts = [(sum(s.correct for s in own if s.task == name),
                   sum(s.count for s in own if s.task == name)) for own in scores]
        lines.append(f"{name[-28:]:<28}" + "".join(f"{100 * hit / max(1, n):>10.1f}"
                                                   for hit, n in counts) + f"{counts[1][1]:>7}")
    return "\n".join(lines)
