"""examples/questions.jsonl: a hundred questions in a stranger's words, written before any brain was
trained on other words."""
import json
from pathlib import Path

ROWS = [json.loads(line) for line in
        (Path(__file__).parents[2] / "examples" / "questions.jsonl").read_text().splitlines()]
NO_ANSWER = "I do not know"


def test_a_hundred_different_questions_have_answers():
    assert len({row["prompt"].casefold().replace(" ", "") for row in ROWS}) == len(ROWS) == 100
    assert all(row.keys() == {"prompt", "answers"} and all(row["answers"]) for row in ROWS)


def test_some_have_no_answer():
    unknown = [row for row in ROWS if NO_ANSWER in row["answers"]]
    assert 20 <= len(unknown) <= 30
    assert all(row["answers"] == [NO_ANSWER] for row in unknown)
