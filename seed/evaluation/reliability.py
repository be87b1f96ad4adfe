"""What exact match does not show: is a brain of one mind, does it know how sure it may be, is it
stable when it talks to itself?"""
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seed.curriculum.dataset import IGNORE, Dataset, pack_one_per_row
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.rng import Stream, dice
from seed.evaluation.exact_match import ROWS, Forward

HISTORIES = (0, 1, 3)   # items that came before the question
BINS = 10               # of confidence
LEAST_P = 1e-30         # of a right byte, so that no loss is infinite
GRAM = 8                # bytes of the pieces whose repetition is counted


def answers(forward: Forward, asked: Sequence[bytes], limits: Sequence[int], t: int) -> list[bytes]:
    """Greedy answers to texts that end in a question, at most `limits` bytes each, without END.

    Texts and answers must fit into t bytes.
    """
    found: list[bytes] = []
    for first in range(0, len(asked), ROWS):
        rows = [bytearray(text) for text in asked[first:first + ROWS]]
        starts, limit = [len(row) for row in rows], limits[first:first + ROWS]
        ended = [False] * len(rows)
        while not all(ended):
            tokens = np.zeros((ROWS, t), np.int32)
            for i, row in enumerate(rows):
                tokens[i, :len(row)] = np.frombuffer(row, np.uint8)
            logits = forward(t, tokens)
            for i, row in enumerate(rows):
                if not ended[i]:
                    byte = int(logits[i, len(row) - 1].argmax())
                    ended[i] = byte == END or len(row) - starts[i] >= limit[i]
                    if not ended[i]:
                        row.append(byte)
        found += [bytes(row[start:]) for row, start in zip(rows, starts)]
    return found


@dataclass
class Consistency:
    """Questions of one task, each asked after several histories."""
    task: str
    asked: int = 0
    same: int = 0    # the same answer, right or wrong, after every history
    right: int = 0   # the right one after every history


def consistency(dataset: Dataset, forward: Forward, seq_len: int,
                n_per_task: int) -> list[Consistency]:
    """Asks holdout items alone, after another lesson and after several of any tasks.

    Items that leave no room for a history in a row are not asked.
    """
    rng = dice(dataset.seed, Stream.CONTEXT, 0)
    tasks, found = list(dataset.tasks.values()), []
    for task in tasks:
        items: list[Item] = []
        texts: list[bytes] = []
        for _ in range(n_per_task):
            item = dataset.draw(rng, task, len(task.levels), holdout=True)
            room = seq_len - len(item.prompt) - len(item.answer) - 1
            histories = [_history(dataset, rng, item, count, room) for count in HISTORIES]
            if all(history or not count for history, count in zip(histories, HISTORIES)):
                items.append(item)
                texts += [history + item.prompt for history in histories]
        limits = [len(item.answer) + 1 for item in items for _ in HISTORIES]
        given = answers(forward, texts, limits, seq_len)
        score = Consistency(task.name)
        for i, item in enumerate(items):
            own = given[i * len(HISTORIES):(i + 1) * len(HISTORIES)]
            score.asked += 1
            score.same += len(set(own)) == 1
            score.right += set(own) == {item.answer}
        found.append(score)
    return found


def _history(dataset: Dataset, rng: random.Random, item: Item, count: int,
             room: int) -> bytes:
    """Up to `count` easy lessons of any tasks, other than the item, in at most `room` bytes."""
    tasks, history = list(dataset.tasks.values()), b""
    for _ in range(count):
        other = tasks[int(rng.random() * len(tasks))]
        before = dataset.draw(rng, other, 1, holdout=False)
        lesson = before.prompt + before.answer + bytes([END])
        if before.prompt != item.prompt and len(history) + len(lesson) <= room:
            history += lesson
    return history


@dataclass
class Calibration:
    """How sure, against how right: answer bytes in bins of the likeliest byte's probability."""
    count: list[int]
    confidence: list[float]   # mean of each bin; 0 where it is empty
    accuracy: list[float]
    loss: float               # mean cross-entropy of the right bytes, in nats

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 1706.04599, eq. 3)."""
        total = sum(self.count)
        return sum(n * abs(c - a) for n, c, a in zip(
            self.count, self.confidence, self.accuracy)) / max(1, total)


def calibration(items: Sequence[Item], forward: Forward, seq_len: int) -> Calibration:
    """Over all answer bytes of the items, with the true bytes before them given."""
    sure, right, told = [], [], []
    fitting = [item for item in items if len(item.prompt) + len(item.answer) <= seq_len]
    for first in range(0, len(fitting), ROWS):
        part = fitting[first:first + ROWS]
        tokens, targets = pack_one_per_row(part, seq_len)
        padded = np.zeros((ROWS, seq_len), np.int32)
        padded[:len(part)] = tokens
        logits = forward(seq_len, padded)[:len(part)]
        learnt = targets != IGNORE
        chosen = logits[learnt].astype(np.float64)                       # (answer bytes, v)
        p = np.exp(chosen - chosen.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        sure.append(p.max(-1))
        right.append(chosen.argmax(-1) == targets[learnt])
        told.append(p[np.arange(len(p)), targets[learnt]])
    confidence, hit = np.concatenate(sure), np.concatenate(right)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    means = [np.bincount(place, values, BINS) / np.maximum(1, count)
             for values in (confidence, hit.astype(np.float64))]
    loss = -np.log(np.maximum(np.concatenate(told), LEAST_P)).mean()
    return Calibration(count.tolist(), means[0].tolist(), means[1].tolist(), float(loss))


@dataclass
class Stability:
    """A brain that talks to itself at temperature 1."""
    steps: int
    finite: bool
    norms: list[float]    # root mean square of all carried states, at even distances
    repetition: float     # share of pieces of GRAM bytes that came before


def stability(decoder: Any, steps: int, seed: int = 0, samples: int = 50) -> Stability:
    """`decoder` has `generate` and `state_rms`; see `wavecore.decode.Decoder`."""
    spoken, norms = bytearray(), []
    for byte in decoder.generate(b"\n", steps, -1, 1.0, seed):
        spoken.append(byte)
        if len(spoken) % max(1, steps // samples) == 0:
            norms.append(decoder.state_rms())
    grams = [bytes(spoken[i:i + GRAM]) for i in range(len(spoken) - GRAM + 1)]
    return Stability(len(spoken), bool(np.isfinite(norms).all()), norms,
                     1 - len(set(grams)) / max(1, len(grams)))
