"""What verification measures, and what it refuses."""
from dataclasses import replace

import numpy as np

from seed.export.verify import Agreement, DelegateCoverage, Report, rejection_reason, table


def report_of(**changes) -> Report:
    good = Agreement(1000, 1e-6, 10.0, 1000)
    scores = [{"task": "copy", "level": 1, "correct": 90, "count": 100}]
    return replace(Report("ai-edge-litert", good, good, scores, scores, DelegateCoverage(9, 8, 1),
                          30.0, 50.0), **changes)


def test_wrong_logits_and_lost_accuracy_reject_a_file():
    off = Agreement(1000, 0.01, 10.0, 999)
    assert rejection_reason(report_of(), "float32") == ""
    assert "the reference's by 1.0e-03" in rejection_reason(report_of(reference=off), "float32")
    assert "the trainer's by 1.0e-03" in rejection_reason(report_of(trainer=off), "float32")
    assert rejection_reason(report_of(reference=off, trainer=off), "int8") == ""
    worse = [{"task": "copy", "level": 1, "correct": 84, "count": 100}]
    assert "6.0 points below the checkpoint's" in rejection_reason(report_of(holdout=worse), "int8")


def test_logits_that_are_not_finite_reject_a_file():
    agreement = Agreement()
    agreement.add(np.full(256, np.nan), np.arange(256.0))
    assert agreement.relative_delta == float("inf")
    assert rejection_reason(report_of(trainer=agreement), "int8")


def test_only_a_choice_that_the_expected_logits_call_close_is_a_tie():
    base, agreement = np.arange(11.0), Agreement()      # a range of 10
    near, far = base.copy(), base.copy()
    near[9], far[9] = 10 - 1e-4, 10 - 3e-4              # 1e-5 and 3e-5 of it
    flipped = base.copy()
    flipped[9] = 11
    for expected, counts in ((base, (1, 0)), (near, (1, 1)), (far, (1, 1)), (base, (1, 1))):
        agreement.add(flipped if counts[1] else base, expected)
        assert (agreement.agreed, agreement.tied) == counts
    agreement.add(near, far)
    assert (agreement.agreed, agreement.tied) == (2, 1)


def test_the_table_says_what_the_delegate_leaves_out_and_how_large_the_file_is():
    coverage = DelegateCoverage(9, 8, 1, {"GATHER": 1})
    text = table(report_of(delegate=coverage), 123_456)
    assert "takes 8 of 9 operators in 1 partition(s), outside: 1 GATHER" in text
    assert "90.0 % exact, the checkpoint 90.0 %" in text and "123,456 bytes" in text
