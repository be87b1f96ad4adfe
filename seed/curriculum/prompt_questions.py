"""Questions inside a prompt: where they are, and whether a brain has answered them."""
import numpy as np

from seed.curriculum.task import Item
from seed.curriculum.vocab import PAD


def question_places(item: Item) -> np.ndarray:
    """After which bytes of the prompt something is asked; (n,) int64."""
    return np.flatnonzero(np.frombuffer(item.questions, np.uint8) != PAD)


def questions_are_right(item: Item, logits: np.ndarray) -> bool:
    """Of (n, v) logits after each byte of the prompt."""
    places = question_places(item)
    expected = np.frombuffer(item.questions, np.uint8)[places]
    return bool((logits[places].argmax(-1) == expected).all())
