"""Questions in other words: each reads back as its canonical prompt, has that prompt's answer, and
nothing of a holdout is trained in other words."""
import random
import re

import pytest

from seed.curriculum.asked import Asked
from seed.curriculum.task import is_holdout
from seed.curriculum.vocab import encode
from seed.curriculum.wording import (ALL, PLAIN, WORDED, answer_of, canonical, ends_clearly, normal,
                                     reading, worded)
from seed.errors import ConfigError
from tests.support.items import dataset_of

DATASET = dataset_of()
ASKED = DATASET.tasks["asked"]
NAMES = [f"{wordings.task} {wordings.prompt}" for wordings in ALL]


@pytest.mark.parametrize("wordings", ALL, ids=NAMES)
def test_every_template_makes_texts_that_read_back_as_the_prompt(wordings):
    rng, task = random.Random(1), DATASET.tasks[wordings.task]
    for table in (PLAIN, WORDED):
        for template in table[wordings]:
            n_read = 0
            for i in range(20):
                prompt = wordings.sample(rng, task, 1 + i % len(task.levels))
                match = re.fullmatch(wordings.pattern, prompt, re.ASCII)
                text = re.sub(r"{(\w+)(:\w+)?}", lambda field: wordings.forms[
                    field[0][1:-1]].write(match[field[1]]), template.text)
                n_read += canonical(text + (template.closing or "")) == (wordings.task, prompt)
            # Letters and numbers have templates of their own; ?, may be a gap or the next term.
            assert n_read == 20 or wordings.task in ("next", "missing") and n_read >= 3, template


@pytest.mark.parametrize("wordings", ALL, ids=NAMES)
@pytest.mark.parametrize("is_plain", [True, False])
def test_what_is_written_reads_back_whatever_its_spaces_and_capitals(wordings, is_plain):
    rng, task, texts = random.Random(2), DATASET.tasks[wordings.task], set()
    for i in range(150):
        prompt = wordings.sample(rng, task, 1 + i % 2)
        text = worded(rng, wordings, prompt, is_plain)
        if text:
            assert canonical(text) == (wordings.task, prompt)
            assert canonical(text.upper()) == canonical(f"  {text} ") == (wordings.task, prompt)
            texts.add(text)
    assert len(texts) > 40


def test_answers_are_those_of_the_canonical_prompts(asked_items):
    for item in asked_items:
        name, prompt = canonical(item.prompt.decode())
        assert item.answer == encode(DATASET.tasks[name].solve(prompt)) != b""
        if DATASET.tasks[name].answer_to(prompt):
            assert DATASET.tasks[name].verify(prompt.encode(), item.answer)


@pytest.fixture(scope="module")
def asked_items():
    """Of both sides of the holdout."""
    rng = random.Random(3)
    return [ASKED.generate(rng, level) for level in ASKED.levels for _ in range(1000)]


def test_nothing_of_a_holdout_is_trained_in_other_words(asked_items):
    trained = [item for item in asked_items if not ASKED.is_held_out(item.prompt)]
    assert len(trained) > len(asked_items) / 2
    for item in trained:
        assert not is_holdout(encode(canonical(item.prompt.decode())[1])), item


def test_some_wordings_of_every_task_are_never_trained_and_are_evaluated():
    rng = random.Random(4)
    for wordings in ALL:
        for table in (PLAIN, WORDED):
            held_out = [template for template in table[wordings] if template.held_out]
            assert 0 < len(held_out) < len(table[wordings]) / 3
    for level in ASKED.levels:
        items = [DATASET.draw(rng, ASKED, level, holdout) for holdout in (False, True)
                 for _ in range(300)]
        held_out = [reading(item.prompt.decode()).held_out for item in items]
        assert not any(held_out[:300]) and sum(held_out[300:]) > 120


def test_easy_items_are_shorter_than_those_of_the_middle_levels(asked_items):
    easy, middle = ([len(item.prompt) for item in asked_items if item.level == level]
                    for level in (2, 3))
    assert sum(easy) < 0.9 * sum(middle)


@pytest.mark.parametrize("text, answer", [
    ("12 + 39 =", "51"), ("12+39=?", "51"), ("What is 12+39?", "51"), ("add 12 and 39", "51"),
    ("how much is 12 plus 39", "51"), ("51 minus 39", "12"), ("5-9=", "-4"), ("-3+5=", "2"),
    ("6*7=", "42"), ("what is 6 times 7?", "42"), ("6 x 7", "42"), ("is 12 less than 39?", "T"),
    ("12 < 39?", "T"), ("is 39 less than 12?", "F"), ("sort 7 31 5", "5,7,31"),
    ("what comes next: 3, 6, 9, 12", "15"), ("say abc", "abc"), ("say abc twice", "abcabc"),
    ("parity of 10110", "1"), ("7 + 4 * 2 % =", "0"), ("true and not false", "T"),
    ("a = 3, b = a + 4, b = ?", "7"), ("k is ab, f is qz. what is k?", "ab"),
    ("Bob has 3. Ann has 5. Ann gives Bob 2. How many does Bob have?", "5"), ("close ([]{(", ")})"),
    ("which way: R.., .#., ..G?", "EESS"), ("robot, what is 12+39??", "51"),
    ("right, right, left. where am I?", "1"), ("4, 8, ?, 16, which number is missing?", "12")])
def test_what_a_person_types_is_answered(text, answer):
    assert answer_of(text, DATASET.tasks) == answer


@pytest.mark.parametrize("text", [
    "sayabc", "what is 12 + ?", "sort", "say", "say abc thrice", "12 + 39 + 1 =", "6/7=",
    "12+39=", "１２+39=?", "parity of 102", "what is\u00a0\u212a?", "x" * 600, ""])
def test_what_is_in_no_known_words_is_not_asked(text):
    assert ASKED.answer_to(text) == ""


def test_without_a_mark_numbers_are_as_long_as_each_other():
    """Otherwise the first digit of the answer may be one more of the question."""
    assert ends_clearly("add 12 and 39") and ends_clearly("what is 5 + 12?")
    assert not ends_clearly("what is 5 + 12") and not ends_clearly("sort 7 31 5 ")


def test_normal_texts_have_no_capitals_and_no_spaces_at_marks():
    assert normal("  What  IS 12 +\n39 ?") == "what is 12+39?"
    assert normal("a" * 513) == normal("é") == ""


def test_a_mixture_without_tasks_to_ask_about_is_refused():
    for name in ("asked", "unknown"):
        with pytest.raises(ConfigError, match=f"{name} asks what other tasks .*add = 1.0, or"):
            dataset_of(**{name: 1.0})
    alone = dataset_of(add=1.0, asked=1.0)
    assert {canonical(item.prompt.decode())[0] for item in alone.holdout(50)
            if item.task == "asked"} == {"add"}
    assert isinstance(alone.tasks["asked"], Asked)
