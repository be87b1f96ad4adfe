"""What exact match does not show: the same answer after any history (consistency), confidence that
matches accuracy (calibration), finite and varied output in a free run (stability)."""
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seed.curriculum.dataset import IGNORE, Dataset, pack_one_per_row
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.evaluation.exact_match import ROWS, ForwardFn
from seed.rng import Stream, dice

HISTORY_ITEMS = (0, 1, 3)   # items before the question
CONFIDENCE_BINS = 10
MIN_PROBABILITY = 1e-30     # of a right byte, so that no loss is infinite
NGRAM_BYTES = 8             # of the pieces whose repetition is counted


def answers(forward_fn: ForwardFn, prompts: Sequence[bytes], max_bytes: Sequence[int],
            t: int) -> list[bytes]:
    """Greedy answers without END, each of at most its `max_bytes`.

    A prompt and its answer must fit into t bytes.
    """
    results: list[bytes] = []
    for first in range(0, len(prompts), ROWS):
        rows = [bytearray(prompt) for prompt in prompts[first:first + ROWS]]
        starts, limits = [len(row) for row in rows], max_bytes[first:first + ROWS]
        ended = [False] * len(rows)
        while not all(ended):
            tokens = np.zeros((ROWS, t), np.int32)
            for i, row in enumerate(rows):
                tokens[i, :len(row)] = np.frombuffer(row, np.uint8)
            logits = forward_fn(t, tokens)
            for i, row in enumerate(rows):
                if not ended[i]:
                    byte = int(logits[i, len(row) - 1].argmax())
                    ended[i] = byte == END or len(row) - starts[i] >= limits[i]
                    if not ended[i]:
                        row.append(byte)
        results += [bytes(row[start:]) for row, start in zip(rows, starts)]
    return results


@dataclass
class Consistency:
    """Questions of one task, each put after several histories."""
    task: str
    questions: int
    same: int    # with the same answer, right or wrong, after every history
    right: int   # with the right answer after every history


def consistency(dataset: Dataset, forward_fn: ForwardFn, seq_len: int,
                n_per_task: int) -> list[Consistency]:
    """Puts holdout questions alone, after one other item and after three, of any tasks.

    Items that leave no room for a history in a row are left out.
    """
    rng = dice(dataset.seed, Stream.CONTEXT, 0)
    results = []
    for task in dataset.tasks.values():
        items: list[Item] = []
        prompts: list[bytes] = []
        for _ in range(n_per_task):
            item = dataset.draw(rng, task, len(task.levels), holdout=True)
            room = seq_len - len(item.prompt) - len(item.answer) - 1
            histories = [_history(dataset, rng, item, count, room) for count in HISTORY_ITEMS]
            if all(history or not count for history, count in zip(histories, HISTORY_ITEMS)):
                items.append(item)
                prompts += [history + item.prompt for history in histories]
        max_bytes = [len(item.answer) + 1 for item in items for _ in HISTORY_ITEMS]
        replies = iter(answers(forward_fn, prompts, max_bytes, seq_len))
        distinct = [{next(replies) for _ in HISTORY_ITEMS} for _ in items]
        results.append(Consistency(
            task.name, len(items), sum(len(texts) == 1 for texts in distinct),
            sum(texts == {item.answer} for item, texts in zip(items, distinct))))
    return results


def _history(dataset: Dataset, rng: random.Random, item: Item, count: int, room: int) -> bytes:
    """Up to `count` easy items of any tasks, without the item itself, in at most `room` bytes."""
    tasks, history = list(dataset.tasks.values()), b""
    for _ in range(count):
        task = tasks[int(rng.random() * len(tasks))]
        before = dataset.draw(rng, task, 1, holdout=False)
        text = before.prompt + before.answer + bytes([END])
        if before.prompt != item.prompt and len(history) + len(text) <= room:
            history += text
    return history


@dataclass
class Calibration:
    """Confidence against accuracy: answer bytes in bins of the likeliest byte's probability."""
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


def calibration(items: Sequence[Item], forward_fn: ForwardFn, seq_len: int) -> Calibration:
    """Over all answer bytes of the items, given the true bytes before them."""
    confidences, hits, target_p = [], [], []
    fitting = [item for item in items if len(item.prompt) + len(item.answer) <= seq_len]
    for first in range(0, len(fitting), ROWS):
        row_items = fitting[first:first + ROWS]
        batch = pack_one_per_row(row_items, seq_len)
        tokens = np.zeros((ROWS, seq_len), np.int32)
        tokens[:len(row_items)] = batch.tokens
        logits = forward_fn(seq_len, tokens)[:len(row_items)]
        in_answer = batch.targets != IGNORE
        targets = batch.targets[in_answer]                               # (answer bytes,)
        logits = logits[in_answer].astype(np.float64)                    # (answer bytes, v)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        confidences.append(p.max(-1))
        hits.append(logits.argmax(-1) == targets)
        target_p.append(p[np.arange(len(p)), targets])
    confidence, hit = np.concatenate(confidences), np.concatenate(hits)
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    count = np.bincount(bins, minlength=CONFIDENCE_BINS)
    means = [np.bincount(bins, values, CONFIDENCE_BINS) / np.maximum(1, count)
             for values in (confidence, hit.astype(np.float64))]
    loss = -np.log(np.maximum(np.concatenate(target_p), MIN_PROBABILITY)).mean()
    return Calibration(count.tolist(), means[0].tolist(), means[1].tolist(), float(loss))


@dataclass
class Stability:
    """A free run: a brain that reads its own samples at temperature 1."""
    steps: int
    finite: bool
    norms: list[float]    # root mean square of all states, at even distances
    repetition: float     # fraction of pieces of NGRAM_BYTES that occurred before


def stability(decoder: Any, steps: int, seed: int = 0, samples: int = 50) -> Stability:
    """`decoder` has `generate` and `state_rms`; see `wavecore.decode.Decoder`."""
    text, norms = bytearray(), []
    for byte in decoder.generate(b"\n", steps, -1, 1.0, seed):
        text.append(byte)
        if len(text) % max(1, steps // samples) == 0:
            norms.append(decoder.state_rms())
    ngrams = [bytes(text[i:i + NGRAM_BYTES]) for i in range(len(text) - NGRAM_BYTES + 1)]
    return Stability(len(text), bool(np.isfinite(norms).all()), norms,
                     1 - len(set(ngrams)) / max(1, len(ngrams)))
