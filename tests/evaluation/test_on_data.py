"""A brain, and its exported file, on recorded prompts and answers and on recorded choices."""
import json

import pytest

from seed.__main__ import main
from seed.body.episodes import EpisodeFolder
from seed.curriculum.task import is_holdout
from seed.errors import BAD_INPUT, ConfigError
from seed.evaluation.on_data import (exported_on_data, on_episodes, on_items, table,
                                     trained_on_data)
from seed.storage import RunDir
from tests.support import recorded, simple_bodies
from tests.support.acting_brains import file_of, untrained, untrained_for
from tests.support.rules import rule, small_brain


def NO_QUESTIONS(prompt): raise AssertionError


@pytest.fixture
def trained():
    return untrained_for({"target": simple_bodies.Target})


class Signs:
    """Acts by the sign of what it sees, as was recorded; notes what it is told."""

    def __init__(self, name: str):
        self.name, self.taken, self.begun = name, [], 0

    def begin(self):
        self.begun += 1

    def choose(self, observation):
        return [int(observation[0] > 0)]

    def take(self, choices):
        self.taken.append(list(choices))


def test_an_answer_is_right_if_it_is_the_recorded_one_and_ends(tmp_path):
    data = rule(tmp_path / "rule.jsonl", "?")
    prompts = [f"{i}?".encode() for i in range(10, 50)]
    held_out = sum(map(is_holdout, prompts))
    rows = on_items(data, lambda prompts, max_bytes: [prompt[:-1] for prompt in prompts],
                    NO_QUESTIONS)
    assert [tuple(row) for row in rows] == [("all", 40, 40), ("held out", held_out, held_out)]
    rows = on_items(data, lambda prompts, max_bytes: [b"10" + max_bytes * b"x"] + [
        prompt[:-1] for prompt in prompts[1:]], NO_QUESTIONS)   # it never ends
    assert rows[0].correct == 39 and rows[0].to_dict()["accuracy"] == 39 / 40
    assert "97.5" in table(rows)


def test_choices_are_compared_tick_by_tick_with_the_recorded_ones_before(tmp_path, trained):
    data, choosers = recorded.recorded(tmp_path / "data", 4, 5), []

    def chooser(name):
        choosers.append(Signs(name))
        return choosers[-1]
    codecs = {"target": trained.bodies["target"].codec}
    row, = on_episodes(data, codecs, chooser)
    assert (row.correct, row.n) == (20, 20) and choosers[0].begun == 4
    steps = [step.choices for step in EpisodeFolder(data).steps() if step.choices]
    assert choosers[0].taken == steps
    with pytest.raises(ConfigError, match="this brain has no body target"):
        on_episodes(data, {"a": codecs["target"], "b": codecs["target"]}, chooser)


def test_a_brain_and_its_file_get_the_same_right(tmp_path, trained):
    data = recorded.recorded(tmp_path / "data", 4, 5)
    rule(tmp_path / "rule.jsonl", "?", range(10, 14))   # also of few
    brain = file_of(trained, tmp_path)
    for path in (data, tmp_path / "rule.jsonl"):
        assert trained_on_data(trained, str(path)) == exported_on_data(brain, str(path))
    assert trained_on_data(trained, str(data))[0].n == 20


def test_the_command_takes_a_run_directory_or_a_file(tmp_path, capsys):
    run_dir = small_brain(tmp_path / "brain")
    data = rule(tmp_path / "rule.jsonl", "?")
    file_of(untrained(), tmp_path)
    for words in ([f"--run-dir={run_dir}"], [str(tmp_path / "brain.tflite")]):
        assert main(["eval", f"--data={data}", "--json", *words]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["what"] for row in rows] == ["all", "held out"] and rows[0]["n"] == 40
    assert main(["eval", f"--data={data}", f"--run-dir={run_dir}"]) == 0
    assert capsys.readouterr().out.startswith("recorded ")


@pytest.mark.parametrize("words, message", [
    (["--data=rule.csv"], "--data is 'rule.csv': use items.jsonl, notes.txt or a directory"),
    (["--data=task.py:Task"], "--data is 'task.py:Task'"), (["--data=no.jsonl"], "No such file"),
    (["--data=a.jsonl", "--items=3"], "leave out --data"),
    ([], "is a file: an exported one is evaluated on --data")])
def test_what_cannot_be_evaluated_is_one_line(tmp_path, capsys, words, message):
    run_dir: RunDir = small_brain(tmp_path / "brain")
    path = run_dir.path if words else run_dir.checkpoint
    assert main(["eval", str(path), *words]) == BAD_INPUT
    assert message in capsys.readouterr().err.splitlines()[-1]
