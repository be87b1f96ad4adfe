"""The last change of a mean is known, among noise and earlier changes."""
import numpy as np
import pytest

from seed.live.change_point import latest_change


@pytest.mark.parametrize("means, lengths, expected", [
    ([1.0], [200], 0), ([1.0, 6.0], [100, 60], 100), ([1.0, 6.0, 2.5], [100, 60, 40], 160),
    ([1.0, 6.0, 1.0], [100, 60, 40], 160), ([6.0, 1.0], [30, 300], 30), ([1.0, 6.0], [100, 1], 0)])
def test_the_last_change_is_known(means, lengths, expected):
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0, 0.3, sum(lengths))
        samples = np.repeat(means, lengths) + noise
        assert abs(latest_change(samples) - expected) <= 2


def test_constant_and_few_samples_have_no_change():
    assert latest_change([1.0] * 100) == latest_change([]) == latest_change([1.0, 9.0]) == 0
    assert latest_change([0.0] * 40 + [1.0] * 40) == 40
    assert latest_change([1.0] * 50 + [1.4] * 50) == 0   # it surprises more here than there
