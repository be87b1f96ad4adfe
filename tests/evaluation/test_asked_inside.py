"""What is asked inside a prompt counts in exact match; single bytes in token accuracy."""
import json
from types import SimpleNamespace

import numpy as np
import pytest

from seed.curriculum.task import Item
from seed.curriculum.vocab import END, PAD
from seed.evaluation.exact_match import Score, evaluate, table
from seed.evaluation.on_data import on_items
from seed.export.verify import exact_match
from tests.support.perfect_forward import small_dataset

ASKED = bytes((PAD, PAD, ord("b"), PAD, ord("d")))
ITEM = Item("own", 1, b"abcdef", b"gh", questions=ASKED)
EMPTY = Item("own", 1, b"xyz", b"")
DATASET = SimpleNamespace(chance=lambda task, level: 0.1)


class Says:
    """Logits that are right everywhere, but after these texts."""

    def __init__(self, *items: Item, wrong: tuple[bytes, ...] = ()):
        self.next: dict[bytes, int] = {}
        for item in items:
            answer = item.answer + bytes((END,))
            for i, byte in enumerate(item.questions):
                self.next[item.prompt[:i + 1]] = byte
            for i, byte in enumerate(answer):
                self.next[item.prompt + answer[:i]] = byte
        self.next |= dict.fromkeys(wrong, 0)

    def logits(self, text: bytes) -> np.ndarray:
        return np.eye(256, dtype=np.float32)[self.next.get(text, 1)]

    def __call__(self, tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        return np.array([self.logits(tokens[start:i + 1].tobytes())
                         for start, end in zip(cu_seqlens, cu_seqlens[1:])
                         for i in range(start, end)])

    def reset(self):
        self.text = b""

    def step(self, byte: int) -> np.ndarray:
        self.text += bytes((byte,))
        return self.logits(self.text)

    def generate_bytes(self, prompt: bytes, max_bytes: int, stop: int = END):
        self.reset()
        for byte in prompt:
            logits = self.step(byte)
        for _ in range(max_bytes):
            if logits.argmax() == stop:
                return
            yield int(logits.argmax())
            logits = self.step(int(logits.argmax()))


@pytest.mark.parametrize("wrong, right_tokens, n_right", [
    ((), 4, 2), ((b"abc",), 3, 1), ((b"abcde",), 3, 1), ((b"abcdef",), 3, 1),
    ((b"abcdefg",), 3, 1), ((b"abcdefgh",), 4, 1), ((b"ab",), 4, 2), ((b"xyz",), 4, 1)])
def test_an_item_is_right_if_all_that_it_asks_is_and_single_bytes_are_counted_without_end(
        wrong, right_tokens, n_right):
    says, answers = Says(ITEM, EMPTY, wrong=wrong), {}
    score, = evaluate([ITEM, EMPTY], DATASET, says,
                      answer_fn=lambda item, *given: answers.setdefault(item, given))
    assert (score.correct, score.count, score.tokens) == (n_right, 2, 4)
    assert score.right_tokens == right_tokens and score.token_accuracy == right_tokens / 4
    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    assert bytes(answers[ITEM][0]) == b"gh\xfe" and bytes(answers[EMPTY][0]) == b"\xfe"
    assert exact_match(says, [ITEM, EMPTY]) == [
        {"task": "own", "level": 1, "correct": n_right, "count": 2}]


def test_an_exported_file_is_wrong_about_a_question_that_its_brain_has_wrong():
    assert exact_match(Says(ITEM, wrong=(b"abcde",)), [ITEM])[0]["correct"] == 0


def test_recorded_items_are_right_if_their_questions_are(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"prompt": "abcdef", "answer": "gh",
                                "questions": [[3, "b"], [5, "d"]]}))
    for wrong, n_right in (((), 1), ((b"abc",), 0), ((b"ab",), 1)):
        says = Says(ITEM, wrong=wrong)
        rows = on_items(str(path), lambda prompts, max_bytes: [b"gh" for _ in prompts],
                        lambda prompt: says(np.frombuffer(prompt, np.uint8), [0, len(prompt)]))
        assert rows[0].correct == n_right


def test_scores_of_an_earlier_version_can_still_be_read():
    row = Score("copy", 1, 3, 4, 0.1).to_dict()
    earlier = {key: row[key] for key in ("task", "level", "correct", "count", "chance")}
    assert Score.from_dict(earlier) == Score("copy", 1, 3, 4, 0.1)


def test_the_table_has_token_accuracy_and_says_what_was_taught():
    scores = [Score("a", 1, 1, 2, 0.0, (), 8, 6), Score("a", 2, 1, 2, 0.0, (), 2, 1),
              Score("b", 1, 1, 2, 0.0), Score("facts.jsonl", 1, 1, 2, 0.0, (), 4, 4, True)]
    head, *lines, taught = table(scores).splitlines()
    at = head.index("token %") - 2
    assert [line[at:at + 9].strip() for line in lines] == ["75.0", "50.0", "70.0", "", "100.0"]
    assert taught == ("taught: facts.jsonl is evaluated on what it was trained on, nothing of it "
                      "is held out")
    assert "taught" not in table(scores[:3])


def test_token_accuracy_of_the_built_in_tasks_counts_every_answer_byte():
    dataset = small_dataset()
    items = dataset.holdout(4)

    def zeros(tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        return np.eye(256, dtype=np.float32)[np.full(len(tokens), ord("0"))]
    for score in evaluate(items, dataset, zeros):
        answers = [item.answer for item in items
                   if (item.task, item.level) == (score.task, score.level)]
        assert score.tokens == sum(map(len, answers))
        assert score.right_tokens == sum(answer.count(b"0") for answer in answers)
