"""Random streams: an independent one for each (seed, purpose, index)."""
import hashlib
import random
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers are for. Append only: a changed value changes the bits of every run."""
    INIT = 0
    BATCH = 1
    HOLDOUT = 2
    EXTRAPOLATION = 3
    SAMPLE = 4
    GENERATE = 5
    CONTEXT = 6
    EVALUATION = 7
    SELFPLAY = 8
    ROLLOUT = 9
    TEACHER = 10
    BODY_INIT = 11
    BODY_EPISODE = 12
    BODY_ACTION = 13
    BODY_EVALUATION = 14
    BODY_DATA = 15
    BODY_MODEL = 16
    STATED = 17


def name_index(name: str) -> int:
    """The index of a stream that belongs to a name."""
    text = name.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "little")


def stream(seed: int, purpose: Stream, index: int) -> np.random.Generator:
    """A numpy generator. The key always has three numbers: numpy seeds [42] and [42, 0] alike."""
    return np.random.default_rng((seed, int(purpose), index))


def dice(seed: int, purpose: Stream, index: int) -> random.Random:
    """A generator that draws one small number at a time five times faster than numpy does. Use only
    `.random()`, the one method whose numbers Python keeps across versions."""
    return random.Random(int.from_bytes(stream(seed, purpose, index).bytes(16), "little"))
