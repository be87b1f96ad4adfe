"""What exact match does not show: the same answer after any history (consistency), the loss, finite
and varied output in a free run (stability)."""
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


def loss(items: Sequence[Item], forward_fn: ForwardFn) -> float:
    """Mean cross-entropy of the right bytes given those before them, nats."""
    losses = []
    for given in answer_passes(items, forward_fn):
        logits = given.logits.astype(np.float64)   # (n, v)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        target_p = p[np.arange(len(p)), given.targets] / p.sum(-1)
        losses.append(-np.log(np.maximum(target_p, MIN_PROBABILITY)))
    return float(np.concatenate(losses).mean())


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
