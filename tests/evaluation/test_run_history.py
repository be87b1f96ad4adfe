"""What is known of a run from its metrics: all that a training writes, little, and nonsense."""
import json

import pytest

from seed.errors import ConfigError
from seed.evaluation.run_facts import read_run
from seed.evaluation.run_history import MAX_SERIES, FollowedRun
from tests.support import brains, recorded_run


def test_a_run_is_known_by_its_time_heat_memory_marks_and_last_evaluation(tmp_path):
    history = FollowedRun(recorded_run.write(tmp_path)).read()
    assert (history.step, history.max_temp_c, history.max_memory_mb) == (2000, 69.51, 139)
    assert history.trained_s == pytest.approx(204.9)
    assert [tuple(unlock) for unlock in history.unlocks] == [
        (250, 2), (500, 3), (750, 4), (1000, 5), (1250, 6)]
    assert [tuple(growth) for growth in history.growths] == [(1000, 334_816)]
    assert history.grades[1].reduced(99)[-1] == (2000, 0.75)
    assert history.grades[0].reduced(99)[0] == (250, 0.5)
    assert history.bodies["cartpole"].reduced(256)[0] == (5, 25.0)
    assert history.selfplay["add_long", False].name == "add_long, level 5"
    assert history.evaluation["examples"] == recorded_run.EXAMPLES
    assert history.loss.reduced(1) == [(2000, pytest.approx(sum(
        row["loss"] for row in recorded_run.rows() if row["kind"] == "step") / 2000))]


def test_a_night_between_two_lines_is_no_training(tmp_path):
    """Nor does a clock that is set back count."""
    steps = [{"kind": "step", "step": i, "time": time_s, "loss": 1.0}
             for i, time_s in enumerate([100, 110, 40_000, 39_000, 39_005], 1)]
    history = FollowedRun(recorded_run.write(tmp_path, steps)).read()
    assert (history.trained_s, history.ended_s) == (15, 39_005)


def test_an_older_run_tells_neither_time_nor_heat(tmp_path):
    row = {"kind": "step", "step": 5, "loss": 1.0}
    history = FollowedRun(recorded_run.write(tmp_path, [row])).read()
    assert (history.ended_s, history.trained_s, history.max_temp_c) == (None, None, None)


BAD = {"kind": "eval", "step": 1}
SCORE = {"task": "copy", "level": 1, "correct": 1, "count": 2, "chance": 0.5}


@pytest.mark.parametrize("row", [
    BAD, {**BAD, "scores": [{**SCORE, "count": 0}]}, {**BAD, "scores": [{**SCORE, "correct": 3}]},
    {**BAD, "scores": [SCORE], "uniform": [5]},
    {**BAD, "scores": [{**SCORE, "chance": 2}]}, {**BAD, "scores": 5}, {**BAD, "scores": [5]},
    {**BAD, "scores": [], "returns": [{"body": "a"}]}, {**BAD, "scores": [], "board": 5},
    {**BAD, "scores": [], "elapsed_s": -1}, {**BAD, "scores": [], "elapsed_s": "1"},
    {**BAD, "scores": [], "choices": [{"body": "a", "data": "", "ticks": 1, "accuracy": "1"}]},
    {**BAD, "scores": [], "examples": [{"task": "copy", "prompt": 5}]},
    {"kind": "body", "step": 1, "body": [], "round": 1, "mean_return": 1.0},
    {"kind": "body", "step": 1, "body": "a", "round": 1, "mean_return": "high"}], ids=json.dumps)
def test_a_line_that_has_not_the_form_of_its_kind_is_none(tmp_path, row):
    history = FollowedRun(recorded_run.write(tmp_path, [row])).read()
    assert history.step == 0 and not history.evaluation and not history.bodies


def test_memory_is_bounded_whatever_names_there_are(tmp_path):
    lines = [{"kind": "body", "step": i, "body": f"b{i}", "round": 1, "mean_return": 1.0}
             for i in range(999)]
    lines += [{"kind": "selfplay", "step": i, "task": f"t{i}", "level": 1, "accept_rate": 1.0}
              for i in range(999)]
    history = FollowedRun(recorded_run.write(tmp_path, lines)).read()
    assert len(history.bodies) == len(history.selfplay) == MAX_SERIES


def test_a_brain_is_known_by_its_checkpoint_which_is_not_needed(tmp_path):
    run_dir = recorded_run.write(tmp_path / "run")
    assert read_run(run_dir).step is None
    brains.untrained(run_dir.path, "fast")
    run = read_run(run_dir)
    assert (run.name, run.profile, run.step) == ("run", "fast", 7) and run.parameters > 10_000
    run_dir.checkpoint.write_bytes(b"damaged")
    assert read_run(run_dir).profile is None
    empty = recorded_run.write(tmp_path / "empty", [])
    with pytest.raises(ConfigError, match="empty has no brain and no metrics: train one"):
        read_run(empty)
