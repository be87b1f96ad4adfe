"""Questions and labels inside a prompt, of a class and of a file: targets there, nowhere else."""
import json
import random

import numpy as np
import pytest

from seed.__main__ import main
from seed.config import CurriculumConfig
from seed.curriculum.dataset import IGNORE, Dataset, samples
from seed.curriculum.task import Item
from seed.curriculum.user_class_worker import InvalidClass
from seed.curriculum.user_items import from_json, item_tokens, marked, to_json
from seed.curriculum.user_tasks import load
from seed.curriculum.vocab import PAD
from seed.errors import UserTaskError
from tests.support.items import UNLOCKED

RECALL = """
class Recall:
    levels = 1
    def chance(self, level):
        return 0.1
    def generate(self, rng, level):
        a, b, c = (chr(97 + int(rng.random() * 26)) for _ in range(3))
        prompt = f"1{a}2{b}3{c}:2{b}1{a}:3"
        return prompt, c, {"questions": [(8, b), (10, a)], "labels": [(2, "2"), (4, "3")]}
    def verify(self, prompt, answer):
        return answer == prompt[5]
"""


def task_of_text(folder, text: str = RECALL) -> str:
    (folder / "recall.py").write_text(text)
    return f"{folder / 'recall.py'}:Recall"


def dataset_of_task(name: str, **config) -> Dataset:
    return Dataset(CurriculumConfig(tasks={name: 1.0}, **config), {}, 0)


def expected_targets(item: Item, with_labels: bool) -> list[int]:
    """After each byte of the prompt but the last: of RECALL, worked out from its prompt."""
    prompt = item.prompt.decode()
    targets = [IGNORE] * (len(prompt) - 1)
    targets[7], targets[9] = ord(prompt[3]), ord(prompt[1])
    if with_labels:
        targets[1], targets[3] = ord("2"), ord("3")
    return targets


@pytest.mark.parametrize("with_labels", [True, False])
def test_questions_are_always_targets_and_labels_are_intermediate_ones(tmp_path, with_labels):
    dataset = dataset_of_task(task_of_text(tmp_path), intermediate_targets=with_labels)
    batch = dataset.batch(UNLOCKED, 0, 4, 64)
    items = {item.prompt: item for item in samples(dataset, 1)} | {
        item.prompt: item for item in dataset._training_items(UNLOCKED, 0, 4 * 65, 65, ())}
    n_seen = 0
    for tokens, targets in zip(batch.tokens, batch.targets):
        text, start = bytes(tokens.tolist()), 0
        while text[start:start + 1] not in (b"", bytes((PAD,))) and start + 15 <= len(text):
            item = items[text[start:start + 13]]
            assert targets[start:start + 12].tolist() == expected_targets(item, with_labels)
            assert targets[start + 12] == item.answer[0]
            start, n_seen = start + 15, n_seen + 1
    assert n_seen >= 12


def test_where_a_prompt_is_learnt_too_it_has_no_other_targets(tmp_path):
    dataset = dataset_of_task(task_of_text(tmp_path, RECALL.replace('(2, "2")', '(2, "?")')))
    batch = dataset.batch(UNLOCKED, 0, 4, 64, learn_prompt_fn=lambda item: True)
    learnt = batch.targets[:, :-1]
    assert np.array_equal(learnt[learnt >= 0], batch.tokens[:, 1:][learnt >= 0])


def test_a_file_says_the_same_as_a_class_and_samples_write_such_a_file(tmp_path, capsys):
    dataset = dataset_of_task(task_of_text(tmp_path))
    items = samples(dataset, 60)
    assert main(["samples", "--profile=toy", "--set=curriculum.tasks={}", "--count=60", "--json",
                 f"--task={task_of_text(tmp_path)}"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["questions"] == [[8, rows[0]["prompt"][3]], [10, rows[0]["prompt"][1]]]
    path = tmp_path / "items.jsonl"
    path.write_text('{"holdout": false}\n' + "\n".join(map(json.dumps, rows)))
    recorded = load(str(path)).items
    assert [item[2:6] for item in recorded] == [item[2:6] for item in items]
    assert all(item.questions and item.labels for item in recorded)


def test_samples_mark_what_is_asked_inside_a_prompt(tmp_path, capsys):
    assert main(["samples", "--profile=toy", "--set=curriculum.tasks={}",
                 f"--task={task_of_text(tmp_path)}"]) == 0
    text = capsys.readouterr().out.split("  ")[1].strip()
    a, b, c = text[1], text[6], text[11]
    assert text == f"1{a}<2>2{b}<3>3{c}:2{{{b}}}{b}1{{{a}}}{a}:3{c}"
    assert marked(b"\xfd\xdf1", b"") == "\\xff1"


GOOD = [("abc", "d", {}), ("abc", "", {"labels": [[1, "x"], [2, "y"]]}),
        ("abcd", "d", {"questions": [(1, "xyz")]}),
        (b"\xff\x00a", b"\xfe", {"labels": [(1, b"z")]}),
        ("dögs!", "", {"questions": ((2, "g"), (4, "!"))}),
        (b"abcd", b"", {"questions": [(1, b"\xff")], "labels": [(3, "q")]})]


@pytest.mark.parametrize("given", GOOD)
def test_items_go_to_json_and_back(given):
    tokens = item_tokens(*given)
    assert from_json(json.loads(json.dumps(to_json(*tokens)))) == tokens


def test_an_end_counts_characters_of_a_text_and_bytes_of_bytes():
    assert item_tokens("dögs", "", {"labels": [(2, "x")]}).labels == b"\xff\xffx"
    assert item_tokens("dögs".encode(), "", {"labels": [(2, "x")]}).labels == b"\xffx"
    assert item_tokens(b"\xffab", "", {"labels": [(2, "x")]}).labels == b"\xff\xffx"


WRONG = [
    ("abc", [], "what is asked inside the prompt is []"),
    ("abc", {"question": []}, "give {\"questions\": [(end, text), ...]}"),
    ("abc", {"labels": "ab"}, "labels is 'ab': give a list of (end, text)"),
    ("abc", {"labels": {2: "b"}}, "labels is {2: 'b'}: give a list of (end, text)"),
    ("abc", {"questions": [(1, "x"), 5]}, "questions[1] is 5: give (end, text)"),
    ("abc", {"questions": [(1, "x", 2)]}, "questions[0] is (1, 'x', 2): give (end, text)"),
    ("abc", {"labels": [(0, "x")]}, "labels[0] is asked after 0 of the prompt's 3 characters: "
                                    "give 1 to 2; what follows the whole prompt is the answer"),
    ("abc", {"labels": [(3, "x")]}, "give 1 to 2"), ("abc", {"labels": [(-1, "x")]}, "give 1 to 2"),
    ("abc", {"labels": [(True, "x")]}, "after True"),
    ("abc", {"labels": [(1.0, "x")]}, "after 1.0"),
    ("a", {"labels": [(1, "x")]}, "it is too short"),
    (b"abc", {"labels": [(3, "x")]}, "of the prompt's 3 bytes"),
    ("abc", {"labels": [(1, "")]}, "labels[0] has 0 bytes: give 1 to"),
    ("abc", {"labels": [(1, 5)]}, "labels[0] is int: give"),
    ("abc", {"labels": [(2, "xy")]}, "labels[0] has 2 bytes, which reach into the answer"),
    ("abcd", {"labels": [(1, "xy"), (2, "z")]}, "labels[1] has 1 bytes from 2 on, where there is "
                                                "another target"),
    ("abcd", {"labels": [(2, "x")], "questions": [(2, "z")]}, "questions[0] has 1 bytes"),
    (b"abcde", {"labels": [(1, b"\xff"), (2, b"z")]}, "labels[1] has 1 bytes from 2 on"),
    (b"abcde", {"labels": [(2, b"z"), (1, b"\xfe")]}, "(0xFD to 0xFF are two each)")]


@pytest.mark.parametrize("prompt, inside, message", WRONG)
def test_what_is_wrong_inside_a_prompt_is_named_with_its_fix(tmp_path, prompt, inside, message):
    with pytest.raises(InvalidClass) as error:
        item_tokens(prompt, "d", inside)
    assert message in str(error.value)
    text = RECALL.replace("return prompt, c, {", f"return {prompt!r}, 'd', {inside!r}  # {{")
    with pytest.raises(UserTaskError) as error:
        load(task_of_text(tmp_path, text))
    assert message in str(error.value) and "recall.py:Recall" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line, message", [
    ({"questions": [[1, 5]]}, "line 3: questions[0] is int: give text or a list of numbers"),
    ({"questions": [[9, "x"]]}, "line 3: questions[0] is asked after 9"),
    ({"labels": "x"}, "line 3: labels is 'x'"), ({"labels": [[1]]}, "line 3: labels[0] is [1]"),
    ({"prompt": [1, 256]}, "line 3: prompt is list: give text or a list of numbers from 0 to 255"),
    ({"prompt": [True]}, "line 3: prompt is list"), ({"answer": None}, "answer is NoneType"),
    ({"prompt": ""}, "line 3: prompt has 0 bytes"), ({"prompt": "\ud800"}, "is not valid text")])
def test_what_is_wrong_in_a_line_is_named_with_its_number(tmp_path, line, message):
    rows = [*({"prompt": f"{i}?", "answer": str(i)} for i in (1, 2)),
            {"prompt": "abc", "answer": "d", **line}]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserTaskError) as error:
        load(str(tmp_path / "items.jsonl"))
    assert message in str(error.value) and "items.jsonl" in str(error.value)


def test_a_class_whose_questions_change_between_calls_is_refused(tmp_path):
    counting = RECALL.replace("return prompt", "self.n = getattr(self, 'n', 0) + 1\n        "
                              "return prompt").replace("(10, a)", "(10, 'ab'[self.n % 2])")
    with pytest.raises(UserTaskError, match="gives another result for the same question"):
        load(task_of_text(tmp_path, counting))


JUNK = [None, True, -1, 0, 1, 2, 10 ** 30, 1.5, "", "x", "ö", "\ud800", [], [1, 255], [[1, "x"]],
        [[1, "x"], [1, "y"]], [[2, [255]]], [["1", "x"]], [[1, "x" * 5000]], {}, {"1": "x"}]


def test_whatever_a_line_has_is_an_item_or_one_line_of_what_is_wrong():
    rng, n_right = random.Random(0), 0
    for _ in range(20_000):
        row = {"prompt": "abcd", "answer": "e"} | {
            rng.choice(("prompt", "answer", "labels", "questions")): rng.choice(JUNK)
            for _ in range(rng.randrange(3))}
        try:
            tokens = from_json(row)
        except InvalidClass as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            continue
        assert from_json(to_json(*tokens)) == tokens
        assert max(map(len, (tokens.labels, tokens.questions))) < len(tokens.prompt)
        n_right += 1
    assert 1000 < n_right < 19_000
