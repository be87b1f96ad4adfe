"""Checks of what a caller of Brain gives, and of the thread that it calls from."""
import functools
import operator
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .answer import plain_question
from .sealed_file import BrainError

MAX_COUNT = 2 ** 63 - 1   # of a seed and of bytes
Method = TypeVar("Method", bound=Callable[..., Any])


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Raises BrainError unless `value` is an integer from low to high."""
    try:
        number = operator.index(value)
    except TypeError:
        raise BrainError(f"{name} is {value!r:.60}: use an integer") from None
    if not low <= number <= high:
        raise BrainError(f"{name} is {value!r:.60}: use {low} to {high}")
    return number


def checked_temperature(value: Any) -> float:
    return _number("temperature", value, sys.float_info.max, "a number from 0 on")


def checked_confidence(value: Any) -> float:
    return _number("min_confidence", value, 1.0, "0 to 1")


def _number(name: str, value: Any, highest: float, use: str) -> float:
    if (type(value) is bool or not isinstance(value, (int, float, np.integer, np.floating))
            or not 0 <= value <= highest):
        raise BrainError(f"{name} is {value!r:.60}: use {use}")
    return float(value)


def encoded(prompt: Any, is_question: bool = False) -> bytes:
    """`is_question`: as `plain_question` asks it."""
    if not isinstance(prompt, str):
        raise BrainError(f"the prompt is {type(prompt).__name__}: give text")
    try:
        return (plain_question(prompt) if is_question else prompt).encode()
    except UnicodeEncodeError:
        raise BrainError("the prompt is not UTF-8: give text") from None


class Draws:
    """Generators of random numbers, by what a caller gives: one, or a seed, whose draws continue as
    long as no other seed is given."""

    def __init__(self) -> None:
        self._last: tuple[int, np.random.Generator] | None = None

    def of(self, explore: Any) -> np.random.Generator:
        """Raises BrainError."""
        if isinstance(explore, np.random.Generator):
            return explore
        if type(explore) is bool:
            raise BrainError(f"explore is {explore}: use a seed or a NumPy Generator")
        seed = integer("explore", explore, 0, MAX_COUNT)
        if not self._last or seed != self._last[0]:
            self._last = seed, np.random.default_rng(seed)
        return self._last[1]


def in_one_thread(method: Method) -> Method:
    """A method that raises BrainError while another thread uses this Brain."""
    @functools.wraps(method)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        if not self._lock.acquire(blocking=False):
            raise BrainError("another thread is using this Brain: make one Brain for each thread")
        try:
            return method(self, *args, **named)
        except RuntimeError as error:
            raise BrainError(f"{self.name}: {' '.join(str(error).split()):.200}; export it "
                             f"again") from None
        finally:
            self._lock.release()
    return call   # type: ignore[return-value]
