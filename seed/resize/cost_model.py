"""What a size costs to train: memory and time, from shapes, corrected by trials.

The time of a step is that of its matrix products and of its scans, each at a rate of its own
(measured from d_model 64 to 128 on one thread: within 2 %). Memory follows from the kernels'
buffers; trials correct it by a factor.
"""
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seed.config import Profile
from seed.resize.trial import Trial
from seed.training.memory_estimate import estimate_mb
from seed.wavecore import footprint, layout

DEFAULT_SCAN_RATE = 0.14   # seconds of a million scan terms / of a GFLOP, before a fit of both
MIN_FIT_TRIALS = 3         # from which both rates are fitted
DAY_S = 86400.0


class Work(NamedTuple):
    """The arithmetic of one step."""
    gflop: float       # of matrix products, forward and backward
    scan: float        # million terms b t h n p


def tokens_per_step(profile: Profile) -> int:
    train = profile.train
    return train.batch_size * train.grad_accum_steps * train.seq_len


def work(profile: Profile) -> Work:
    model, tokens = profile.model, tokens_per_step(profile)
    scan = sum(math.prod(array.shape) for kind in model.layer_kinds
               for array in layout.BLOCKS[kind].state_fn(model) if array.name == "ssm")
    return Work(6e-9 * layout.count_params(model) * tokens, 1e-6 * scan * tokens)


def checkpoint_bytes(profile: Profile) -> int:
    """Weights and moments, without the small header."""
    return 4 * (footprint.packed_size(profile.model)
                + footprint.optimizer(profile.model, profile.train, 1)[0])


def written_gb_per_day(profile: Profile) -> float:
    """By the periodic saves of a run, at most its budget."""
    saves = DAY_S / max(1e-9, 60 * profile.train.save_every_minutes)
    return min(profile.train.write_gb_per_day, checkpoint_bytes(profile) * saves / 1e9)


class Cost:
    """Predictions from trials of one profile in other sizes, with the same threads."""

    def __init__(self, profile: Profile, threads: int, trials: Sequence[Trial]):
        self.threads, self.memory_factor = threads, 1.0
        finished = [(trial, trial.size.apply_to(profile)) for trial in trials
                    if trial.threads == threads and trial.finished]
        if finished:
            self.memory_factor = float(np.mean(
                [trial.peak_mb / self.memory_mb(sized) for trial, sized in finished]))
        self.rates = _fit_rates([(*work(sized), trial.step_s) for trial, sized in finished
                                 if trial.step_s])

    def memory_mb(self, profile: Profile) -> float:
        return self.memory_factor * sum(estimate_mb(profile, self.threads).values())

    def step_s(self, profile: Profile) -> float | None:
        """None before the first trial."""
        return float(np.dot(work(profile), self.rates)) if self.rates is not None else None


def _fit_rates(measured: Sequence[tuple[float, float, float]]) -> np.ndarray | None:
    """Seconds per GFLOP and per million scan terms, by least relative squares, none below 0; from
    (GFLOP, million scan terms, seconds) of each trial."""
    if not measured:
        return None
    table = np.array(measured)
    relative = table[:, :2] / table[:, 2:]
    directions = [np.array([1.0, DEFAULT_SCAN_RATE])]
    if len(measured) >= MIN_FIT_TRIALS:
        rates = np.linalg.lstsq(relative, np.ones(len(measured)), rcond=None)[0]
        if (rates >= 0).all():
            return rates
        directions = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    fits = [direction * (relative @ direction).sum() / ((relative @ direction) ** 2).sum()
            for direction in directions]
    return min(fits, key=lambda rates: float(((relative @ rates - 1) ** 2).sum()))
