"""A stand-in for the learner of the loop: it counts, and nothing is compiled."""
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from seed.config import Profile
from seed.profile_file import load_profile
from seed.training.step import StepResult
from tests.support.fake_clock import FakeClock


class CountingLearner:
    """Learns one number: the sum of the rates; steps named in `bad` are not finite."""

    def __init__(self, clock: FakeClock | None = None, bad=(), seconds=1.0):
        self.value, self.rates = np.zeros(1, np.float32), []
        self.clock, self.seconds, self.bad = clock or FakeClock(), seconds, list(bad)
        self.calls = 0

    def step(self, batch, lr):
        self.calls += 1
        self.clock.now += self.seconds
        if self.calls in self.bad:
            return StepResult(float("nan"), float("nan"), True)
        self.rates.append(lr)
        self.value = self.value + lr
        return StepResult(1.0, 0.5, False)

    def forward(self, tokens, cu_seqlens):
        return np.zeros((*tokens.shape, 256), np.float32)

    def as_brain(self):
        return nullcontext()

    def follow(self, step, rate, is_last):
        pass

    @property
    def max_bytes(self):
        return self.value.nbytes

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, tensors):
        self.value = tensors["value"]


def small_profile(*overrides: str) -> Profile:
    """With one row a step, so that the loop itself is all that takes time."""
    return load_profile("toy", ["train.batch_size=1", "curriculum.holdout_items=2",
                                "train.warmup_steps=0", "train.decay_fraction=0.2", *overrides])


def metric_rows(folder: Path, kind: str) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]
