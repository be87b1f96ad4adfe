"""What a brain of some size costs to train: memory and time from shapes, fitted on trials.

A step is products of matrices and the scan; two rates describe both (measured from d_model 64 to
128 on one thread: within 2 %). Memory is known from the kernels' buffers; the fit corrects it by a
factor.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seed.config import Profile
from seed.training.memory_estimate import estimate_mb
from seed.resize.trial import Trial
from seed.wavecore import footprint, layout

SCAN_SHARE = 0.14      # seconds of a million scan terms / of a GFLOP, where they cannot be fitted
ENOUGH = 3             # trials from which both rates are fitted
DAY_S = 86400.0


class Work(NamedTuple):
    """Of one step."""
    gflop: float       # of products of matrices, forward and backward
    scan: float        # million terms b t h n p


def tokens(profile: Profile) -> int:
    """Of one step."""
    train = profile.train
    return train.batch_size * train.grad_accum_steps * train.seq_len


def work(profile: Profile) -> Work:
    model = profile.model
    scan = model.layer_kinds.count("S") * model.ssm_heads * model.d_state * model.head_dim
    return Work(6e-9 * layout.count_params(model) * tokens(profile), 1e-6 * scan * tokens(profile))


def checkpoint_bytes(profile: Profile) -> int:
    """Weights and moments; the header is small beside them."""
    return 4 * (footprint.packed_size(profile.model)
                + footprint.optimizer(profile.model, profile.train, 1)[0])


def written_gb_a_day(profile: Profile) -> float:
    """By the periodic saves of a run, kept to its budget."""
    times = DAY_S / max(1e-9, 60 * profile.train.save_every_minutes)
    return min(profile.train.write_gb_per_day, checkpoint_bytes(profile) * times / 1e9)


class Cost:
    """Predictions from trials of the same profile in other sizes, with the same threads."""

    def __init__(self, profile: Profile, threads: int, trials: Sequence[Trial]):
        self.threads = threads
        own = [trial for trial in trials if trial.threads == threads and not trial.ended]
        sizes = [trial.size.of(profile) for trial in own]
        shares = [trial.peak_mb / sum(estimate_mb(size, threads).values())
                  for trial, size in zip(own, sizes)]
        self.factor = float(np.mean(shares)) if shares else 1.0
        timed = [(work(size), trial.step_s) for trial, size in zip(own, sizes) if trial.step_s]
        self.rates = _rates([w for w, _ in timed], [s for _, s in timed if s is not None])

    def memory_mb(self, profile: Profile) -> float:
        return self.factor * sum(estimate_mb(profile, self.threads).values())

    def step_s(self, profile: Profile) -> float | None:
        """None before anything was probed."""
        return float(np.dot(work(profile), self.rates)) if self.rates is not None else None


def _rates(works: Sequence[Work], seconds: Sequence[float]) -> np.ndarray | None:
    """Seconds of a GFLOP and of a million scan terms, by least relative squares, none below 0."""
    if not works:
        return None
    relative = np.array(works) / np.array(seconds)[:, None]          # (trials, 2)
    ones = np.ones(len(works))
    tries = [np.array([1.0, SCAN_SHARE])] if len(works) < ENOUGH else [
        np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    found = [one * (relative @ one).sum() / ((relative @ one) ** 2).sum() for one in tries]
    if len(works) >= ENOUGH:
        both = np.linalg.lstsq(relative, ones, rcond=None)[0]
        if (both >= 0).all():
            return both
    return min(found, key=lambda rates: float(((relative @ rates - 1) ** 2).sum()))
