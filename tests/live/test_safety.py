"""Whatever a brain says, a body gets an action within its limits; faults end as stated."""
import math

import pytest

from seed.errors import ConfigError
from seed.live import safety
from seed.live.safety import HOLD_S, Bounds, Fault, Faults, Limits
from seed.runtime import rate

NINE = [i / 4 - 1 for i in range(9)]


def bounds(n=2, **owner):
    return Bounds.of([NINE] * n, "numbers").narrowed(owner, "robot")


def test_a_file_is_for_the_time_that_the_fast_loop_waits_for_it():
    """Neither imports the other: the tick loop needs no numpy, and a robot has the runtime alone.
    """
    assert rate.BRAIN_FRACTION == safety.BRAIN_FRACTION


def test_the_default_safe_action_is_zero_or_the_middle_and_the_first_choice():
    assert Bounds.of([[-1, 0, 1], [2, 3, 6]], "numbers").safe == (0.0, 4.0)
    assert Bounds.of([[0, 1, 2]], "index").safe == (0,)


def test_an_action_is_clamped_then_slewed_and_both_are_counted():
    limits = Limits(bounds(action_limits=[(-0.5, 0.5), (-1, 1)], max_change=[10, 10]), 100)
    assert limits.apply([1.0, 0.0]) == [0.5, 0.0] and (limits.clamped, limits.slewed) == (1, 0)
    assert limits.apply([-0.5, 0.0]) == [0.4, 0.0] and (limits.clamped, limits.slewed) == (1, 1)
    assert limits.apply([0.45, 0.05]) == [0.45, 0.05] and limits.slewed == 1
    assert limits.last == [0.45, 0.05]


def test_the_safe_action_obeys_the_limits_too():
    narrowed = bounds(action_limits=[(0.25, 1), (-1, 1)], safe_action=[0, -3])
    assert narrowed.safe == (0.25, -1.0) and narrowed.is_safe_given


@pytest.mark.parametrize("action", [[math.nan, 0], [0, math.inf], [0.0], [0, 0, 0]])
def test_an_action_that_is_not_finite_or_has_another_shape_is_refused(action):
    limits = Limits(bounds(), 100)
    with pytest.raises(ValueError):
        limits.apply(action)
    assert limits.last is None


def test_an_index_stays_an_index_of_the_body():
    limits = Limits(Bounds.of([[0, 1, 2]], "index"), 50)
    assert limits.apply([7.0]) == [2] and limits.clamped == 1
    with pytest.raises(ValueError):
        limits.apply([0.5])


@pytest.mark.parametrize("owner", [
    {"safe_action": [0]}, {"safe_action": [0, math.nan]}, {"safe_action": "x"},
    {"action_limits": [(2, 3), (0, 1)]}, {"action_limits": [0, 1, 2]}, {"max_change": [1, 0]}])
def test_what_an_owner_says_wrongly_is_refused_with_the_name(owner):
    with pytest.raises(ConfigError, match=f"robot: {[*owner][0]}"):
        bounds(**owner)


def test_a_fault_ends_after_a_second_of_health():
    faults = Faults()
    assert faults.tick(0) and faults.report(Fault.BRAIN_ERROR, 1.0)
    assert not faults.tick(1.0) and not faults.report(Fault.BRAIN_ERROR, 1.5)
    assert not faults.tick(1.5 + HOLD_S - 0.01) and faults.tick(1.5 + HOLD_S)
    assert faults.count == 1


def test_the_third_fault_within_a_minute_is_latched_until_a_person_clears_it():
    faults = Faults()
    for at_s in (0, 10, 20):
        faults.report(Fault.BODY_ERROR, at_s)
        is_free = faults.tick(at_s + 5)
    assert not is_free and faults.is_latched and not faults.tick(10_000)
    faults.clear()
    assert faults.tick(10_001) and not faults.is_latched


def test_faults_of_an_earlier_loop_count():
    faults = Faults()
    faults.restore([0.0, 10.0])
    faults.report(Fault.RESTARTED, 20.0)
    assert faults.is_latched and faults.times_s == [0.0, 10.0, 20.0]
    faults = Faults()
    faults.latch(Fault.BODY_ERROR)
    faults.report(Fault.RESTARTED, 20.0)
    assert faults.is_latched and not faults.tick(10_000) and faults.fault == Fault.RESTARTED


def test_rare_faults_are_not_latched():
    faults = Faults()
    for at_s in range(0, 400, 40):
        faults.report(Fault.BODY_ERROR, at_s)
        assert faults.tick(at_s + 5)
    assert faults.count == 10


@pytest.mark.parametrize("owner", [{"safe_action": [0.5]}, {"action_limits": [(0.2, 1)]}])
def test_what_is_between_two_choices_is_refused(owner):
    for form in ("index", "indices"):
        with pytest.raises(ConfigError, match="robot: .* is between two choices: give whole"):
            Bounds.of([[0, 1, 2]], form).narrowed(owner, "robot")
