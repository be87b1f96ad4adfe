"""What exact match does not show: the same answer after any history (consistency), confidence that
matches accuracy (calibration), finite and varied output in a free run (stability)."""
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from seed.curriculum.dataset import IGNORE, Dataset
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.evaluation.exact_match import ROWS, ForwardFn, forward_rows
from seed.rng import Stream, dice

HISTORY_ITEMS = (0, 1, 3)   # items before the question
CONFIDENCE_BINS = 10
MIN_PROBABILITY = 1e-30     # of a right byte, so that no loss is infinite
NGRAM_BYTES = 8             # of the pieces whose repetition is counted


def answers(forward_fn: ForwardFn, prompts: Sequence[bytes], max_bytes: Sequence[int],
            t: int) -> list[bytes]:
    """Greedy answers without END, each of at most `max_bytes`; with its prompt, of at most t."""
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
                byte = int(logits[i, len(row) - 1].argmax())
                ended[i] = byte == END or len(row) - starts[i] >= limits[i]
                if not ended[i]:
                    row.append(byte)
        results += [bytes(row[start:]) for row, start in zip(rows, starts)]
    return results


def consistency(dataset: Dataset, forward_fn: ForwardFn, seq_len: int,
                n_per_task: int) -> list[dict[str, Any]]:
    """Puts holdout questions alone, after one other item and after three, of any tasks.

    For each task: the number of `questions` that leave room for a history in a row, of those with
    the `same` answer after every history, and of those with the `right` one.
    """
    rng, results = dice(dataset.seed, Stream.CONTEXT, 0), []
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
        results.append({
            "task": task.name, "questions": len(items),
            "same": sum(len(texts) == 1 for texts in distinct),
            "right": sum(texts == {item.answer} for item, texts in zip(items, distinct))})
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


def calibration(items: Sequence[Item], forward_fn: ForwardFn, seq_len: int) -> dict[str, Any]:
    """Confidence against accuracy, over all answer bytes given the true bytes before them.

    `count`, mean `confidence` and `accuracy` of bins of the likeliest byte's probability, 0 where
    empty; `loss`, the mean cross-entropy of the right bytes in nats; `error`, the expected
    calibration error (Guo et al. 1706.04599, eq. 3).
    """
    confidences, hits, target_p = [], [], []
    fitting = [item for item in items if len(item.prompt) + len(item.answer) <= seq_len]
    for first in range(0, len(fitting), ROWS):
        logits, targets = forward_rows(fitting[first:first + ROWS], seq_len, forward_fn)
        in_answer = targets != IGNORE
        targets = targets[in_answer]                                     # (answer bytes,)
        logits = logits[in_answer].astype(np.float64)                    # (answer bytes, v)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        confidences.append(p.max(-1))
        hits.append(logits.argmax(-1) == targets)
        target_p.append(p[np.arange(len(p)), targets])
    confidence, hit = np.concatenate(confidences), np.concatenate(hits)
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    count = np.bincount(bins, minlength=CONFIDENCE_BINS)
    confidences, accuracies = (
        (np.bincount(bins, values, CONFIDENCE_BINS) / np.maximum(1, count)).tolist()
        for values in (confidence, hit.astype(np.float64)))
    loss = -np.log(np.maximum(np.concatenate(target_p), MIN_PROBABILITY)).mean()
    error = sum(n * abs(c - a) for n, c, a in zip(count.tolist(), confidences, accuracies))
    return {"count": count.tolist(), "confidence": confidences, "accuracy": accuracies,
            "loss": float(loss), "error": error / max(1, len(hit))}


def stability(decoder: Any, steps: int, seed: int = 0, samples: int = 50) -> dict[str, Any]:
    """A free run of a `wavecore.decode.Decoder`, which reads its own samples at temperature 1.

    `norms` are the root mean square of all states at even distances, `finite` if all are;
    `repetition` is the fraction of pieces of NGRAM_BYTES that occurred before.
    """
    text, norms = bytearray(), []
    for byte in decoder.generate(b"\n", steps, -1, 1.0, seed):
        text.append(byte)
        if len(text) % max(1, steps // samples) == 0:
            norms.append(decoder.state_rms())
    ngrams = [bytes(text[i:i + NGRAM_BYTES]) for i in range(len(text) - NGRAM_BYTES + 1)]
    return {"steps": len(text), "finite": bool(np.isfinite(norms).all()), "norms": norms,
            "repetition": 1 - len(set(ngrams)) / max(1, len(ngrams))}
