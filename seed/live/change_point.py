"""Since when the body is as it is now: by how unexpected the brain finds what it sees."""
from collections.abc import Sequence

import numpy as np

LEAST = 5          # samples on both sides of a change
LEAST_CHANGE = 0.5   # of the smaller mean: a body surprises more here than there
THRESHOLD = 12.0   # standard errors between both sides; samples are not independent


def latest_change(samples: Sequence[float]) -> int:
    """Index of the first sample after the last change of their mean; 0 if there was none.

    Each part is divided where the means of its two sides differ most, in standard errors, until
    they do not (binary segmentation: Scott and Knott 1974, Biometrics 30). The spread is that of
    successive differences, which a change of the mean does not widen.
    """
    values, start = np.asarray(samples, float), 0
    while len(x := values[start:]) >= 2 * LEAST:
        n, spread = len(x), float(np.diff(x).std() / np.sqrt(2))
        left = np.arange(LEAST, n - LEAST + 1)
        totals = np.cumsum(x)
        difference = totals[left - 1] / left - (totals[-1] - totals[left - 1]) / (n - left)
        errors = np.abs(difference) * np.sqrt(left * (n - left) / n) / max(spread, 1e-9)
        at = int(errors.argmax())
        smaller = min(abs(x[:left[at]].mean()), abs(x[left[at]:].mean()))
        if errors[at] < THRESHOLD or abs(difference[at]) < LEAST_CHANGE * smaller:
            break
        start += int(left[at])
    return start
