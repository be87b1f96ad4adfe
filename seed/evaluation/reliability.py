"""What exact match does not show: the same answer after any history (consistency), confidence that
matches accuracy (calibration), finite and varied output in a free run (stability)."""
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.evaluation.exact_match import ForwardFn, answer_passes
from seed.rng import Stream, dice

HISTORY_ITEMS = (0, 1, 3)   # items before the question
CONFIDENCE_BINS = 10
MIN_PROBABILITY = 1e-30     # of a right byte, so that no loss is infinite
NGRAM_BYTES = 8             # of the pieces whose repetition is counted
AnswersFn = Callable[[Sequence[bytes], int], list[bytes]]   # prompts, maximal bytes -> answers


def consistency(dataset: Dataset, answers_fn: AnswersFn, seq_len: int,
                n_per_task: int) -> list[dict[str, Any]]:
    """Asks holdout questions alone, after one other item and after three, of any tasks.

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
        max_bytes = 1 + max([len(item.answer) for item in items], default=0)
        answers = iter(answers_fn(prompts, max_bytes))
        distinct = [{next(answers)[:len(item.answer) + 1] for _ in HISTORY_ITEMS}
                    for item in items]
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
    for given in answer_passes(fitting, forward_fn):
        targets, logits = given.targets, given.logits.astype(np.float64)   # (n,), (n, v)
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

    `state_rms` are root mean squares of all states at even distances, `finite` if all are;
    `repetition` is the fraction of pieces of NGRAM_BYTES that occurred before.
    """
    text, state_rms = bytearray(), []
    for byte in decoder.generate(b"\n", steps, -1, 1.0, seed):
        text.append(byte)
        if len(text) % max(1, steps // samples) == 0:
            state_rms.append(decoder.state_rms())
    ngrams = [bytes(text[i:i + NGRAM_BYTES]) for i in range(len(text) - NGRAM_BYTES + 1)]
    return {"steps": len(text), "finite": bool(np.isfinite(state_rms).all()),
            "state_rms": state_rms, "repetition": 1 - len(set(ngrams)) / max(1, len(ngrams))}
