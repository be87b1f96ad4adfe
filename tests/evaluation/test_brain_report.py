"""All results of one brain: as data, as text, and as one page."""
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from seed.curriculum.vocab import END
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain, evaluate_brain
from seed.evaluation.brain_report import text_summary
from seed.evaluation.html_report import page
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


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)


def test_results_have_scores_reliability_and_the_history_of_the_run(results):
    assert results["step"] == 7 and results["holdout"] and results["extrapolation"]
    assert results["stability"]["steps"] == 2000 and results["stability"]["finite"]
    assert results["history"] == {"loss": [], "curriculum": CURRICULUM, "grow": [],
                                  "selfplay": SELFPLAY, "teacher": TEACHER}
    assert results["size_search"] == []


def test_the_text_names_each_result_in_plain_words(results):
    text = text_summary(results)
    assert "calibration: expected error" in text and "stability: 2000 bytes of free run" in text
    assert "consistency: the same answer after every history to" in text
    assert re.search(r"^copy +all ", text, re.MULTILINE)


def test_the_page_needs_nothing_else_and_has_a_plot_for_each_result(results):
    text = page(results)
    assert "http" not in text and "<script" not in text
    tags = Tags(text).seen
    assert tags.count("svg") == 6 and "grade 3" in text and tags.count("rect") > 30
    assert "add_long, level 4" in text and "<td>wrong</td><td>1</td><td>25.0</td>" in text


def test_a_page_of_user_tasks_alone_is_drawn(results):
    """They have no grade."""
    rows = [{"step": 250, "accuracy": {"items.jsonl": [0.5]}, "passed": []}]
    text = page({**results, "history": {**results["history"], "curriculum": rows}})
    assert "your tasks" in text and "grade 1" not in text


def test_a_page_shows_names_as_text():
    score = {"task": "<b>", "level": 1, "accuracy": 0.5, "interval": (0.4, 0.6), "chance": 0.1}
    text = page({
        "profile": "<i>", "step": 1, "holdout": [score], "extrapolation": [], "selfplay": [],
        "consistency": [],
        "history": {"loss": [[250, 2.0], [500, 1.0]], "curriculum": [], "selfplay": [],
                    "teacher": [], "grow": [{"step": 250, "parameters": [234680, 334816]}]},
        "size_search": [{"size": "<u>", "peak_mb": 250.0, "predicted_mb": 240.0,
                         "tokens_s": tokens_s, "fault": fault}
                        for tokens_s, fault in ((None, "<s>"), (9000.0, ""))],
        "calibration": {"count": [1], "confidence": [1.0], "accuracy": [1.0], "error": 0.0,
                        "loss": 0.0},
        "stability": {"steps": 1, "finite": False, "state_rms": [], "repetition": 0.0}})
    assert not {"<b>", "<i>", "<u>", "<s>"} & set(re.findall("<.>", text)) and "&lt;b&gt;" in text
    assert "speed unknown. &lt;s&gt;" in text and "9,000 tokens/s. stable" in text
    assert "step 250: 334,816 parameters" in text


def test_a_number_of_items_out_of_range_is_refused(run_dir):
    for n in (0, 100_001):
        with pytest.raises(ConfigError, match=f"--items is {n}: use 1 to 100000"):
            evaluate_brain(run_dir, n_items=n)


def test_a_trained_brain_generates_the_same_text_from_the_same_seed(run_dir):
    brain = TrainedBrain.load(run_dir)
    first = brain.generate("12+30=", 20, 1.0, seed=3)
    assert brain.generate("12+30=", 20, 1.0, seed=3) == first
    assert (brain.step, brain.profile.name) == (7, "fast")
    assert np.isfinite(brain.forward(32, np.zeros((16, 32), np.int32))).all()


def test_many_greedy_answers_equal_those_to_one_prompt_at_a_time(run_dir):
    brain = TrainedBrain.load(run_dir)
    prompts = [f"{i}+{7 * i}=".encode() for i in range(60)]   # more than are answered at once
    expected = []
    for prompt in prompts:
        brain.decoder.reset()
        expected.append(bytes(brain.decoder.generate(prompt, 9, END)))
    assert brain.greedy_answers(prompts, 9) == expected and len(set(expected)) > 1
