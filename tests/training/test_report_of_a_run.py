"""A training that ends leaves its page: with examples, and without harm if it cannot be written."""
import subprocess
import sys

import pytest

from seed.__main__ import main
from seed.errors import StopReason
from seed.storage import RunDir
from seed.training import loop, pipeline
from seed.training.session import Hooks
from seed.training.stop_signals import StopSignals
from tests.support import recorded_run
from tests.support.counting_learner import CountingLearner, metric_rows, small_profile


def test_the_last_evaluation_records_three_answers_of_each_task_uniform_draws_and_the_board(
        tmp_path):
    learner = CountingLearner()
    profile = small_profile("train.steps=40", "curriculum.eval_every_steps=20",
                            "train.eval_every_minutes=0.25")
    result = loop.run(profile, RunDir(tmp_path), learner, StopSignals(), Hooks(learner.clock))
    *earlier, last = metric_rows(tmp_path, "eval")
    assert earlier and not any(row["examples"] for row in earlier) and "board" in last
    counts: dict[str, int] = {}
    for row in last["examples"]:
        assert row["prompt"] and row["answer"] != row["right"]   # all logits are equal
        counts[row["task"]] = counts.get(row["task"], 0) + 1
    assert set(counts) == {score["task"] for score in last["scores"]}
    assert not any(row["uniform"] for row in earlier)
    drawn = {score["task"]: score for score in last["uniform"]}
    assert drawn.keys() == counts.keys() and {score["level"] for score in drawn.values()} == {0}
    assert result.measured.uniform == result.uniform and len(result.uniform) == len(drawn)
    assert max(counts.values()) == 3
    assert [len(row["answers"]) for row in metric_rows(tmp_path, "curriculum")] == [3]


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A training that ends at once as it is told; its directory and what it logs."""
    run_dir, lines = recorded_run.write(tmp_path / "run"), []

    def train(reason: StopReason) -> loop.TrainResult:
        result = loop.TrainResult(40, reason)
        monkeypatch.setattr(pipeline, "_train", lambda *_: result)
        assert pipeline.train(small_profile(), run_dir, log=lines.append) is result
        return result
    return train, run_dir, lines


def test_a_finished_training_writes_its_page_and_a_stopped_one_does_not(train):
    train, run_dir, lines = train
    train(StopReason.STOPPED)
    assert not run_dir.report.exists()
    train(StopReason.FINISHED)
    assert run_dir.report.read_text().startswith("<!doctype html>") and not lines


def test_a_page_that_cannot_be_written_is_one_line_and_no_failed_training(train):
    train, run_dir, lines = train
    run_dir.report.mkdir()
    train(StopReason.FINISHED)
    assert len(lines) == 1 and lines[0].startswith(
        f"WARNING: {run_dir.report} is not written: Is a directory; the brain is saved")
    run_dir.metrics.unlink()
    train(StopReason.FINISHED)
    assert "has no brain and no metrics" in lines[1]


def test_a_page_never_follows_a_link_out_of_its_directory(train, tmp_path):
    train, run_dir, _ = train
    target = tmp_path / "elsewhere"
    target.write_text("untouched")
    run_dir.report.symlink_to(target)
    train(StopReason.FINISHED)
    assert target.read_text() == "untouched" and not run_dir.report.is_symlink()


def test_the_command_writes_the_page_without_tinygrad(tmp_path):
    run_dir = recorded_run.write(tmp_path / "run")
    code = ("import sys; from seed.__main__ import main; code = main(sys.argv[1:]); "
            "sys.exit('tinygrad is loaded' if 'tinygrad' in sys.modules else code)")
    done = subprocess.run([sys.executable, "-c", code, "report", "--run-dir", str(run_dir)],
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"file://{run_dir.report}\n" and run_dir.report.exists()


@pytest.mark.parametrize("make_fn, message", [
    (lambda path: path.mkdir(), "exists and is not an HTML file"),
    (lambda path: path.write_text("a brain"), "exists and is not an HTML file")])
def test_the_command_replaces_nothing_but_a_page(tmp_path, capsys, make_fn, message):
    run_dir, page = recorded_run.write(tmp_path / "run"), tmp_path / "page"
    make_fn(page)
    assert main(["report", f"--run-dir={run_dir}", f"--html={page}"]) == 2
    assert message in capsys.readouterr().err


def test_the_command_names_a_directory_without_a_run(tmp_path, capsys):
    assert main(["report", f"--run-dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        f"seed: {tmp_path} has no brain and no metrics: train one with --run-dir {tmp_path}, or "
        f"name another directory\n")
    assert main(["report", f"--run-dir={tmp_path / 'none'}"]) == 2
    assert "is not a directory" in capsys.readouterr().err
