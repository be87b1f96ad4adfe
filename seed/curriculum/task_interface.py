"""The interface of a task of your own, `--task colours.py:Colours`. Standard library only."""
import random
from typing import Protocol


class TaskClass(Protocol):
    """A class in a file, made without arguments. A prompt or an answer has 1 to 4,096 bytes, as str
    or as bytes, and none of 0xFE and 0xFF. A call takes 5 s at most, all of them 0.05 s on
    average."""
    levels: int   # 1 to 100

    def chance(self, level: int) -> float:
        """0 to 1: the accuracy of the best answer that ignores the prompt."""

    def generate(self, rng: random.Random, level: int) -> tuple[str, str] | tuple[bytes, bytes]:
        """A prompt and its answer. Draw from `rng` alone: the same draws have to give the same
        item, whatever was asked before."""

    def verify(self, prompt: str | bytes, answer: str | bytes) -> bool:
        """Whether an answer, which may be anything, is right. To raise means that it is wrong."""
