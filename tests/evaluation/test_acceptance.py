"""What an adapted brain has to be better in, and may not lose, beside what chance explains."""
import math

import numpy as np
import pytest

from seed.body.results import Acting, ChoiceAccuracy, Returns
from seed.errors import ConfigError
from seed.evaluation.acceptance import (Limits, body_refusal, check_provable, choice_figure,
                                        refusal)
from seed.evaluation.exact_match import Score
from seed.evaluation.figure import Figure

LIMITS = Limits()


def score(task: str, right: int, n: int = 40, chance: float = 0.0, first: int = 0) -> Score:
    """Of n items, those that follow the `first` are right."""
    hits = tuple(first <= i < first + right for i in range(n))
    return Score(task, 1, right, n, chance, hits)


def verdict(rule: tuple[int, int], old: tuple[int, int] = (40, 40), n: int = 40,
            chance: float = 0.0, limits: Limits = LIMITS) -> str:
    before, after = ([score("/x/rule.jsonl", rule[i], n, chance), score("copy", old[i])]
                     for i in (0, 1))
    return refusal(before, after, "/x/rule.jsonl", limits)


def test_a_rule_that_is_learnt_and_costs_nothing_passes():
    assert verdict((0, 40)) == verdict((2, 30)) == verdict((0, 8)) == ""


def test_a_gain_has_to_be_as_large_as_asked_and_larger_than_chance():
    assert verdict((0, 0)) == ("rule.jsonl is not learnt: 0.0 % before, 0.0 % after of 40 held-out "
                               "examples, and it needs 1 point more")
    assert "7.5 % after of 40 held-out examples, and chance explains 8.2 points" in verdict((0, 3))
    assert verdict((0, 4)) == "" and "and it needs 30 points more" in verdict(
        (0, 4), limits=Limits(30, 3))
    assert verdict((0, 0), limits=Limits(0, 3)) == ""   # it need not be better


def test_one_constant_answer_is_no_rule():
    """As after labels that were shuffled: half are right where there are two answers."""
    assert "one constant answer is right in 50.0 %" in verdict((0, 22), chance=0.5)
    assert verdict((0, 36), chance=0.5) == ""


def test_what_cannot_become_better_is_only_not_to_be_lost():
    assert verdict((40, 40)) == verdict((38, 39)) == verdict((38, 38)) == ""
    assert "rule.jsonl is lost: 95.0 % before, 50.0 % after" in verdict((38, 20))


def test_an_old_task_may_lose_what_is_allowed_and_what_chance_explains():
    assert verdict((0, 40), (40, 39)) == verdict((0, 40), (40, 38)) == ""
    assert verdict((0, 40), (40, 20)) == (
        "copy is lost: 100.0 % before, 50.0 % after of its held-out items; 3 points may go, and "
        "15.5 by chance")
    assert verdict((0, 40), (40, 20), limits=Limits(1, 60)) == ""
    before, after = score("copy", 10, 400), score("copy", 10, 400, first=10)
    assert refusal([before], [after], "", LIMITS) == ""   # others are right, as many
    assert "copy is lost" in refusal([score("copy", 400, 400)], [score("copy", 380, 400)], "",
                                     Limits(1, 1))


def test_levels_of_a_task_count_together():
    before = [score("copy", 40), Score("copy", 2, 0, 40, 0.0, (False,) * 40)]
    after = [score("copy", 38), Score("copy", 2, 2, 40, 0.0, (True,) * 2 + (False,) * 38)]
    assert refusal(before, after, "", LIMITS) == ""


@pytest.mark.parametrize("n, chance, is_told", [
    (1, 1.0, False), (2, 0.5, False), (3, 1 / 3, True), (40, 1.0, False), (40, 0.5, True)])
def test_too_few_examples_and_a_constant_answer_are_refused_before_any_work(n, chance, is_told):
    before = [score("rule.jsonl", 0, n, chance), score("copy", 40)]
    if is_told:
        return check_provable(before, "rule.jsonl", LIMITS)
    check_provable(before, "rule.jsonl", Limits(0, 3))
    with pytest.raises(ConfigError, match=f"rule.jsonl: {n} held-out examples? cannot tell"):
        check_provable(before, "rule.jsonl", LIMITS)


def returns(body: str, mean: float, half: float = 1.0) -> Returns:
    return Returns(body, 100, mean, half, 0.0, None)


def test_a_body_that_is_replayed_may_not_lose_its_return():
    for after, is_lost in ((96.0, False), (95.9, True), (math.nan, True)):
        reason = refusal([], [], "", LIMITS, (Acting([returns("pole", 100)]),
                                              Acting([returns("pole", after)])))
        assert bool(reason) == is_lost
    assert reason.startswith("pole is lost: its return falls from 100.0 to nan; 3 % may go")


def test_a_changed_body_has_to_be_better_by_a_fraction_of_its_return():
    old = Figure("old", "return", 50.0, 49.0, 1.0)
    for after, margin, is_refused in ((110, 5, False), (104, 5, True), (100.5, 0.1, True),
                                      (102, 0.1, False), (np.nan, 0.1, True)):
        reason = body_refusal(Figure("worn", "return", 100.0, after, margin), [old], LIMITS)
        assert bool(reason) == is_refused, after
    assert "worn is not learnt: its return is 100.0 before and nan after" in reason
    assert body_refusal(Figure("worn", "return", -100.0, -90.0, 1.0), [], LIMITS) == ""
    lost = body_refusal(Figure("worn", "return", 100.0, 200.0), [old._replace(after=40)], LIMITS)
    assert lost.startswith("old is lost: its return falls from 50.0 to 40.0")


def test_choices_as_recorded_have_to_be_more_than_chance_explains():
    def reason(before: float, after: float) -> str:
        return body_refusal(choice_figure(*(ChoiceAccuracy("arm", "data", accuracy, 100)
                                            for accuracy in (before, after))), [], LIMITS)
    assert reason(0.5, 0.8) == reason(0.99, 0.99) == ""
    assert "arm is not learnt" in reason(0.5, 0.55) and "arm is lost" in reason(1.0, 0.5)
