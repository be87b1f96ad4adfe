"""How a brain draws an answer byte by byte, and how sure it is of it: the trainer does the same."""
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

MIN_TEMPERATURE = 1e-30   # less is 0: logits divided by it would not be finite
# Of what phones and word processors write in place of the signs of a keyboard.
TAUGHT_SIGNS = str.maketrans("×⋅·−–÷‘’“”\xa0", "***--/''\"\" ")


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The likeliest byte at temperature 0, else one drawn from the softmax of (v,) logits."""
    if temperature < MIN_TEMPERATURE:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()) / temperature, dtype=np.float64)
    return int(rng.choice(p.size, p=p / p.sum()))


def log_probability(logits: np.ndarray, byte: int) -> float:
    """Of a byte in the softmax of (v,) logits, in nats; -inf if they are not finite."""
    with np.errstate(invalid="ignore"):
        differences = logits.astype(np.float64) - logits[byte]
        largest = differences.max()
        value = -float(largest + np.log(np.exp(differences - largest).sum()))
    return value if math.isfinite(value) else -math.inf


def drawn(logits: np.ndarray, step_fn: Callable[[int], np.ndarray], max_bytes: int, stop: int,
          temperature: float, rng: np.random.Generator) -> Iterator[tuple[int, float]]:
    """At most max_bytes bytes, `stop` the last if it comes, and the log probability of each at
    temperature 1. `logits` (v,) before the first; `step_fn`: those after one more byte."""
    for _ in range(max_bytes):
        byte = choose(logits, temperature, rng)
        yield byte, log_probability(logits, byte)
        if byte == stop:
            return
        logits = step_fn(byte)


class Answer(NamedTuple):
    """`confidence`, 0 to 1: the probability that the brain gives to the whole answer, which is the
    product of those of its bytes and its end at temperature 1. Of one that did not end by itself,
    of its bytes."""
    text: str | None   # None: withheld, as the confidence is below the least that was asked for
    confidence: float
    has_ended: bool    # by the brain, not by the limit

    @classmethod
    def of(cls, bytes_drawn: Iterable[tuple[int, float]], stop: int,
           decode_fn: Callable[[bytes], str], min_confidence: float) -> "Answer":
        """What `drawn` yields, as text."""
        text, total, has_ended = bytearray(), 0.0, False
        for byte, nats in bytes_drawn:
            total += nats
            has_ended = byte == stop
            if not has_ended:
                text.append(byte)
        confidence = math.exp(total)
        is_given = confidence >= min_confidence
        return cls(decode_fn(bytes(text)) if is_given else None, confidence, has_ended)


def plain_question(question: str) -> str:
    """In the signs that are taught, and with a question mark if it ends in a letter or a digit: the
    answer to 340 + 128 could else be more digits of its last number."""
    text = question.rstrip().translate(TAUGHT_SIGNS)
    return f"{text}?" if text[-1:].isalnum() else question.translate(TAUGHT_SIGNS)


def shown(confidence: float) -> str:
    """Two digits, rounded down: 1.00 is certainty, and what is below a threshold looks so."""
    return f"{math.floor(100 * confidence + 1e-9) / 100:.2f}"   # 0.29 is a little less in binary
