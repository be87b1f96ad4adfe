"""A body that notes when each of its actions comes, by a clock that the loop does not use."""
import os
import time
from typing import Any

import numpy as np

PATH_VARIABLE = "SEED_BENCH_TIMES"   # where `close` writes the times
CLOCK = time.CLOCK_MONOTONIC_RAW     # nothing sets or slews it
MAX_TICKS = 10_000_000


class TimedBody:
    """Numbers of a cart-pole that never falls."""
    rate_hz = 100
    observation_space = [(-1.0, 1.0), (-2.0, 2.0), (-3.0, 3.0), (-4.0, 4.0)]
    action_space = 2
    safe_action = 0

    def __init__(self) -> None:
        self.times_ns = np.zeros(MAX_TICKS, np.int64)   # pages are taken one by one
        self.ticks = 0
        self.observations = np.random.default_rng(0).uniform(-1, 1, (256, 4))

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        return self.observations[0], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.times_ns[self.ticks] = time.clock_gettime_ns(CLOCK)
        self.ticks += 1
        return self.observations[self.ticks % 256], 1.0, False, False, {}

    def close(self) -> None:
        path = os.environ.get(PATH_VARIABLE)
        if path:
            np.save(path, self.times_ns[:self.ticks])
