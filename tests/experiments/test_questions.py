"""Questions from a file: what is right, what is wrong and sure, and lines that are no question."""
import json

import pytest

from seed.evaluation import TrainedBrain
from seed.experiments import questions
from seed.experiments.questions import Question, answered, main, read_questions, results, summary
from seed.runtime import Answer
from tests.support import brains
from tests.support.tflite import SMALL

RIGHT = '{"prompt": "12+30=", "answers": ["42", "forty-two"]}'
OTHER = '{"prompt": "é", "answers": [""]}'


def test_any_of_the_answers_is_right_if_it_has_ended():
    question = Question("12+30=", ["42", "forty-two"])
    for text, has_ended, is_right in (("42", True, True), ("forty-two", True, True),
                                      ("42", False, False), ("43", True, False)):
        row = answered(question, Answer(text, 0.9, has_ended))
        assert row["is_right"] is is_right and row["answer"] == text


def test_wrong_answers_that_are_sure_have_a_line_each():
    rows = [answered(Question(prompt, ["42"]), Answer(text, confidence, has_ended))
            for prompt, text, confidence, has_ended in (
                ("a", "42", 0.9, True), ("b", "4\n3", 0.85, True), ("c", "1", 0.8, True),
                ("d", "42", 0.95, False), ("e", "5", 0.1, True))]
    facts = results(rows)
    assert (facts["answers"], facts["right"], facts["auroc"]) == (5, 1, 0.75)
    assert summary(facts).splitlines() == [
        "right 1 of 5", "wrong with confidence above 0.8: 2", "  b gives 4 3 (0.85), right is 42",
        "  d gives 42 (0.95, and does not end), right is 42", "AUROC of confidence: 0.750"]
    assert summary(results(rows[:1])).endswith("not known: it needs right and wrong answers")


@pytest.mark.parametrize("line, words", [
    ("{", "is not JSON"), ("", "is not JSON"), ("[]", "is no object"), ("5", "is no object"),
    ('{"answers": ["42"]}', "has no prompt"), ('{"prompt": "", "answers": ["1"]}', "has no prompt"),
    ('{"prompt": 5, "answers": ["1"]}', "has no prompt"), ('{"prompt": "a"}', "has no answers"),
    ('{"prompt": "a", "answers": []}', "has no answers"), ('{"prompt": "\\ud800"}', "is not JSON"),
    ('{"prompt": "a", "answers": "42"}', "has no answers"),
    ('{"prompt": "a", "answers": ["42", 42]}', "has no answers"), ("\udcff", "is not JSON"),
    ('{"prompt": "%s", "answers": ["1"]}' % ("é" * 2049), "has a prompt of 4,098 bytes")])
def test_a_line_that_is_no_question_is_named(tmp_path, capsys, line, words):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(f"{RIGHT}\n\n{line or ' '}\n".encode(errors="surrogateescape"))
    assert main([f"--run-dir={tmp_path}", f"--file={path}"]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith(f"{path} line 3 {words}")
    assert printed.err.count("\n") == 1


def test_a_file_that_is_empty_or_missing_and_a_brain_that_is_missing_are_named(tmp_path, capsys):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n")
    for arguments, words in (([f"--file={path}"], "has no question"),
                             (["--file=nothing.jsonl"], "No such file")):
        assert main([f"--run-dir={tmp_path}", *arguments]) == 2
        assert words in capsys.readouterr().err
    path.write_text(RIGHT)
    assert main([f"--run-dir={tmp_path / 'none'}", f"--file={path}"]) == 2
    assert "has no brain" in capsys.readouterr().err


def test_a_trained_brain_and_its_exported_file_are_asked_alike(tmp_path, capsys):
    brain = brains.trained(brains.untrained(tmp_path / "run", "toy", *SMALL))
    file, path = brains.exported(brain, tmp_path / "brain.tflite"), tmp_path / "questions.jsonl"
    path.write_text(f"{RIGHT}\n{OTHER}", encoding="utf-8")
    assert read_questions(path)[1] == Question("é", [""])
    shown = []
    for run_dir in (tmp_path / "run", file):
        assert main([f"--run-dir={run_dir}", f"--file={path}", "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    expected = TrainedBrain.answer(brain, "12+30=", questions.MAX_ANSWER_BYTES)
    first, second = (facts["rows"][0] for facts in shown)
    assert first["confidence"] == pytest.approx(expected.confidence)
    assert second == {**first, "confidence": pytest.approx(first["confidence"], abs=1e-4)}
    assert first["answer"] == expected.text and shown[0]["answers"] == 2
    assert main([f"--run-dir={file}", f"--file={path}"]) == 0
    assert capsys.readouterr().out.startswith("right 0 of 2\n")
