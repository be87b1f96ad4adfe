"""Uniform draws from all that a task states: what is drawn how often, and what is measured."""
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

import pytest

from seed.curriculum.dataset import samples
from seed.curriculum.task import STATED_LEVEL, Item, Task
from seed.curriculum.tasks import NAMES
from seed.curriculum.vocab import decode
from seed.rng import Stream, dice
from tests.support.items import dataset_of, is_held_out

DATASET = dataset_of()
N_DRAWS = 3000
# Of the items that are measured: with another hash, older scores are of something else.
GOLDEN = "b36e6c650291"


def numbers(prompt: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", prompt)]


def backwards(prompt: str) -> list[int]:
    """Of numbers with their least significant digit first."""
    return [int(digits[::-1]) for digits in re.findall(r"\d+", prompt)]


def steps(prompt: str) -> list[int]:
    first, second, _ = numbers(prompt)
    return [second - first]


def smallest(prompt: str) -> list[int]:
    """Of the terms of a count that are asked for and given."""
    first, second, _ = numbers(prompt)
    return [min(first, first + 5 * (second - first)) // 25]


def kind_of_next(prompt: str) -> list[str]:
    return ["letters" if prompt[0].isalpha() else "numbers"]


def n_terms(prompt: str) -> list[int]:
    return [prompt.count(",") + 1]


def tenths(end: int, numbers_fn: Callable[[str], list[int]] = numbers) -> Callable:
    return lambda prompt: [10 * number // end for number in numbers_fn(prompt)]


def length(prompt: str) -> list[int]:
    return [len(prompt) - 1]


def people_and_events(prompt: str) -> list[tuple[int, int]]:
    people = {name for name, _ in re.findall(r"(\w+) has (\d+)", prompt)}
    return [(len(people), len(re.findall("finds|loses|gives", prompt)))]


def depth(prompt: str) -> list[int]:
    return [max(prompt[:i].count("(") - prompt[:i].count(")") for i in range(len(prompt)))]


def cells(prompt: str) -> list[int]:
    """Of walls; rows are five."""
    rows = prompt[:-1].split("/")
    assert [len(row) for row in rows] == 5 * [5]
    return [prompt.count("#")]


# What is in a prompt, and what it is, each equally likely, or as often as is said.
STATED: list[tuple[str, Callable[[str], list], Sequence]] = [
    ("copy", length, range(3, 13)), ("repeat", length, range(3, 7)),
    ("count", steps, [*range(-25, 0), *range(1, 26)]), ("count", smallest, range(10)),
    ("next", kind_of_next, ["letters", *4 * ["numbers"]]),
    ("missing", n_terms, [4, 5, 6, 5, 6, 7]),
    ("add", tenths(1000), range(10)), ("subtract", tenths(1000), range(10)),
    ("compare", tenths(1000), range(10)),
    ("sort", n_terms, (3, 4, 5)), ("sort", numbers, range(100)),
    ("parity", length, range(3, 41)), ("parity", lambda prompt: [*prompt[:-1]], "01"),
    ("modular", lambda prompt: [len(numbers(prompt))], range(2, 21)),
    ("modular", numbers, range(10)), ("cycle", length, range(3, 41)),
    ("boolean", lambda prompt: [len(re.findall("[TF]", prompt))], range(3, 17)),
    ("add_long", tenths(10 ** 10, backwards), range(10)),
    ("multiply", tenths(10_000, lambda prompt: backwards(prompt)[:1]), range(10)),
    ("multiply", lambda prompt: backwards(prompt)[1:], range(10)),
    ("assign", lambda prompt: [prompt.count(",")], range(2, 9)),
    ("recall", lambda prompt: [prompt.count(",")], range(2, 21)),
    ("story", people_and_events, [*product((1, 2), (1, 2, 3, 4))]),
    ("brackets", length, range(2, 21)), ("nested", depth, range(1, 5)), ("grid", cells, range(7))]


def test_every_task_that_states_something_is_measured_here():
    named = {name for name, _, _ in STATED}
    for name in {*NAMES} - named:
        task = DATASET.tasks[name]
        assert not task.stated_levels and type(task).sample_stated is Task.sample_stated, name
    assert len(named) > 20


@pytest.mark.parametrize("name, values_fn, stated", STATED)
def test_what_a_task_states_is_drawn_uniformly(name, values_fn, stated):
    """By Pearson's statistic, five standard deviations above its mean at most."""
    task, rng = DATASET.tasks[name], random.Random(0)
    items = [task.generate_stated(rng) for _ in range(N_DRAWS)]
    assert all(item.level == STATED_LEVEL and task.verify(item.prompt, item.answer)
               for item in items)
    counts = Counter(value for item in items for value in values_fn(decode(item.prompt)))
    shares = Counter(stated)
    assert counts.keys() == shares.keys()
    expected = {value: counts.total() * share / len(stated) for value, share in shares.items()}
    chi2 = sum((counts[value] - n) ** 2 / n for value, n in expected.items())
    freedom = len(expected) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5, counts


def test_operands_are_independent_and_any_pair_of_tenths_is_as_likely():
    task, rng = DATASET.tasks["add"], random.Random(0)
    pairs = Counter(tuple(tenths(1000)(task.sample_stated(rng))) for _ in range(20_000))
    assert len(pairs) == 100 and 130 < min(pairs.values()) and max(pairs.values()) < 270


def test_the_larger_number_is_first_and_no_bracket_is_too_deep():
    task, rng = DATASET.tasks["subtract"], random.Random(0)
    pairs = [numbers(task.sample_stated(rng)) for _ in range(1000)]
    assert all(high >= low for high, low in pairs)
    brackets = [DATASET.tasks["brackets"].generate_stated(rng) for _ in range(1000)]
    assert 1 == min(len(item.answer) for item in brackets)
    assert 8 == max(len(item.answer) for item in brackets)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return DATASET.stated(20)


def test_what_is_measured_is_held_out_distinct_right_and_as_much_as_the_levels_have(items):
    assert len(set(items)) == len(items) and {item.level for item in items} == {STATED_LEVEL}
    assert all(is_held_out(DATASET, item.prompt) for item in items)
    assert all(DATASET.tasks[item.task].verify(item.prompt, item.answer) for item in items)
    assert not {item.prompt for item in items} & {item.prompt for item in samples(DATASET, 200)}
    n_stated, n_levels = (Counter(item.task for item in drawn)
                          for drawn in (items, DATASET.holdout(20)))
    assert [*n_stated] == [*NAMES] and n_stated["add"] == n_levels["add"] == 60
    for name, task in DATASET.tasks.items():
        assert n_levels[name] <= n_stated[name] + 1 and n_stated[name] <= 20 * len(task.levels)


def test_what_is_measured_is_the_same_for_every_seed_and_always_was(items):
    assert dataset_of(5).stated(20) == items
    named = {name for name, _, _ in STATED}
    digest = hashlib.blake2b(b"".join([item.prompt + item.answer for item in items
                                       if item.task in named]), digest_size=6)
    assert digest.hexdigest() == GOLDEN


@pytest.mark.parametrize("n", [16, 400])
def test_no_constant_answer_beats_the_chance_of_a_uniform_draw(n):
    answers: dict[str, list[bytes]] = {}
    for item in DATASET.stated(n):
        answers.setdefault(item.task, []).append(item.answer)
    for name, given in answers.items():
        chance = DATASET.chance(name, STATED_LEVEL)
        best = Counter(given).most_common(1)[0][1] / len(given)
        noise = (chance * (1 - chance) / len(given)) ** 0.5
        assert best <= chance + 4 * noise + 2 / len(given), name
        assert best == pytest.approx(chance) or not DATASET.tasks[name].answers


class Levels(Task):
    """As a class of a user: it generates, and states nothing."""
    name, chance_levels = "levels", (0.5, 0.25, 0.0)

    def generate(self, rng: random.Random, level: int) -> Item:
        return Item(self.name, level, b"%d" % level, b"")


def test_a_task_that_states_nothing_is_drawn_from_its_levels_each_as_likely():
    task, rng = Levels(), dice(0, Stream.STATED, 0)
    drawn = Counter(task.generate_stated(rng) for _ in range(3000))
    assert {item.level for item in drawn} == {STATED_LEVEL} and task.chance(STATED_LEVEL) == 0.25
    assert len(drawn) == 3 and all(900 < n < 1100 for n in drawn.values())
