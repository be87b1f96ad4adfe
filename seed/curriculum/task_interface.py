"""The interface of a task of your own, `--task colours.py:Colours`. Standard library only."""
import random
from typing import Protocol


class TaskClass(Protocol):
    """A class in a file, made without arguments. A prompt has 1 to 4,096 bytes, an answer 0 to
    4,096, as str or as bytes with any values; of bytes, 0xFD to 0xFF count twice. A call takes 5 s
    at most, all of them 0.05 s on average.

    It may have these attributes too: `extrapolation_levels` (0 to 100), how many levels after
    `levels` are evaluated and never trained on; `stepwise = True`, so that a level is trained on as
    far as the one below it is known; `holdout = False` for a table of facts, which is trained on in
    full and evaluated on what was trained."""
    levels: int   # 1 to 100

    def chance(self, level: int) -> float:
        """0 to 1: the accuracy of the best answer that ignores the prompt."""

    def generate(self, rng: random.Random, level: int) -> tuple:
        """A prompt and its answer, both str or both bytes. Draw from `rng` alone: the same draws
        have to give the same item, whatever was asked before.

        A third element may tell what is asked inside the prompt: {"questions": [(end, text), ...],
        "labels": [...]}. After the first `end` characters of the prompt (bytes, of one in bytes)
        `text` has to follow, one byte after the other, whatever the prompt has there. All questions
        have to be right, as the answer; labels are trained on and not evaluated."""

    def verify(self, prompt: str | bytes, answer: str | bytes) -> bool:
        """Whether an answer, which may be anything, is right. To raise means that it is wrong."""
