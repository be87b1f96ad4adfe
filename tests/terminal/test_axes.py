"""Ticks of an axis: round, few, around all values; labels that tell them apart."""
import random

import pytest

from seed.terminal.axes import labels, ticks


def test_ticks_enclose_the_values_and_are_as_few_as_asked():
    dice = random.Random(0)
    for _ in range(2000):
        low = dice.uniform(-1, 1) * 10 ** dice.uniform(-9, 30)
        high = low + dice.random() * 10 ** dice.uniform(-9, 30)
        most = dice.randrange(3, 12)
        values = ticks(low, high, most)
        slack = 1e-6 * (values[-1] - values[0])
        assert values[0] <= low + slack and values[-1] >= high - slack
        assert 2 <= len(values) <= most or high - low <= 1e-9 * max(abs(low), abs(high))
        texts = labels(values)
        assert len(texts) == len(values) and max(map(len, texts)) <= 16
        is_wide = high - low > 1e-4 * max(abs(low), abs(high))
        assert len({*texts}) == len(texts) or not is_wide


@pytest.mark.parametrize("low, high, most, expected", [
    (0, 1, 5, "0.00 0.25 0.50 0.75 1.00"), (0, 32440, 6, "0 10k 20k 30k 40k"),
    (0.55, 5.6, 7, "0 1 2 3 4 5 6"), (-500, -120, 4, "-600 -400 -200 0"),
    (0, 2400, 4, "0 1000 2000 3000"), (3, 3, 5, "1 2 3 4 5"), (0, 0, 3, "-0.5 0.0 0.5"),
    (1e-6, 2e-6, 4, "1e-06 1.5e-06 2e-06"), (0, 3e9, 4, "0 1000M 2000M 3000M"),
    (-1, 1, 3, "-1 0 1"), (61.2, 79.9, 3, "60 70 80")])
def test_ticks_are_round_numbers(low, high, most, expected):
    assert " ".join(labels(ticks(low, high, most))) == expected
