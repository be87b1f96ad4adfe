"""What a person reads when a training has finished, and in a list of runs."""
import json

import pytest

from seed.body.results import ChoiceAccuracy, Returns
from seed.evaluation.ending import ending
from seed.evaluation.exact_match import Score
from seed.evaluation.run_summary import summary
from seed.evaluation.score_summary import Measured
from seed.storage import RunDir
from tests.support import brains

SCORES = [Score("identity", 1, 40, 40, 0.25), Score("copy", 1, 40, 40, 0.0),
          Score("copy", 2, 36, 40, 0.0), Score("count", 2, 22, 40, 0.1),
          Score("/home/me/mine.jsonl", 1, 3, 40, 0.02)]
UNIFORM = [Score(task, 0, n, 40, 0.0) for task, n in (
    ("identity", 40), ("copy", 30), ("count", 10), ("/home/me/mine.jsonl", 0))]
COMMANDS = {"talk to it": "seed chat runs/1", "train on": "seed train --run-dir runs/1"}


def test_the_end_says_what_the_brain_can_do_and_what_comes_next(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    measured = Measured(SCORES, UNIFORM)
    assert ending(2206, 240.4, measured, [], [], COMMANDS) == """\
 Done: 2,206 steps in 4:00. Held-out questions right: 70 % as the mean of
 levels (guessing: 7 %), 63 % at the hardest levels, 50 % of uniform draws. By
 task, mean of levels:
   solid        identity 100  copy 95
   so-so        count 55
   weak         mine.jsonl 8
   talk to it   seed chat runs/1
   train on     seed train --run-dir runs/1"""


UNLEARNT = [Score(f"task {i}", 1, 0, 40, 0.2) for i in range(8)]


@pytest.mark.parametrize("scores, words", [
    ([Score("identity", 1, 37, 40, 0.25), *UNLEARNT], "Better than guessing in 1 of 9 tasks so "
     "far, best in identity: 92 % of held-out questions right."),
    ([Score("parity", 1, 22, 40, 0.5), *UNLEARNT], "No task of 9 is done better than by guessing "
     "yet: train on.")])
def test_a_mean_below_guessing_is_told_by_what_is_better_than_guessing(monkeypatch, scores, words):
    monkeypatch.setenv("COLUMNS", "80")
    text = " ".join(ending(100, 14.0, Measured(scores), [], [], {}).split())
    assert text.startswith(f"Done: 100 steps in 0:14. {words} By task, mean of levels: ")


def test_the_end_of_a_brain_that_acts(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = ending(150, None, Measured([]), [Returns("cartpole", 64, 500.0, 0.0, 500.0, None),
                                            Returns("/x/robot.py:Arm", 64, 0.25, 0.0, 0.0, 0.5)],
                  [ChoiceAccuracy("arm", "/data", 0.974, 1200)], {})
    assert text == """\
 Done: 150 steps.
   acts         cartpole: return 500.0 in 64 unseen episodes
   acts         robot.py:Arm: return 0.250 in 64 unseen episodes, 50 % succeed
   as recorded  arm: 97 % of 1,200 held-out choices"""


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_the_end_is_as_wide_as_the_terminal_and_no_name_is_parted_from_its_percent(
        monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    names = [f"task_{i:02d}" for i in range(30)]
    measured = Measured([Score(name, 1, 40, 40, 0.0) for name in names])
    text = ending(1, 1.0, measured, [], [], {})
    assert max(map(len, text.splitlines())) < columns
    rows = text.splitlines()
    assert all(any(f"{name} 100" in row for row in rows) for name in names)


def test_a_run_in_a_list_has_its_last_accuracy_its_size_and_its_state(tmp_path):
    brains.untrained(tmp_path, "toy")
    run_dir = RunDir(tmp_path)
    rows = [{"kind": "eval", "step": step, "scores": [
        Score("copy", level, right, 4, 0.1).to_dict() for level, right in ((1, n), (2, 4))]}
        for step, n in ((3, 0), (7, 2))]
    run_dir.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_dir.status.write_text('{"state": "finished"}')
    row = summary(run_dir)
    assert (row.profile, row.step, row.right, row.state) == ("toy", 7, 0.75, "finished")
    assert row.size_mb == pytest.approx(sum(
        path.stat().st_size for path in tmp_path.iterdir()) / 2 ** 20)
    with run_dir.locked():
        assert summary(run_dir).state == "in use"
    run_dir.checkpoint.write_bytes(b"no checkpoint")
    assert summary(run_dir).state == "damaged"
