"""A week in the life of a brain: what its soak calls a fault; with -m long, two of its days."""
import pytest

from seed.live.brains import (CONFIRMED, CUT, FIRST, PROMOTED, REFUSED, ROLLED_BACK, Decision)
from tests.soak import week

FIGURE = ({"name": "cartpole", "unit": "return", "before": 1.0, "after": 2.0, "margin": 0.0},)
GOOD = [Decision(FIRST, "a", "", 1), Decision(REFUSED, "", "a", 1, reason="no", loop="mid"),
        Decision(PROMOTED, "b", "a", 2, figures=FIGURE, loop="mid"),
        Decision(CONFIRMED, "b", "a", 2),
        Decision(PROMOTED, "c", "b", 3, figures=FIGURE, loop="slow"),
        Decision(ROLLED_BACK, "b", "c", 4, reason="it fell"), Decision(CUT, "d", "b", 4)]


def test_a_whole_lineage_has_no_faults():
    assert week.lineage_faults(GOOD, "b", 5) == []


@pytest.mark.parametrize("change, fault", [
    (lambda rows: rows.pop(2), "generation 3 follows 1"),
    (lambda rows: rows.pop(4), "nothing was watched"),
    (lambda rows: rows.append(Decision(CONFIRMED, "b")), "b was not watched"),
    (lambda rows: rows.append(Decision(PROMOTED, "d", "a", 5, figures=FIGURE, loop="mid")),
     "its parent a is not b"),
    (lambda rows: rows.append(Decision(REFUSED, "", "b", 4)), "does not say of which loop"),
    (lambda rows: rows.pop(5), "b acts, the last line says c"),
    (lambda rows: rows.pop(1), "4 lines for 5 decisions")])
def test_a_line_that_is_missing_or_wrong_is_a_fault(change, fault):
    rows = list(GOOD)
    change(rows)
    assert fault in "; ".join(week.lineage_faults(rows, "b", 5))


def test_what_was_lost_is_a_fraction_of_what_was_known():
    first = week.Skills(0.9, -200.0)
    assert first.lost(week.Skills(0.88, -190.0)) == pytest.approx(0.02)
    assert first.lost(week.Skills(0.95, -208.0)) == pytest.approx(0.04)
    assert first.lost(week.Skills(0.95, -150.0)) < 0


@pytest.mark.long
def test_two_days_and_nights_are_lived_without_faults(tmp_path):
    assert week.live(2, tmp_path) == []
