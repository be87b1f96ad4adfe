"""The tasks of the experiment on states, beside Python's own arithmetic."""
import random
from collections import Counter

import pytest

from seed.curriculum.user_tasks import UserTask
from seed.experiments import state_tasks, state_tracking
from seed.experiments.state_tasks import LENGTHS, Bracketed, EvenPairs

N = 2000


def bracket_before(text: str, end: int) -> str:
    """The expression in brackets that closes at `end`."""
    start, depth = end - 1, 1
    while depth:
        start -= 1
        depth += {"(": -1, ")": 1}.get(text[start], 0)
    return text[start:end]


@pytest.mark.parametrize("level", range(1, len(LENGTHS) + 1))
def test_values_of_brackets_are_those_of_python(level):
    rng, task = random.Random(level), Bracketed()
    for _ in range(N // level):
        prompt, answer, inside = task.generate(rng, level)
        low, high = LENGTHS[level - 1]
        assert low <= len(prompt) - 1 <= high
        assert answer == str(eval(prompt[:-1]) % 5)
        assert len(inside["labels"]) == prompt[:-2].count(")")
        for end, value in inside["labels"]:
            assert value == str(eval(bracket_before(prompt, end)) % 5)


def test_labels_of_even_pairs_are_the_answers_so_far():
    rng, task = random.Random(0), EvenPairs()
    for _ in range(N):
        prompt, answer, inside = task.generate(rng, 2)
        pairs = Counter(prompt[i:i + 2] for i in range(len(prompt) - 2))
        assert answer == "FT"[(pairs["ab"] + pairs["ba"]) % 2 == 0]
        for end, label in inside["labels"]:
            assert label == task.solve(prompt[:end])


@pytest.mark.parametrize("task", [EvenPairs(), Bracketed()], ids=lambda task: type(task).__name__)
def test_no_constant_answer_beats_the_chance_level(task):
    for level in range(1, task.levels + 1):
        rng = random.Random(level)
        answers = Counter(task.generate(rng, level)[1] for _ in range(N))
        share = max(answers.values()) / N
        assert task.chance(level) - 0.1 < share < task.chance(level) + 0.02


@pytest.mark.parametrize("task", state_tracking.CLASSES)
def test_a_class_is_a_task_with_levels_beyond(task):
    loaded = UserTask(state_tracking.task_name(task))
    assert loaded.stepwise and list(loaded.extrapolation_levels) == [4]
    item = loaded.generate(random.Random(3), 4)
    assert len(item.prompt) > 40 and loaded.verify(item.prompt, item.answer)
    assert not loaded.verify(item.prompt, item.answer + b"0")
    assert state_tasks.__file__ in loaded.name
