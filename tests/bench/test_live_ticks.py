"""The figures of the benchmark of a fast loop are right for times whose lateness is known."""
import numpy as np
import pytest

from seed.bench.live_ticks import Lateness


def test_lateness_is_told_apart_from_a_clock_that_runs_otherwise():
    number = np.arange(2000)
    late_us = np.zeros(2000)
    late_us[100], late_us[700], late_us[1500] = 7000, 900, 50
    times = 7e9 + number * 1e7 * (1 + 300e-6) + 1000 * late_us
    lateness = Lateness.of(times.astype(np.int64), 1e7)
    assert (lateness.ticks, lateness.missed) == (2000, 0)
    assert lateness.us[[100, 700, 1500]] == pytest.approx([7000, 900, 50], abs=5)
    assert np.quantile(lateness.us, 0.99) < 5


def test_ticks_that_never_came_are_missed():
    number = np.delete(np.arange(1000), [10, 11, 12, 500])
    lateness = Lateness.of((number * 2e6).astype(np.int64), 2e6)
    assert lateness.missed == 4 and lateness.us.max() < 1
