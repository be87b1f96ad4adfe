"""AUROC, how sure wrong answers are, and calibration, of answers that are known."""
import numpy as np
import pytest

from seed.curriculum.task import Item
from seed.evaluation.confidence import (MAX_ANSWER_BYTES, Judged, auroc, calibration, judged,
                                        measured, rows, sureness, table)
from seed.rng import Stream, stream
from seed.wavecore.decode import Rollout


@pytest.mark.parametrize("confidences, are_right, expected", [
    ([0.9, 0.8, 0.2], [True, True, False], 1.0), ([0.2, 0.8], [True, False], 0.0),
    ([0.5, 0.5], [True, False], 0.5), ([0.9, 0.5, 0.5, 0.1], [True, True, False, False], 7 / 8),
    ([0.9, 0.5], [True, True], None), ([0.9], [False], None), ([], [], None)])
def test_auroc_is_how_often_a_right_answer_is_surer_with_ties_at_half(confidences, are_right,
                                                                      expected):
    assert auroc(confidences, are_right) == expected


def test_auroc_counts_all_pairs():
    rng = stream(0, Stream.SAMPLE, 33)
    sure, right = rng.integers(0, 9, 200) / 9, rng.random(200) < 0.6
    pairs = np.sign(sure[right][:, None] - sure[~right])
    assert auroc(sure.tolist(), right.tolist()) == pytest.approx((1 + pairs.mean()) / 2)


def test_wrong_answers_have_a_mean_confidence_and_a_share_of_sure_ones():
    answers = [Judged("add", *fields) for fields in (
        (True, 0.9), (False, 0.7), (False, 0.9), (False, 0.8), (False, 0.4))]
    assert sureness(answers) == {"answers": 5, "right": 1, "auroc": 3.5 / 4,
                                 "wrong_confidence": pytest.approx(0.7), "sure_when_wrong": 0.25}
    assert sureness(answers[:1]) == {"answers": 1, "right": 1, "auroc": None,
                                     "wrong_confidence": None, "sure_when_wrong": None}


def test_calibration_compares_confidence_with_accuracy():
    half = calibration([Judged("add", i % 2 == 0, 0.95) for i in range(4)])
    assert half["count"] == [0] * 9 + [4] and half["accuracy"][9] == 0.5
    assert half["confidence"][9] == pytest.approx(0.95) and half["error"] == pytest.approx(0.45)
    right = calibration([Judged("add", True, 1.0), Judged("add", False, 0.0)])
    assert right["error"] == 0.0 and right["count"][0] == right["count"][9] == 1
    assert calibration([])["error"] == 0.0


def test_an_answer_is_right_if_it_is_whole_and_has_ended():
    items = [Item("add", 1, prompt, b"42") for prompt in (b"a", b"b", b"c", b"", b"a")]
    asked = []

    def answer(prompts, max_bytes):
        asked.append((prompts, max_bytes))
        return [Rollout(b"42", True, 0.1, 1.0, 0.9), Rollout(b"42", False, 0.1, 1.0, 0.8),
                Rollout(b"421", True, 0.1, 1.0, 0.7)]
    assert judged(items, answer) == [Judged("add", True, 0.9), Judged("add", False, 0.8),
                                     Judged("add", False, 0.7)]
    assert asked == [([b"a", b"b", b"c"], MAX_ANSWER_BYTES + 1)]   # not twice, and not nothing
    longest = Item("own", 1, b"a", b"x" * 200)
    judged([longest], lambda prompts, max_bytes: asked.append(max_bytes) or [
        Rollout(b"", True, 0.1, 1.0, 0.9)])
    assert asked[-1] == 201


def test_each_task_both_kinds_of_items_and_all_are_told():
    holdout = [Judged("add", True, 0.9), Judged("copy", True, 0.6)]
    longer = [Judged("add", False, 0.7), Judged("copy", False, 0.2)]
    results = measured(holdout, longer)
    assert [row["task"] for row in results["tasks"]] == ["add", "copy"]
    assert [row["auroc"] for row in results["tasks"]] == [1.0, 1.0]
    assert results["all"]["auroc"] == 0.75 and results["holdout"]["auroc"] is None
    assert results["extrapolation"]["wrong_confidence"] == pytest.approx(0.45)
    assert [row[0] for row in rows(results)] == ["add", "copy", "holdout", "extrapolation", "all"]
    assert rows(results)[-1] == ("all", "4", "50.0", "0.750", "0.45", "0.0")
    assert rows(results)[2] == ("holdout", "2", "100.0", "-", "-", "-")
    assert len({len(line) for line in table(results).splitlines()}) == 1


def test_of_tasks_without_longer_items_there_are_no_figures_of_those():
    results = measured([Judged("identity", True, 0.9)], [])
    assert rows(results)[-2] == ("extrapolation", "0", "0.0", "-", "-", "-")
