"""Exact match on items never trained on, per task and level, beside the chance level.

Each item from a fresh state. An item is right if every answer byte, END included, is the argmax
given the true bytes before it: equivalently, greedy decoding gives the answer. If it has questions
inside its prompt, what follows there has to be right too. Token accuracy counts single bytes of
answers and questions, without END.
"""
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.curriculum.dataset import Dataset
from seed.curriculum.prompt_questions import question_places
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.errors import printable
from seed.evaluation.figure import Z
from seed.interpreter import near

MAX_PASS_BYTES = 1152   # of the items of one forward pass: twelve row tiles, for 1 to 4 threads
SCORE_KEYS = "task", "level", "correct", "count", "chance"
TOKEN_KEYS = "tokens", "right_tokens", "is_taught"   # which earlier files do not have
AnswerFn = Callable[[Item, np.ndarray, np.ndarray], object]   # item, its answer with END, the guess
# tokens (n,) of sequences and their bounds (s + 1,) -> logits (n, v), valid until the next call
ForwardFn = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Score:
    task: str
    level: int
    correct: int
    count: int      # distinct items: easy levels have few
    chance: float   # accuracy of the best answer that ignores the prompt
    hits: tuple[bool, ...] = field(default=(), compare=False, repr=False)   # of each item, in order
    tokens: int = 0         # bytes that were asked for, without END
    right_tokens: int = 0   # of them, given the true bytes before each
    is_taught: bool = False   # facts, all of which are trained on

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

    @property
    def token_accuracy(self) -> float | None:
        """None if all answers are empty."""
        return self.right_tokens / self.tokens if self.tokens else None

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Score":
        """The inverse of `to_dict`."""
        return cls(*(row[name] for name in SCORE_KEYS),
                   **{name: row[name] for name in TOKEN_KEYS if name in row})

    def to_dict(self) -> dict:
        return {**{name: getattr(self, name) for name in (*SCORE_KEYS, *TOKEN_KEYS)},
                "accuracy": self.accuracy, "interval": self.interval,
                "token_accuracy": self.token_accuracy}


class PassAnswers(NamedTuple):
    """Of one forward pass: of each item what is asked inside its prompt, its answer and END."""
    items: Sequence[Item]
    ends: np.ndarray      # (items,): where each item's targets end
    targets: np.ndarray   # (n,) uint8
    logits: np.ndarray    # (n, v), given the true bytes before each


def answer_passes(items: Iterable[Item], forward_fn: ForwardFn,
                  should_stop_fn: Callable[[], bool] = lambda: False) -> Iterator[PassAnswers]:
    """Of the items in their order, until `should_stop_fn` is true before a pass."""
    for pass_items in _passes(items):
        if should_stop_fn():
            return
        lengths = [len(item.prompt) + len(item.answer) for item in pass_items]
        cu_seqlens, places, targets = np.cumsum([0, *lengths]), [], []
        for item, start, length in zip(pass_items, cu_seqlens.tolist(), lengths):
            # Nothing comes before the first byte of all: it is no target.
            size = min(len(item.answer) + 1, length)
            inside = question_places(item)
            places += [start + inside, np.arange(start + length - size, start + length)]
            targets.append(bytes(item.questions[i] for i in inside)
                           + (item.answer + bytes((END,)))[-size:])
        text = b"".join([item.prompt + item.answer for item in pass_items])
        logits = forward_fn(np.frombuffer(text, np.uint8), cu_seqlens)
        yield PassAnswers(pass_items, np.cumsum(list(map(len, targets))),
                          np.frombuffer(b"".join(targets), np.uint8),
                          logits[np.concatenate(places)])


def graph_size(n_bytes: int) -> int:
    """Bytes of the captured pass that takes so many: few shapes are compiled."""
    size = MAX_PASS_BYTES
    while size < n_bytes:
        size *= 2
    return size


def _passes(items: Iterable[Item]) -> Iterator[list[Item]]:
    """At most MAX_PASS_BYTES together; a longer item is alone."""
    pass_items, n_bytes = list[Item](), 0
    for item in items:
        length = len(item.prompt) + len(item.answer)
        if pass_items and n_bytes + length > MAX_PASS_BYTES:
            yield pass_items
            pass_items, n_bytes = [], 0
        pass_items.append(item)
        n_bytes += length
    if pass_items:
        yield pass_items


def _guesses(items: Iterable[Item], forward_fn: ForwardFn,
             should_stop_fn: Callable[[], bool] = lambda: False
             ) -> Iterator[tuple[Item, np.ndarray, np.ndarray]]:
    """Per item as `answer_passes`: its targets, their argmax; (n,) uint8 each."""
    for given in answer_passes(items, forward_fn, should_stop_fn):
        guesses, start = given.logits.argmax(-1).astype(np.uint8), 0
        for item, end in zip(given.items, given.ends.tolist()):
            yield item, given.targets[start:end], guesses[start:end]
            start = end


def evaluate(items: Sequence[Item], dataset: Dataset, forward_fn: ForwardFn,
             should_stop_fn: Callable[[], bool] = lambda: False,
             answer_fn: AnswerFn = lambda *_: None) -> list[Score] | None:
    """Scores in the order of the items' tasks and levels; None if `should_stop_fn` was true.
    `answer_fn` gets each item and its answer with END: after a wrong byte, what would follow the
    right one."""
    distinct, n_seen = list(dict.fromkeys(items)), 0
    groups: dict[tuple[str, int], list[tuple[Item, np.ndarray]]] = {}
    for item, target, guess in _guesses(distinct, forward_fn, should_stop_fn):
        groups.setdefault((item.task, item.level), []).append((item, target == guess))
        size, n_seen = len(item.answer) + 1, n_seen + 1
        answer_fn(item, target[-size:], guess[-size:])
    return None if n_seen < len(distinct) else [
        _score(task, level, dataset.chance(task, level), group)
        for (task, level), group in groups.items()]


def _score(task: str, level: int, chance: float,
           group: Sequence[tuple[Item, np.ndarray]]) -> Score:
    """Of items, and whether each of their targets is right; the last of them is END."""
    hits = tuple(bool(right.all()) for _, right in group)
    tokens = np.concatenate([right[:-1] for _, right in group])
    return Score(task, level, sum(hits), len(hits), chance, hits, len(tokens), int(tokens.sum()),
                 any(item.is_fact for item, _ in group))


def agreement(items: Sequence[Item], first_fn: ForwardFn, second_fn: ForwardFn) -> float:
    """Fraction of the items at which two brains choose the same bytes, right or wrong."""
    distinct = list(dict.fromkeys(items))
    first, second = ([guess.tobytes() for _, _, guess in _guesses(distinct, forward_fn)]
                     for forward_fn in (first_fn, second_fn))
    return sum(a == b for a, b in zip(first, second)) / max(1, len(distinct))


class LevelMean(NamedTuple):
    """Of scores that count alike, however many questions each has; mostly those of levels."""
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


def table(scores: Sequence[Score], uniform: Sequence[Score] = ()) -> str:
    """One line per level; below those of a task the mean of its levels, if it has several, and its
    score of `uniform`, if it has one."""
    lines = [f"{'task':<14}{'level':>8}{'exact %':>9}{'95 % interval':>16}{'chance %':>10}{'n':>6}"
             f"{'token %':>9}"]
    for name in dict.fromkeys(s.task for s in scores):
        levels = [s for s in scores if s.task == name]
        lines += [_line(str(s.level), s, [s]) for s in levels]
        if len(levels) > 1:
            lines.append(_line("mean", mean_of_levels(levels), levels))
        lines += [_line("uniform", s, [s]) for s in uniform if s.task == name]
    return "\n".join([*lines, *taught_lines(scores)])


def taught_lines(scores: Sequence[Score]) -> list[str]:
    """A warning for each task that is no holdout."""
    taught = dict.fromkeys(near(Path(s.task)) for s in scores if s.is_taught)
    return [f"taught: {printable(name)} is evaluated on what it was trained on, nothing of it is "
            f"held out" for name in taught]


def _line(level: str, shown: Score | LevelMean, scores: Sequence[Score]) -> str:
    """`scores`: those that are `shown`, of one task."""
    low, high = (100 * x for x in shown.interval)
    interval, tokens = f"{low:.1f} - {high:.1f}", sum(s.tokens for s in scores)
    return (f"{printable(scores[0].task):<14}{level:>8}{100 * shown.accuracy:>9.1f}{interval:>16}"
            f"{100 * shown.chance:>10.1f}{sum(s.count for s in scores):>6}" + (
                f"{100 * sum(s.right_tokens for s in scores) / tokens:>9.1f}" if tokens else ""))
