"""Ordered and extrapolation levels, tables of facts, empty answers and bytes of user tasks."""
import json
import random

import pytest

from seed.config import CurriculumConfig
from seed.curriculum.dataset import Dataset
from seed.curriculum.state import LAST, CurriculumState
from seed.curriculum.task import is_holdout
from seed.curriculum.user_tasks import load
from seed.errors import UserTaskError
from tests.support.items import UNLOCKED

COUNTING = """
class Counting:
    levels = 3
    extrapolation_levels = 2
    stepwise = True
    def chance(self, level):
        return 0.0
    def generate(self, rng, level):
        number = int(rng.random() * 10 ** 6)
        return f"{level}/{number}:", "x" * level
    def verify(self, prompt, answer):
        return answer == "x" * int(prompt[0])
"""
FACTS = """
class Facts:
    levels = 1
    holdout = False
    table = {"capital of France?": "Paris", "of Peru?": "Lima", "of Nauru?": ""}
    def chance(self, level):
        return 0.34
    def generate(self, rng, level):
        question = sorted(self.table)[int(rng.random() * 3)]
        return question, self.table[question]
    def verify(self, prompt, answer):
        return answer == self.table.get(prompt)
"""


def class_task(folder, text: str) -> str:
    (folder / "own.py").write_text(text)
    return f"{folder / 'own.py'}:{text.split('class ')[1].split(':')[0]}"


def file_task(folder, *rows: dict) -> str:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def dataset_of_task(name: str) -> Dataset:
    return Dataset(CurriculumConfig(tasks={name: 1.0}), {}, 0)


def counting_rows() -> list[dict]:
    return [{"prompt": f"{level}/{n}:", "answer": level * "x", "level": level,
             "extrapolation": level > 3} for level in range(1, 6) for n in range(60)]


@pytest.mark.parametrize("kind", ["class", "file"])
def test_levels_after_the_trained_ones_are_evaluated_and_never_trained_on(tmp_path, kind):
    name = (class_task(tmp_path, COUNTING) if kind == "class" else
            file_task(tmp_path, {"stepwise": True}, *counting_rows()))
    dataset = dataset_of_task(name)
    items = dataset.extrapolation(6)
    assert [item.level for item in items] == [4] * 6 + [5] * 6
    assert all(item.answer == item.level * b"x" for item in items)
    assert {item.level for item in dataset.holdout(4)} == {1, 2, 3}
    trained = dataset._training_items(UNLOCKED, 0, 4000, 99, ())
    assert {item.level for item in trained} == {1, 2, 3}
    assert not any(is_holdout(item.prompt) for item in trained)


@pytest.mark.parametrize("kind", ["class", "file"])
def test_a_stepwise_task_waits_with_a_level_until_the_one_below_is_known(tmp_path, kind):
    name = (class_task(tmp_path, COUNTING) if kind == "class" else
            file_task(tmp_path, {"stepwise": True}, *counting_rows()))
    dataset = dataset_of_task(name)
    rest = dataset.config.replay_weight
    assert dataset.mixture(UNLOCKED) == pytest.approx([(rest + 1) / 3, rest / 3, rest / 3])
    known = CurriculumState(LAST, LAST, accuracy={name: (1.0, 0.5, 0.0)})
    assert dataset.mixture(known) == pytest.approx([rest / 3, (rest + .5) / 3, (rest + .5) / 3])
    plain = class_task(tmp_path, COUNTING.replace("stepwise = True", "")) if kind == "class" else (
        file_task(tmp_path, *counting_rows()))
    assert dataset_of_task(plain).mixture(UNLOCKED) == pytest.approx([(rest + 1) / 3] * 3)


def test_all_recorded_lines_of_an_extrapolation_level_are_evaluated(tmp_path):
    dataset = dataset_of_task(file_task(tmp_path, *counting_rows()))
    items = dataset.extrapolation(1000)
    assert len(items) == 120 and not all(is_holdout(item.prompt) for item in items)


@pytest.mark.parametrize("attribute, message", [
    ("extrapolation_levels = 2.5", "extrapolation_levels is 2.5: give a number from 0 to 100"),
    ("extrapolation_levels = True", "extrapolation_levels is True: give a number from 0 to 100"),
    ("extrapolation_levels = -1", "extrapolation_levels is -1"),
    ("extrapolation_levels = 101", "extrapolation_levels is 101"),
    ("stepwise = 'yes'", "stepwise is 'yes': give True or False"),
    ("holdout = None", "holdout is None: give True or False")])
def test_a_wrong_attribute_of_a_class_is_named(tmp_path, attribute, message):
    with pytest.raises(UserTaskError, match="own.py:Counting: " + message):
        load(class_task(tmp_path, COUNTING.replace("levels = 3", f"levels = 3\n    {attribute}", 1)
                        .replace("    extrapolation_levels = 2\n", "    \n")
                        .replace("    stepwise = True\n", "    \n")))


def test_a_class_that_fails_beyond_its_levels_is_named_before_it_is_trained(tmp_path):
    text = COUNTING.replace("number =", "number = [0] * 4 and 'abc'[level - 1] and")
    with pytest.raises(UserTaskError, match="generate at level 4 raises IndexError"):
        load(class_task(tmp_path, text))


@pytest.mark.parametrize("rows, message", [
    ([{"level": 0}], "line 1: level is 0: give a number from 1 to 100"),
    ([{"level": 101}], "line 1: level is 101"), ([{"level": "2"}], "line 1: level is '2'"),
    ([{"level": True}], "line 1: level is True"),
    ([{"extrapolation": 1, "level": 2}], "line 1: extrapolation is 1: give true or false"),
    ([{"extrapolation": True}], "line 1: extrapolation needs a level above those that are trained"),
    ([{"level": 3}, {}], "no line has level 2, but one has level 3: number levels from 1 on"),
    ([{}, {"level": 2, "extrapolation": True}, {"level": 3}],
     "level 2 is for extrapolation, and level 3 is not: give the last levels to lines"),
    ([{}, {"level": 2, "extrapolation": True}, {"level": 2}], "too few for a holdout"),
    ([{"holdout": False}], "line 1: holdout is of the whole file: begin it with a line "
                           '{"holdout": false}'),
    ([{}, {"stepwise": True}], 'line 2: stepwise is of the whole file: begin it with a line '
                               '{"stepwise": true}'),
    ([{"level": 1}, {"level": 2}], "1 lines of level 1 have 1 distinct prompt, too few")])
def test_wrong_levels_of_a_file_are_named(tmp_path, rows, message):
    name = file_task(tmp_path, *({"prompt": f"{i}?", "answer": "a", **row}
                                 for i, row in enumerate(rows)))
    with pytest.raises(UserTaskError) as error:
        load(name)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("options, message", [
    ({"holdout": 0}, "line 1: holdout is 0: give true or false"),
    ({"holdout": False, "stepwize": True}, "line 1: 'stepwize' is no option of a file.*stepwise"),
    ({"holduot": False}, "line 1: give"), ({}, "line 1: give")])
def test_wrong_options_of_a_file_are_named(tmp_path, options, message):
    with pytest.raises(UserTaskError, match=message):
        load(file_task(tmp_path, options, {"prompt": "a", "answer": "b"}))


@pytest.mark.parametrize("kind", ["class", "file"])
def test_a_table_of_facts_is_taught_in_full_and_evaluated_on_what_is_taught(tmp_path, kind):
    rows = [{"prompt": f"fact {i}?", "answer": str(i)} for i in range(40)]
    name = (class_task(tmp_path, FACTS) if kind == "class" else
            file_task(tmp_path, {"holdout": False}, *rows))
    dataset = dataset_of_task(name)
    trained = {item.prompt for item in dataset._training_items(UNLOCKED, 0, 9999, 99, ())}
    evaluated = {item.prompt for item in dataset.holdout(400)}
    assert trained == evaluated and len(trained) == (3 if kind == "class" else 40)
    assert any(map(is_holdout, trained)) or kind == "class"
    assert all(item.is_fact for item in dataset.holdout(4))


def test_too_few_facts_for_a_holdout_say_how_all_of_them_are_taught(tmp_path):
    rows = [{"prompt": f"fact {i}?", "answer": str(i)} for i in (1, 2, 3)]
    assert not any(is_holdout(row["prompt"].encode()) for row in rows)
    with pytest.raises(UserTaskError, match='begin the file with {"holdout": false}'):
        load(file_task(tmp_path, *rows))
    assert load(file_task(tmp_path, {"holdout": False}, *rows)).chance(1) == pytest.approx(1 / 3)


def test_what_is_beyond_the_levels_of_facts_is_not_taught(tmp_path):
    classes = FACTS.replace("holdout = False", "holdout = False\n    extrapolation_levels = 1")
    rows = [{"prompt": f"{level}?{i}", "answer": "x", "level": level, "extrapolation": level == 2}
            for level in (1, 2) for i in range(9)]
    for name in (class_task(tmp_path, classes), file_task(tmp_path, {"holdout": False}, *rows)):
        dataset = dataset_of_task(name)
        assert all(item.is_fact for item in dataset.holdout(9))
        assert not any(item.is_fact for item in dataset.extrapolation(2))


@pytest.mark.parametrize("rows", [[], [{"holdout": False}]])
def test_a_file_without_a_prompt_is_named(tmp_path, rows):
    with pytest.raises(UserTaskError, match="items.jsonl has no line with a prompt: give at least"):
        load(file_task(tmp_path, *rows))


def test_an_empty_answer_is_one(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": "" if i % 2 else "even"} for i in range(100)]
    task = load(file_task(tmp_path, *rows))
    assert task.verify(b"1?", b"") and not task.verify(b"2?", b"")
    task = load(class_task(tmp_path, FACTS))
    assert task.verify(b"of Nauru?", b"") and not task.verify(b"of Peru?", b"")
    batch = dataset_of_task(class_task(tmp_path, FACTS)).batch(UNLOCKED, 0, 4, 64)
    end = batch.targets == 0xFE
    assert (end[:, 8:] & (batch.tokens == ord("?"))[:, 8:]).any()   # END follows the question


ALL_BYTES = """
class Bytes:
    levels = 1
    def chance(self, level):
        return 0.0
    def generate(self, rng, level):
        data = bytes(int(rng.random() * 256) for _ in range(8)) + bytes((253, 254, 255))
        return data + b":", data[::-1]
    def verify(self, prompt, answer):
        return answer == prompt[-2::-1]
"""


def test_a_class_may_use_all_256_byte_values(tmp_path):
    task = load(class_task(tmp_path, ALL_BYTES))
    item = task.generate(random.Random(0), 1)
    assert b"\xfd\xdd\xfd\xde\xfd\xdf:" in item.prompt and not {0xFE, 0xFF} & set(item.prompt)
    assert task.verify(item.prompt, item.answer)
    assert not task.verify(item.prompt, item.answer.replace(b"\xfd\xdd", b"\xfd", 1))
    path = tmp_path / "bytes.jsonl"
    path.write_text("".join(json.dumps({"prompt": [i, 255], "answer": [255 - i]}) + "\n"
                            for i in range(256)))
    task = load(str(path))
    assert task.verify(b"\x00\xfd\xdf", b"\xfd\xdf") and task.verify(b"\xfd\xdf\xfd\xdf", b"\x00")


def test_what_is_odd_about_a_file_is_said_once_whatever_its_levels(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": "a", "level": 1 + i % 2} for i in range(400)]
    rows += [{"prompt": "7?", "answer": "b", "level": 2}, {"prompt": "9?", "answer": "ab" * 20}]
    name, remarks = file_task(tmp_path, *rows), []
    Dataset(CurriculumConfig(tasks={name: 1.0}), {}, 0).check(30, remarks.append)
    assert remarks == [
        f"{name}: 2 of 400 prompts have several answers: of each line only its own counts as right",
        f"{name}: 1 of 402 lines are not trained on: train.seq_len is 30, they need up to 42; use "
        f"train.seq_len=42 or shorter lines"]
