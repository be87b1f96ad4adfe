"""What no task knows: no task answers it, much of it is close to what one answers, and identity."""
import random
import re
from collections import Counter
from difflib import SequenceMatcher

import pytest

from seed.curriculum.small_talk import HELD_OUT_WORDS
from seed.curriculum.task import UNKNOWN
from seed.curriculum.unknown import BEGINNING
from seed.curriculum.vocab import decode, encode
from seed.curriculum.wording import answer_of, canonical, reading
from seed.curriculum.words import Identity, typos
from seed.profile_file import load_profile
from tests.support.items import dataset_of

DATASET = dataset_of()
TASK = DATASET.tasks["unknown"]
OTHERS = {name: task for name, task in DATASET.tasks.items() if name != "unknown"}
IDENTITY = Identity(load_profile("toy").identity)


@pytest.fixture(scope="module")
def items():
    rng = random.Random(1)
    return [TASK.generate(rng, level) for level in TASK.levels for _ in range(1000)]


def test_no_task_has_an_answer_in_its_own_or_in_other_words(items):
    for item in items:
        text = decode(item.prompt)
        assert item.answer == encode(UNKNOWN)
        for task in OTHERS.values():
            assert task.answer_to(text) == "", (task.name, text)
        found = canonical(text)
        assert found is None or OTHERS[found[0]].solve(found[1]) == "", text


def test_it_is_right_exactly_if_no_task_has_an_answer():
    rng = random.Random(2)
    for task in DATASET.tasks.values():
        for level in task.levels:
            for _ in range(10):
                prompt = task.generate(rng, level).prompt
                assert TASK.verify(prompt, encode(UNKNOWN)) == (task is TASK)
    assert not TASK.verify(b"hi there!", b"I do not know.") and not TASK.verify(b"  ", b"")


def test_most_of_what_is_malformed_or_has_no_answer_is_close_to_what_has_one(items):
    rng, close = random.Random(3), 0
    malformed = [decode(item.prompt) for item in items if item.level == 2][:60]
    for text in malformed:
        edits = [text[:i] + mark + text[j:] for i in range(len(text) + 1)
                 for j in (i, i + 1) for mark in ("", *"0123456789,_+-*<=!^:;~#%@$|>&? aT()[]")]
        edits += [text[:i] + text[i + 1:i + 2] + text[i:i + 1] + text[i + 2:]
                  for i in range(len(text))]
        close += any(answer_of(edit, OTHERS) for edit in rng.sample(edits, len(edits)))
    assert close > 0.6 * len(malformed)


def test_what_has_no_answer_is_of_every_task_that_can_be_asked_so_in_both_kinds_of_words(items):
    texts = [decode(item.prompt) for item in items if item.level == 3]
    in_words = Counter(found[0] for found in map(canonical, texts) if found)
    own = Counter(name for text in texts for name, task in OTHERS.items()
                  if task.prompt_pattern != ".+" and re.fullmatch(task.prompt_pattern, text))
    tasks = {"recall", "assign", "story", "count", "next", "missing", "brackets", "grid"}
    assert set(in_words) == tasks and tasks <= set(own)
    assert sum("/" in text or "divided" in text for text in texts) > 40


def test_no_prompt_is_the_beginning_of_one_with_answers_inside(items):
    for name in ("parity", "modular", "cycle", "boolean", "brackets"):
        rng, task = random.Random(4), OTHERS[name]
        for _ in range(50):
            prompt = task.sample_prompt(rng, 1)
            for subquestion in task.intermediate_targets(prompt):
                assert BEGINNING.fullmatch(prompt[:subquestion.end])
    assert not any(BEGINNING.fullmatch(decode(item.prompt)) for item in items)


def test_held_out_words_and_wordings_are_never_trained():
    rng = random.Random(5)
    assert 8 < len(HELD_OUT_WORDS) < 40
    for level in TASK.levels:
        for _ in range(500):
            text = decode(DATASET.draw(rng, TASK, level, holdout=False).prompt)
            assert HELD_OUT_WORDS.isdisjoint(re.findall("[a-z]+", text.lower()))
            assert not reading(text) or not reading(text).held_out


@pytest.mark.parametrize("text", [
    "hi there!", "what is the capital of France?", "k:ab,f:", "12/4=", "()|", "([)|", "1,5,2:",
    "12+39", "how are you?", "who are they?", "R#./##./..G@", "Ann has 3. Bob:", "5+=",
    "k is ab. what is f?"])
def test_what_is_not_known(text):
    known = {"12+39": "51"}   # in other words
    assert answer_of(text, DATASET.tasks) == known.get(text, UNKNOWN)


def test_identity_is_asked_in_words_and_with_typos_that_read_back():
    rng, seen = random.Random(6), set()
    for level in IDENTITY.levels:
        for _ in range(600):
            item = IDENTITY.generate(rng, level)
            question = IDENTITY.question_of(decode(item.prompt))
            assert IDENTITY.table[question] == decode(item.answer)
            seen.add(question)
    assert seen == set(IDENTITY.table) and len(IDENTITY.answers) == 4
    assert IDENTITY.answer_to("who r you") == "" != IDENTITY.answer_to("WHO AER YOU")
    assert IDENTITY.answer_to("What's your name?") == IDENTITY.answer_to("what is your name")


def test_some_questions_of_identity_are_never_trained_but_none_of_the_common_ones():
    rng = random.Random(7)
    dataset = dataset_of()
    dataset.tasks["identity"] = IDENTITY
    trained = {IDENTITY.question_of(decode(dataset.draw(rng, IDENTITY, level, False).prompt))
               for level in IDENTITY.levels for _ in range(600)}
    assert trained == set(IDENTITY.table) - IDENTITY.held_out
    for questions in IDENTITY.questions.values():
        assert IDENTITY.held_out.isdisjoint(questions[:4])
        assert len(IDENTITY.held_out.intersection(questions)) == 2


def test_a_typo_is_one_letter_and_never_another_question():
    for text, question in IDENTITY.meant.items():
        assert SequenceMatcher(None, text, question).ratio() > 0.85
        assert abs(len(text) - len(question)) <= 1
    assert typos("where") == [] and "hwo are you" in typos("who are you")
    two = Identity({"say lamp": "light", "say clamp": "tool"})
    assert two.answer_to("say lamp") == "light" and two.answer_to("say clamp") == "tool"
    assert two.answer_to("say cclamp") == "tool"
