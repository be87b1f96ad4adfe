"""Exported files of a brain whose states turn: phases stay whole and are the trainer's, and what is
rounded otherwise because it lies halfway is told apart from what is wrong."""
from types import SimpleNamespace

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export.reference import Reference
from seed.export.verify import (MAX_RESTARTS, Turns, beside, delegate_coverage, free_run,
                                steady_bytes)
from seed.runtime import Brain
from seed.runtime.selftest import BYTES
from seed.wavecore.tinygrad_seam import buffer_view
from tests.support import brains
from tests.support.brains import exported
from tests.support.tflite import LOOKUP, SMALL, check_prefill

STEPS = 120


@pytest.fixture(scope="module")
def turning(tmp_path_factory) -> TrainedBrain:
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("turning"), "toy", *SMALL,
                                           f"model.rotary_steps={STEPS}"))


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_free_running_file_equals_reference_and_trainer(turning, tmp_path, target, explicit):
    file = Brain(exported(turning, tmp_path / "f", target=target, explicit_state=explicit))
    for agreement in beside(file, turning, 400, 1e-5):
        assert agreement.agreed + agreement.restarts == 400 and agreement.restarts < 4, agreement
        assert agreement.relative_delta < 1e-5, agreement


@pytest.mark.long
@pytest.mark.parametrize("target", ["portable", "litert"])
def test_choices_are_the_trainers_over_ten_thousand_steps(turning, tmp_path, target):
    file = Brain(exported(turning, tmp_path / "f", target=target))
    for agreement in beside(file, turning, 10_000, 1e-4):
        assert agreement.agreed + agreement.tied + agreement.restarts == 10_000, agreement
        assert agreement.restarts < 20, agreement
        print(f"{target}: {agreement}")


@pytest.mark.parametrize("target", ["portable", "litert"])
def test_phases_stay_whole_and_are_those_of_the_trainer(turning, tmp_path, target):
    file = Brain(exported(turning, tmp_path / "f", target=target, explicit_state=True))
    turning.decoder.reset()
    for byte in brains.some_bytes(200):
        file.step(byte)
        turning.decoder.prefill(bytes([byte]))
    for i in (0, 1):
        state_in, _ = file._states[f"phase_{i}"]
        phase = file.interpreter.get_tensor(state_in).ravel()
        expected = buffer_view(turning.decoder.state[i].phase).ravel()
        assert np.array_equal(phase, phase.round()) and np.abs(phase).max() <= STEPS / 2
        assert np.array_equal(phase % STEPS, expected) and len(set(expected)) > 10


def test_a_delegate_takes_all_but_the_lookup(turning, tmp_path):
    for (target, weights), lookup in LOOKUP.items():
        file = Brain(exported(turning, tmp_path / "f", target=target, weights=weights))
        coverage = delegate_coverage(file.interpreter)
        assert coverage.partitions == 1 and coverage.outside == lookup, coverage


@pytest.mark.parametrize("explicit", [False, True])
def test_prefill_equals_single_steps_and_both_continue_alike(turning, tmp_path, explicit):
    file = Brain(exported(turning, tmp_path / "f", explicit_state=explicit, prefill=5))
    check_prefill(file)


def test_float16_and_int8_files_keep_the_turns_in_float32(turning, tmp_path):
    for weights in ("float16", "int8"):
        file = Brain(exported(turning, tmp_path / "f", target="litert", weights=weights))
        reference = Reference(turning.profile.model, turning.params)
        agreement, = free_run(file, [reference.step], 10)
        assert agreement.relative_delta < 0.5, (weights, agreement)


class Flipping:
    """A brain whose logits are wrong in some steps, until it is reset."""

    def __init__(self, wrong: set[int]):
        self.wrong, self.steps, self.resets, self.is_off = wrong, 0, 0, False

    def reset(self) -> None:
        self.is_off, self.resets = False, self.resets + 1

    def step(self, byte: int) -> np.ndarray:
        self.is_off |= self.steps in self.wrong
        self.steps += 1
        return np.linspace(0, 1, 256) + 0.1 * self.is_off * (np.arange(256) == 3)


@pytest.mark.parametrize("margin, wrong, restarts", [
    (1e-4, {100, 700}, 2), (1e-2, {100}, 0), (1e-4, set(range(0, 1000, 10)), 20)])
def test_a_run_begins_anew_where_a_turn_was_close_and_seldom(margin, wrong, restarts):
    """Two close turns are explained; what is wrong far from any, or too often, is a fault."""
    reset = []
    reference = SimpleNamespace(least_margin=margin, reset=lambda: reset.append("reference"))
    turns = Turns(reference, 1e-4, 1000, [lambda: reset.append("trainer")])
    brain = Flipping(wrong)
    agreement, = free_run(brain, [lambda byte: np.linspace(0, 1, 256)], 1000, turns=turns)
    assert agreement.restarts == restarts <= MAX_RESTARTS * 1000
    assert reset == ["reference", "trainer"] * restarts and brain.resets == 1 + restarts
    assert (agreement.relative_delta < 1e-4) == (len(wrong) == restarts)
    assert agreement.steps + agreement.restarts == 1000


def test_the_bytes_of_a_selftest_are_far_from_turns_that_are_rounded_otherwise(turning, brain):
    reference = Reference(turning.profile.model, turning.params)

    def margin(data) -> float:
        reference.reset()
        for byte in data:
            reference.step(byte)
        return reference.least_margin
    data = steady_bytes(reference)
    assert margin(data) > 1.5 * margin(BYTES) and data[1:] == list(BYTES[1:])
    assert steady_bytes(Reference(brain.profile.model, brain.params)) == list(BYTES)
