"""What the end of a training prints of the three scores: as data, and as a table."""
import json
from argparse import Namespace
from dataclasses import replace

from seed.commands import outcome
from seed.errors import StopReason
from seed.evaluation.exact_match import Score
from seed.storage import RunDir
from seed.training.loop import TrainResult

LEVELS = [Score("add", 1, 3, 4, 0.1), Score("add", 2, 1, 4, 0.2)]
UNIFORM = [Score("add", 0, 1, 8, 0.01)]
RESULT = TrainResult(7, StopReason.FINISHED, LEVELS, uniform=UNIFORM)


def printed(capsys, tmp_path, result: TrainResult, **options: bool) -> str:
    args = Namespace(run_dir=RunDir(tmp_path), **{"json": False, "table": False, **options})
    assert outcome.report(args, result) == 0
    return capsys.readouterr().out


def test_the_data_of_a_training_has_the_draws_and_the_three_scores(capsys, tmp_path):
    facts = json.loads(printed(capsys, tmp_path, RESULT, json=True))
    assert [row["level"] for row in facts["scores"]] == [1, 2]
    assert [row["level"] for row in facts["uniform"]] == [0]
    assert [facts["summary"][name]["accuracy"] for name in (
        "mean_of_levels", "hardest_level", "uniform_draw")] == [0.5, 0.25, 0.125]
    acting = json.loads(printed(capsys, tmp_path, RESULT._replace(scores=(), uniform=()),
                                json=True))
    assert acting["summary"] is None


def test_the_table_of_a_training_names_the_three_scores(capsys, tmp_path):
    lines = printed(capsys, tmp_path, RESULT, table=True).splitlines()
    assert lines[0] == "finished at step 7" and lines[1].endswith("hardest level   uniform draw")
    assert lines[2].split()[::2] == ["add", "(15.0)", "(20.0)", "("]
    assert len(lines) == 4 and lines[3].startswith("all ")
    taught = [replace(LEVELS[0], is_taught=True)]
    last = printed(capsys, tmp_path, RESULT._replace(scores=taught), table=True).splitlines()[-1]
    assert last.startswith("taught: add is evaluated on what it was trained on")


def test_the_end_of_a_training_names_each_score(capsys, tmp_path):
    text = " ".join(printed(capsys, tmp_path, RESULT).split())
    assert text.startswith("Done: 7 steps. Held-out questions right: 50 % as the mean of levels "
                           "(guessing: 15 %), 25 % at the hardest levels, 12 % of uniform draws. "
                           "By task, mean of levels: so-so add 50")
