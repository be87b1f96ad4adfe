"""The mean of levels, the hardest level and uniform draws: of a task, of all, of two brains."""
import json

import pytest

from seed.evaluation.exact_match import Score
from seed.evaluation.score_summary import Measured, comparison, table

LEVELS = [Score("add", 2, 1, 4, 0.2), Score("add", 1, 3, 4, 0.1), Score("copy", 1, 4, 4, 0.0)]
UNIFORM = [Score("add", 0, 1, 8, 0.01), Score("copy", 0, 8, 8, 0.0)]
MEASURED = Measured(LEVELS, UNIFORM)


def test_the_three_scores_of_a_task_and_of_all_are_what_they_are_called():
    add, whole = MEASURED.task_summaries["add"], MEASURED.summary
    assert [mean.accuracy for mean in add] == [0.5, 0.25, 0.125]
    assert [mean.chance for mean in add] == pytest.approx([0.15, 0.2, 0.01])
    assert [mean.accuracy for mean in whole] == pytest.approx([2 / 3, 0.625, 0.5625])
    assert whole.uniform_draw.interval[0] < 0.5625 < whole.uniform_draw.interval[1]
    assert add.hardest_level.interval == pytest.approx(LEVELS[0].interval)


def test_the_hardest_level_is_the_last_one_however_it_is_answered():
    levels = [Score("next", 1, 0, 4, 0.0), Score("next", 2, 4, 4, 0.0)]
    assert Measured(levels).summary.hardest_level.accuracy == 1


def test_as_data_all_is_beside_each_task_and_what_was_not_measured_is_null():
    data = json.loads(json.dumps(MEASURED.to_dict()))
    assert list(data) == ["mean_of_levels", "hardest_level", "uniform_draw", "tasks"]
    assert data["tasks"]["add"]["hardest_level"] == {
        "accuracy": 0.25, "chance": 0.2, "interval": pytest.approx(LEVELS[0].interval)}
    without = json.loads(json.dumps(Measured(LEVELS).to_dict()))
    assert without["uniform_draw"] is None is without["tasks"]["copy"]["uniform_draw"]
    assert Measured([]).to_dict() is None and Measured([]).summary is None


def test_the_table_names_the_three_and_ends_with_all():
    head, *rows = table(MEASURED).splitlines()
    assert head.split("  ")[0] == "exact % (guessing %)"
    assert head[28:].split() == "mean of levels hardest level uniform draw".split()
    assert [row.split() for row in rows] == [
        ["add", "50.0", "(15.0)", "25.0", "(20.0)", "12.5", "(", "1.0)"],
        ["copy", "100.0", "(", "0.0)", "100.0", "(", "0.0)", "100.0", "(", "0.0)"],
        ["all", "66.7", "(10.0)", "62.5", "(10.0)", "56.2", "(", "0.5)"]]
    assert table(Measured(LEVELS)).splitlines()[-1].endswith(" -")
    assert max(map(len, table(MEASURED).splitlines())) < 80


def test_a_comparison_has_the_three_of_both_brains_for_each_task_of_the_second():
    before = Measured(LEVELS[:2], UNIFORM[:1])
    first, second, *rows = comparison(("before", "after"), before, MEASURED).splitlines()
    assert first.split() == "mean of levels hardest level uniform draw".split()
    assert second.split() == ["exact", "%", *3 * ["before", "after"], "n"]
    assert [row.split() for row in rows] == [
        ["add", "50.0", "50.0", "25.0", "25.0", "12.5", "12.5", "8"],
        ["copy", "-", "100.0", "-", "100.0", "-", "100.0", "4"],
        ["all", "50.0", "66.7", "25.0", "62.5", "12.5", "56.2", "12"]]
    assert max(map(len, (first, second, *rows))) < 80
    assert len(comparison(("before", "after"), Measured([]), Measured([])).splitlines()) == 2


def test_a_name_adds_no_line_to_a_table():
    measured = Measured([Score("/home/a\nadd\x1b.jsonl", 1, 1, 2, 0.0)])
    for text in (table(measured), comparison(("", ""), measured, measured)):
        assert len(text.splitlines()) in (3, 4) and "a\\nadd\\x1b.jsonl" in text


def test_a_comparison_names_a_file_from_the_current_folder_and_shows_what_is_cut(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = Measured([Score(f"{tmp_path}/runs/rule.jsonl", 1, 1, 2, 0.0),
                         Score("/elsewhere/of/another/person/rule.jsonl", 1, 1, 2, 0.0)])
    rows = comparison(("", ""), measured, measured).splitlines()[2:]
    assert [row[:28].rstrip() for row in rows] == ["runs/rule.jsonl",
                                                   "...another/person/rule.jsonl", "all"]
