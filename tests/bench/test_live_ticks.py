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


def test_an_hour_in_which_the_clocks_drift_apart_and_back_has_the_same_figures():
    """By 50 parts in a million, now so and now so: by a period of 10 ms in 200 s."""
    number = np.delete(np.arange(360_000), [1000, 1001, 200_000])   # at, and within, a stretch
    late_us = np.zeros(len(number))
    late_us[50_000], late_us[300_000] = 4000, 800
    drift_ns = 50e-6 * 1e10 * 100 * np.sin(2 * np.pi * number / 100_000)
    times = 7e12 + number * 1e7 + 1000 * late_us + drift_ns
    lateness = Lateness.of(times.astype(np.int64), 1e7)
    assert (lateness.ticks, lateness.missed) == (359_997, 3)
    assert lateness.us[[50_000, 300_000]] == pytest.approx([4000, 800], abs=50)
    assert np.sum(lateness.us > 500) == 2
    assert lateness.histogram("alone").split()[-5:] == ["1", "0", "1", "0", "0"]
