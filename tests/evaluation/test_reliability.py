"""The intuition test, judged with brains whose mind is known: one knows, the others do not."""
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.support import brains
from seed.config import load_profile
from seed.curriculum.dataset import Dataset
from seed.curriculum.vocab import END
from seed.evaluation.exact_match import Score, agreement, evaluate, table
from seed.evaluation.reliability import answers, calibration, consistency, stability
from seed.evaluation.html_report import page
from seed.evaluation.forward_pass import ForwardByLength
from seed.wavecore.model import WaveCore, init_params

T = 96


def dataset() -> Dataset:
    profile = load_profile("toy", ["curriculum.tasks.boolean=0", "curriculum.tasks.repeat=0"])
    return Dataset(profile.curriculum, profile.identity, 0)


class Oracle:
    """Logits of one who knows every lesson; `sure` is what the right byte gets above the others."""

    def __init__(self, lessons: Dataset, sure: float = 20.0, forgets: bool = False):
        self.tasks, self.sure, self.forgets = list(lessons.tasks.values()), sure, forgets

    def next(self, text: bytes) -> int:
        lesson = text.split(bytes([END]))[-1].decode(errors="replace")
        for task in self.tasks:
            for end in range(1, len(lesson) + 1):
                if re.fullmatch(task.prompt_pattern, lesson[:end]):
                    answer = task.solve(lesson[:end]).encode() + bytes([END])
                    said = lesson[end:].encode()
                    if answer.startswith(said) and said != answer:
                        lost = self.forgets and END in text and not said
                        return ord("!") if lost else answer[len(said)]
        return 0

    def __call__(self, t: int, tokens: np.ndarray) -> np.ndarray:
        logits = np.zeros((*tokens.shape, 256), np.float32)
        for i, row in enumerate(tokens):
            used = len(bytes(row.astype(np.uint8)).rstrip(b"\0"))
            for j in range(used):
                logits[i, j, self.next(bytes(row[:j + 1].astype(np.uint8)))] = self.sure
        return logits


def test_answers_are_what_greedy_generation_gives():
    lessons = dataset()
    found = answers(Oracle(lessons), [b"12+30=", b"1011#", b"abc>"], [9, 9, 2], T)
    assert found == [b"42", b"1", b"ab"]


def test_who_knows_is_of_one_mind_and_who_is_distracted_is_not():
    lessons = dataset()
    for forgets in (False, True):
        found = consistency(lessons, Oracle(lessons, forgets=forgets), T, 3)
        assert [c.task for c in found] == list(lessons.tasks)
        assert all(0 < c.asked <= 3 and c.right <= c.same for c in found)
        if forgets:
            assert sum(c.same for c in found) == 0
        else:
            assert all(c.right == c.asked for c in found)


def test_two_brains_agree_where_they_say_the_same_right_or_wrong():
    lessons = dataset()
    items = [item for item in lessons.holdout(4) if item.task in ("parity", "compare")]

    class Stubborn(Oracle):
        """Says 1 to every parity, and knows all else."""

        def next(self, text: bytes) -> int:
            return ord("1") if text.endswith(b"#") else super().next(text)
    knows, stubborn = Oracle(lessons), Stubborn(lessons)
    even = sum(item.answer == b"0" for item in items) / len(items)
    assert 0.1 < even < 0.9
    assert agreement(items, knows, stubborn, T) == pytest.approx(1 - even)
    assert agreement(items, stubborn, stubborn, T) == 1


@pytest.mark.parametrize("sure, error", [(20.0, 0.0), (np.log(255.0), 0.5)])
def test_calibration_compares_confidence_with_being_right(sure, error):
    """Always right: at a logit of 20 it says so, at log 255 it claims only one half."""
    lessons = dataset()
    found = calibration(lessons.holdout(2), Oracle(lessons, sure), T)
    assert sum(found.count) > 100 and found.error == pytest.approx(error, abs=1e-4)
    assert found.accuracy[np.argmax(found.count)] == 1.0
    assert found.loss == pytest.approx(np.log1p(255 * np.exp(-sure)), abs=1e-6)


def test_the_loss_of_who_is_surely_wrong_is_how_sure_it_is():
    lessons = dataset()
    asked, oracle = lessons.holdout(2), Oracle(lessons, 20.0)
    found = calibration(asked, lambda t, tokens: np.roll(oracle(t, tokens), 1, -1), T)
    assert found.loss == pytest.approx(20.0, abs=1e-3) and not any(found.accuracy)


class Talker:
    """Says the same eight bytes again and again, and its state grows until it is not finite."""

    def __init__(self, grows: bool):
        self.grows, self.said = grows, 0

    def generate(self, prompt, steps, stop, temperature, seed):
        for self.said in range(steps):
            yield self.said % 8

    def state_rms(self) -> float:
        return float("inf") if self.grows and self.said > 50 else 1.0


def test_stability_sees_repetition_and_what_is_not_finite():
    calm, wild = (stability(Talker(grows), 100) for grows in (False, True))
    assert calm.finite and not wild.finite and calm.norms == [1.0] * 50
    assert calm.repetition == pytest.approx(1 - 8 / 93)


def test_an_untrained_brain_is_at_chance_in_every_task_and_level():
    profile = load_profile("fast")
    lessons = Dataset(profile.curriculum, profile.identity, 0)
    items = lessons.holdout(64) + lessons.extrapolation(32)
    assert len(items) > 4000
    for params in (init_params(profile.model, 0), brains.weights(profile)):
        scores = evaluate(items, lessons, ForwardByLength(WaveCore(profile.model, params, 2)), 128)
        assert len(scores) == len({(i.task, i.level) for i in items})
        for score in scores:
            assert score.interval[0] <= score.chance, score


def test_eval_reports_in_the_terminal_as_json_and_as_one_page(tmp_path):
    brains.untrained(tmp_path, "fast", "curriculum.holdout_items=2", "train.seq_len=64",
                     "curriculum.tasks.recall=0", "curriculum.tasks.story=0")

    exams = [{"kind": "curriculum", "step": step, "accuracy": {"copy": [step / 500], "add": [0.5]}}
             for step in (250, 500)]
    played = [{"kind": "selfplay", "step": step, "task": "add_long", "level": 4, "accept_rate": 0.25,
               "agreement": 1.0, "entropy": 0.1, "ended": 64} for step in (100, 200)]
    heard = [{"kind": "teacher", "step": 20, "accepted": 3, "replies": {"accepted": 3, "wrong": 1}}]
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(map(json.dumps, [*exams, *played, *heard])) + '\n{"kind": "ex')

    def evaluate(*more: str) -> str:
        done = subprocess.run([sys.executable, "-m", "seed", "eval", "--run-dir", str(tmp_path),
                               *more], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout
    found = json.loads(evaluate("--json"))
    assert found["step"] == 7 and found["holdout"] and found["extrapolation"]
    assert found["stability"]["steps"] == 2000 and found["stability"]["finite"]
    assert (found["curriculum"], found["rounds"], found["teacher"]) == (exams, played, heard)
    assert "calibration error" in evaluate("--html", str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert text == page(found)
    assert "http" not in text and "<script" not in text   # it needs nothing else

    class Tags(HTMLParser):
        seen: list = []

        def handle_starttag(self, tag, attrs):
            self.seen.append(tag)
    Tags().feed(text)
    assert Tags.seen.count("svg") == 6 and "grade 3" in text and Tags.seen.count("rect") > 30
    assert "add_long, level 4" in text and "<td>wrong</td><td>1</td><td>25.0</td>" in text


def test_a_page_shows_names_as_text():
    score = {"task": "<b>", "level": 1, "accuracy": 0.5, "interval": (0.4, 0.6), "chance": 0.1}
    text = page({"profile": "<i>", "step": 1, "holdout": [score], "extrapolation": [],
                 "curriculum": [], "rounds": [], "teacher": [], "consistency": [],
                 "losses": [[250, 2.0], [500, 1.0]],
                 "growth": [{"step": 250, "parameters": [234680, 334816]}],
                 "ladder": [{"rung": "<u>", "peak_mb": 250.0, "predicted_mb": 240.0,
                             "tokens_s": fast, "fault": fault}
                            for fast, fault in ((None, "<s>"), (9000.0, ""))],
                 "calibration": {"count": [1], "confidence": [1.0], "accuracy": [1.0],
                                 "error": 0.0, "loss": 0.0},
                 "stability": {"steps": 1, "finite": False, "norms": [], "repetition": 0.0}})
    assert not {"<b>", "<i>", "<u>", "<s>"} & set(re.findall("<.>", text)) and "&lt;b&gt;" in text
    assert "no speed. &lt;s&gt;" in text and "9,000 tokens/s. stable" in text
    assert "step 250: 334,816 parameters" in text


def test_a_table_has_a_line_for_each_task_and_for_each_level_if_wanted():
    scores = [Score("add", 1, 3, 4, 0.1), Score("add", 2, 1, 4, 0.1), Score("copy", 1, 4, 4, 0.0)]
    full, short = ([line.split()[:3] for line in table(scores, levels).splitlines()[1:]]
                   for levels in (True, False))
    assert full == [["add", "1", "75.0"], ["add", "2", "25.0"], ["add", "all", "50.0"],
                    ["copy", "1", "100.0"]]
    assert short == full[2:]
