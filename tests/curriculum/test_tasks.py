"""Tasks: what they generate, what their verifiers accept, and that items stay what they were."""
import hashlib
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from seed.curriculum.dataset import samples
from seed.curriculum.tasks import NAMES
from seed.curriculum.vocab import END, decode, encode
from seed.rng import Stream, dice
from tests.support.items import IDENTITY, dataset_of, is_held_out
from tests.support.solvers import solve

ROOT = Path(__file__).parents[2]
DATASET = dataset_of()
IN_WORDS = ("asked", "unknown")   # tasks without a pattern
# Hashes of 100 items each with their intermediate targets; a change here changes every training.
GOLDEN = {
    "copy": "e4c8c7395f9e", "repeat": "a170be27fa52", "identity": "6cb4ae911c6b",
    "count": "0b436d762b2e", "next": "8ca4324a6963", "missing": "35e6747b6c45",
    "add": "0307f10de85a", "subtract": "7073c8a067e6", "compare": "502f0bed8ad3",
    "sort": "3a5239c176dd", "parity": "a3e95d8aae92", "modular": "3edb7c61c7d3",
    "cycle": "8ae02a181c3b", "boolean": "15ea77f00ed2", "add_long": "84e9a6c48caa",
    "multiply": "8de153870ce5", "assign": "12d2beb85505", "recall": "4f8c3c61908b",
    "story": "aaea3ac8a01c", "brackets": "46665cacbeef", "nested": "34340250758a",
    "grid": "d8acbc47d080", "asked": "9db8b3eba748", "unknown": "338560e50cab"}


@pytest.fixture(scope="module")
def items():
    """40 training, holdout and extrapolation items of each task and level."""
    return samples(DATASET, 40) + DATASET.holdout(40) + DATASET.extrapolation(40)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_s_items_are_those_that_it_always_had(name):
    task, rng, digest = DATASET.tasks[name], dice(0, Stream.SAMPLE, 1), hashlib.blake2b(
        digest_size=6)
    n_levels = len(task.levels) + int(task.extrapolates)
    for i in range(100):
        item = task.generate(rng, 1 + i % n_levels)
        targets = [tuple(sub) for sub in task.intermediate_targets(decode(item.prompt))]
        digest.update(repr((item.level, item.prompt, item.answer, targets)).encode())
    assert digest.hexdigest() == GOLDEN[name]


def test_verifiers_accept_every_item_and_reject_a_corrupted_answer(items):
    for task, _, prompt, answer, *_ in items:
        assert DATASET.tasks[task].verify(prompt, answer)
        for wrong in (answer[:-1], answer + b"1", bytes([answer[0] ^ 1]) + answer[1:]):
            assert not DATASET.tasks[task].verify(prompt, wrong), (prompt, wrong)


def test_any_prompt_that_matches_a_pattern_is_verified_without_an_error():
    """As a brain or a teacher may propose them: well formed, and otherwise anything."""
    items = samples(DATASET, 20) + DATASET.holdout(20) + DATASET.extrapolation(20)
    letters = {name: "".join(sorted({chr(byte) for item in items if item.task == name
                                     for byte in item.prompt})) for name in DATASET.tasks}
    rng, counts = random.Random(1), Counter[str]()
    for name, _, prompt, *_ in items:
        task, text, alphabet = DATASET.tasks[name], prompt.decode(), letters[name]
        for _ in range(80):
            i = rng.randrange(len(text))
            mutant = text[:i] + rng.choice(("", *alphabet, *alphabet)) + text[i + rng.randrange(2):]
            if name in IN_WORDS or re.fullmatch(task.prompt_pattern, mutant, re.ASCII):
                text, answer = mutant, task.answer_to(mutant)
                counts[name] += 1
                assert task.verify(text.encode(), encode(answer)) == (answer != ""), text
    assert min(counts[name] for name in DATASET.tasks) > 1000


@pytest.mark.parametrize("task, prompt, tempting", [
    ("count", "1,5,2:", "-1,-4,-7"), ("next", "5,0,0;", "0"), ("next", "4,6,9;", "13"),
    ("next", "1,7,3,50,4,9;", "5"), ("missing", "1,2,_,3,9;", "2"), ("assign", "a=b,a=", "0"),
    ("assign", "a=b3,a=", "3"), ("nested", "(1)2+)%", "3"), ("nested", "(3)%", "3"),
    ("story", "Ann finds 3. Ann:", "3"), ("story", "Ann has 3. Ann gives Bob 2. Bob:", "2"),
    ("recall", "k:ab,f:", ""), ("brackets", "()|", ""), ("grid", "RR./.G.@", "S"),
    ("add", "\u0661+2=", "3")])
def test_a_question_without_an_answer_has_no_right_one(task, prompt, tempting):
    assert not DATASET.tasks[task].verify(prompt.encode(), tempting.encode())
    assert not DATASET.tasks[task].verify(prompt.encode(), b"")


def test_numbers_that_python_does_not_parse_have_no_right_answer():
    add = DATASET.tasks["add"]
    assert not add.verify(b"1" * 4301 + b"+1=", b"1" * 4300 + b"2")
    assert add.verify(b"1" * 4300 + b"+1=", b"1" * 4299 + b"2")


def test_answers_equal_an_independent_recomputation(items):
    for item in items:
        assert item.answer == encode(solve(item.task, item.prompt, IDENTITY)), item


def test_a_prompt_belongs_to_exactly_one_task(items):
    for item in items:
        assert [name for name, task in DATASET.tasks.items()
                if task.answer_to(item.prompt.decode())] == [item.task]


def test_extrapolation_prompts_are_longer_than_any_trained_one():
    max_bytes = Counter()
    for item in samples(DATASET, 400):
        max_bytes[item.task] = max(max_bytes[item.task], len(item.prompt))
    items = DATASET.extrapolation(100)
    assert {item.task for item in items} == set(NAMES) - {"identity", *IN_WORDS}
    assert all(len(item.prompt) > max_bytes[item.task] for item in items)
    for item in items:
        if item.task in ("parity", "cycle", "modular"):   # and change up to their end
            assert len(set(item.prompt[-16:])) > 2, item


@pytest.mark.parametrize("n", [16, 64, 400])
def test_no_constant_answer_beats_the_chance_level(n):
    groups = {}
    for item in DATASET.holdout(n) + samples(DATASET, n):
        groups.setdefault((item.task, item.level, is_held_out(DATASET, item.prompt)), []).append(
            item.answer)
    for (task, level, holdout), answers in groups.items():
        chance = DATASET.tasks[task].chance(level)
        best = Counter(answers).most_common(1)[0][1] / len(answers)
        if holdout and DATASET.tasks[task].answers:
            assert best == chance
        # Training items lean the other way where the holdout of a small space was uneven.
        noise = (chance * (1 - chance) / len(answers)) ** 0.5
        assert best <= chance + 4 * noise + 2 / len(answers), (task, level, best)


def test_the_examples_of_the_pages_are_items():
    """In tables with the names of tasks in one cell and examples, prompt and answer, in the next.
    """
    shown = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for names, cell in re.findall(r"^\| *\d* *\| ([a-z_, ]+) \| (`.*?`) \|", page.read_text(),
                                      re.MULTILINE):
            tasks = [DATASET.tasks[name] for name in names.split(", ")
                     if name in NAMES and name != "identity"]
            examples = re.findall("`(.+?)`", cell.replace("\\|", "|"))
            for i, example in enumerate(examples if tasks else ()):
                task = tasks[min(i, len(tasks) - 1)]
                shown.add(task.name)
                assert any(task.verify(example[:split].encode(), example[split:].encode())
                           for split in range(1, len(example))), example
    assert shown == set(NAMES) - {"identity"}


def test_text_survives_the_vocabulary():
    assert decode(bytes([*encode("añ✓"), END, 65])) == "añ✓"


@pytest.mark.parametrize("name, prompt, targets", [
    ("assign", "a=3,b=a+4,b=7,c=b,a=c-b,b=",
     {(12, "a=3,b=a+4,b=", "7"), (10, "a=3,b=a+4,b=", "7"), (18, "a=3,b=a+4,b=7,c=b,c=", "7"),
      (24, "a=3,b=a+4,b=7,c=b,a=c-b,a=", "0")}),
    ("story", "Ann has 5. Bob has 3. Ann gives Bob 2. Ann has 3. Bob finds 14. Bob:",
     {(47, "Ann has 5. Bob has 3. Ann gives Bob 2. Ann:", "3"),
      (38, "Ann has 5. Bob has 3. Ann gives Bob 2. Ann:", "3"),
      (63, "Ann has 5. Bob has 3. Ann gives Bob 2. Ann has 3. Bob finds 14. Bob:", "19")}),
    ("next", "8,27,7,28,6,29;", {(10, "8,27,7,28;", "6"), (12, "8,27,7,28,6;", "29")}),
    ("next", "3,5,9;", set()), ("next", "abcabca;", set()),
    ("missing", "351,328,_,282,259;", {(14, "351,328,_,282;", "305")}),
    ("missing", "23,30,21,28,_;", set())])
def test_what_a_part_of_a_prompt_asks_is_answered_after_it(name, prompt, targets):
    assert {tuple(sub) for sub in DATASET.tasks[name].intermediate_targets(prompt)} == targets
