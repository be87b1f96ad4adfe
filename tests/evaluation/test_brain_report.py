"""All results of one brain: as data, as text, and as one page."""
import json
import re
from statistics import fmean

import numpy as np
import pytest

from seed.curriculum.vocab import END
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain, evaluate_brain
from seed.evaluation.brain_report import text_summary
from seed.evaluation.exact_match import Score, mean_of_levels
from seed.evaluation.html_report import page
from seed.evaluation.run_facts import read_run
from seed.storage import RunDir
from tests.support import brains

CURRICULUM = [{"kind": "curriculum", "step": step,
               "accuracy": {"copy": [step / 500], "add": [0.5]}} for step in (250, 500)]
SELFPLAY = [{"kind": "selfplay", "step": step, "task": "add_long", "level": 4, "accept_rate": 0.25,
             "agreement": 1.0, "entropy": 0.1, "ended": 64} for step in (100, 200)]
TEACHER = [{"kind": "teacher", "step": 20, "accepted": 3, "replies": {"accepted": 3, "wrong": 1}}]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> RunDir:
    run_dir = RunDir(tmp_path_factory.mktemp("brain"))
    brains.untrained(run_dir.path, "fast", "curriculum.holdout_items=2", "train.seq_len=64",
                     "curriculum.tasks.recall=0", "curriculum.tasks.story=0")
    run_dir.metrics.write_text("\n".join(map(json.dumps, [*CURRICULUM, *SELFPLAY, *TEACHER]))
                               + '\n{"kind": "ex')
    return run_dir


@pytest.fixture(scope="module")
def results(run_dir) -> dict:
    return json.loads(json.dumps(evaluate_brain(run_dir)))


def test_results_have_scores_examples_and_reliability(results):
    assert results["step"] == 7 and results["holdout"] and results["extrapolation"]
    assert results["stability"]["steps"] == 2000 and results["stability"]["finite"]
    sure = results["confidence"]
    assert [row["task"] for row in sure["tasks"]][:3] == ["copy", "repeat", "identity"]
    assert sure["all"]["answers"] == sure["holdout"]["answers"] + sure["extrapolation"]["answers"]
    assert sure["extrapolation"]["answers"] > 20 and results["loss"] > 1
    assert 0 < sure["all"]["wrong_confidence"] < 0.5
    copies = [row for row in results["examples"] if row["task"] == "copy"]
    assert [row["level"] for row in copies] == [1, 2, 3]
    assert all(row["prompt"].startswith(row["right"]) for row in copies)


def test_the_text_names_each_result_in_plain_words(results):
    text = text_summary(results)
    assert re.search(r"^extrapolation +\d+ ", text, re.MULTILINE)
    assert "calibration: expected error" in text and "stability: 2000 bytes of free run" in text
    assert "consistency: the same answer after every history to" in text
    for name in ("mean", "uniform"):
        assert re.search(rf"^copy +{name} ", text, re.MULTILINE)
    last = text[text.index("exact % (guessing %)"):].splitlines()
    assert last[0].split()[4:] == "mean of levels hardest level uniform draw".split()
    names = [*results["summary"]["tasks"], "all"]
    assert [line.split()[0] for line in last[1:1 + len(names)]] == names


def test_results_have_three_scores_of_each_task_and_of_all(results):
    uniform = {row["task"]: row for row in results["uniform"]}
    last = {row["task"]: row for row in results["holdout"]}   # of each task
    assert uniform.keys() == last.keys() == results["summary"]["tasks"].keys()
    assert {row["level"] for row in uniform.values()} == {0} and uniform["add"]["count"] == 6
    for task, scores in results["summary"]["tasks"].items():
        assert scores["uniform_draw"]["accuracy"] == uniform[task]["accuracy"]
        assert scores["hardest_level"]["accuracy"] == last[task]["accuracy"]
    means = results["summary"]
    assert means["uniform_draw"]["chance"] == pytest.approx(fmean(
        row["chance"] for row in uniform.values()))
    assert means["mean_of_levels"]["chance"] == pytest.approx(fmean(
        row["chance"] for row in results["holdout"]))


def test_results_of_an_older_version_are_a_text_and_a_page_without_uniform_draws(run_dir, results):
    older = {name: value for name, value in results.items() if name not in ("uniform", "summary")}
    text, html = text_summary(older), page(read_run(run_dir), older)
    assert re.search(r"^all .* -$", text, re.MULTILINE) and "uniform  " not in text
    assert "<dt>right, uniform draws</dt><dd>unknown</dd>" in html


def test_the_page_of_an_evaluation_has_all_of_it_beside_the_history_of_the_run(run_dir, results):
    text = page(read_run(run_dir), results)
    assert "http" not in text and "<script" not in text
    titles = re.findall("<h2>([^<]*)</h2>", text)
    assert titles == ["How it went", "What it knows", "Longer than it was trained on",
                      "Consistency", "Confidence", "Stability", "Teacher"]
    assert text.count('class="plot"') == 4 and "add_long, level 4" not in text
    assert text.count("<details>") > 30 and "NOT FINITE" not in text
    scores = [Score.from_dict(row) for row in results["holdout"]]
    assert f"{100 * mean_of_levels(scores).accuracy:.1f}\u00a0%" in text


def test_a_page_tells_of_a_free_run_that_is_not_finite(run_dir, results):
    stability = {"steps": 1, "finite": False, "state_rms": [], "repetition": 0.0}
    text = page(read_run(run_dir), {**results, "stability": stability})
    assert "NOT FINITE" in text and text.count('class="plot"') == 3


def test_a_number_of_items_out_of_range_is_refused(run_dir):
    for n in (0, 100_001):
        with pytest.raises(ConfigError, match=f"--items is {n}: use 1 to 100000"):
            evaluate_brain(run_dir, n_items=n)


def test_a_trained_brain_generates_the_same_text_from_the_same_seed(run_dir):
    brain = TrainedBrain.load(run_dir)
    first = brain.generate("12+30=", 20, 1.0, seed=3)
    assert brain.generate("12+30=", 20, 1.0, seed=3) == first
    assert (brain.step, brain.profile.name) == (7, "fast")
    assert np.isfinite(brain.forward(np.zeros(9, np.uint8), np.array([0, 2, 9]))).all()


def test_many_greedy_answers_equal_those_to_one_prompt_at_a_time(run_dir):
    brain = TrainedBrain.load(run_dir)
    prompts = [f"{i}+{7 * i}=".encode() for i in range(60)]   # more than are answered at once
    expected = []
    for prompt in prompts:
        brain.decoder.reset()
        expected.append(bytes(brain.decoder.generate(prompt, 9, END)))
    assert brain.greedy_answers(prompts, 9) == expected and len(set(expected)) > 1
