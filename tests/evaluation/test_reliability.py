"""Consistency, loss and stability, measured on brains of which they are known."""
import numpy as np
import pytest

from seed.evaluation.reliability import consistency, loss, stability
from tests.support.perfect_forward import PerfectForward, T, small_dataset


@pytest.mark.parametrize("distractible", [False, True])
def test_only_a_brain_that_no_history_distracts_is_consistent(distractible):
    dataset = small_dataset()
    perfect = PerfectForward(dataset, distractible=distractible)
    results = consistency(dataset, perfect.greedy_answers, T, 3)
    assert [row["task"] for row in results] == list(dataset.tasks)
    assert all(0 < row["questions"] <= 3 and row["right"] <= row["same"] for row in results)
    if distractible:
        assert sum(row["same"] for row in results) == 0
    else:
        assert all(row["right"] == row["questions"] for row in results)


@pytest.mark.parametrize("logit", [20.0, np.log(255.0)])
def test_the_loss_of_a_brain_that_is_always_right_is_how_unsure_it_is(logit):
    dataset = small_dataset()
    measured = loss(dataset.holdout(2), PerfectForward(dataset, logit))
    assert measured == pytest.approx(np.log1p(255 * np.exp(-logit)), abs=1e-6)


def test_the_loss_of_a_confident_wrong_brain_is_its_logit():
    dataset = small_dataset()
    forward = PerfectForward(dataset, 20.0)
    measured = loss(dataset.holdout(2), lambda *sequences: np.roll(forward(*sequences), 1, -1))
    assert measured == pytest.approx(20.0, abs=1e-3)


class CountingDecoder:
    """Generates the same eight bytes again and again; its state may become infinite."""

    def __init__(self, diverges: bool):
        self.diverges, self.steps = diverges, 0

    def generate(self, prompt, steps, stop, temperature, seed):
        for self.steps in range(steps):
            yield self.steps % 8

    def state_rms(self) -> float:
        return float("inf") if self.diverges and self.steps > 50 else 1.0


def test_stability_counts_repetition_and_sees_states_that_are_not_finite():
    calm, diverging = (stability(CountingDecoder(diverges), 100) for diverges in (False, True))
    assert calm["finite"] and not diverging["finite"] and calm["state_rms"] == [1.0] * 50
    assert calm["repetition"] == pytest.approx(1 - 8 / 93)
