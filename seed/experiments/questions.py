"""Questions in a stranger's words, from a file: how many a brain answers right, and how sure it is.

    python -m seed.experiments.questions --run-dir BRAIN --file FILE.jsonl

BRAIN is a run directory or an exported .tflite file. Each line of FILE is an object such as
{"prompt": "what is 12+30?", "answers": ["42"]}, of which any answer is right.
"""
import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import BAD_INPUT, ConfigError, SeedError
from seed.evaluation import TrainedBrain
from seed.evaluation.confidence import MAX_ANSWER_BYTES, SURE, Judged, sureness
from seed.evaluation.conversation import MAX_QUESTION_BYTES
from seed.regular_file import parse_json, reader
from seed.runtime import Answer, Brain, BrainError
from seed.runtime.answer import shown
from seed.storage import RunDir
from seed.storage.lines import forward
from seed.terminal_text import one_line


class Question(NamedTuple):
    prompt: str
    answers: list[str]   # of which any is right


def read_questions(path: Path) -> list[Question]:
    """Raises ConfigError, which names the line, and OSError. Empty lines are left out."""
    with reader(path) as file:
        questions = [_question(f"{path} line {number}", line)
                     for number, line in enumerate(forward(file), 1) if line != b"\n"]
    if not questions:
        raise ConfigError(f"{path} has no question: give one in each line")
    return questions


def _question(where: str, line: bytes) -> Question:
    try:
        fields = parse_json(line)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{where} is no object: give prompt and answers")
    prompt, answers = fields.get("prompt"), fields.get("answers")
    if not isinstance(prompt, str) or not prompt or not _is_unicode(prompt):
        raise ConfigError(f"{where} has no prompt: give a text")
    if len(prompt.encode()) > MAX_QUESTION_BYTES:
        raise ConfigError(f"{where} has a prompt of {len(prompt.encode()):,} bytes: use "
                          f"{MAX_QUESTION_BYTES:,} at most")
    if not isinstance(answers, list) or not answers or not all(
            isinstance(answer, str) for answer in answers):
        raise ConfigError(f"{where} has no answers: give a list of texts")
    return Question(prompt, answers)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def answered(question: Question, answer: Answer) -> dict[str, Any]:
    """For JSON."""
    is_right = answer.has_ended and answer.text in question.answers
    return {"prompt": question.prompt, "answer": answer.text, "answers": question.answers,
            "is_right": is_right, "confidence": answer.confidence, "has_ended": answer.has_ended}


def results(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    judged = [Judged("", row["is_right"], row["confidence"]) for row in rows]
    return {**sureness(judged), "rows": list(rows)}


def summary(facts: dict[str, Any]) -> str:
    """Of `results`, with a line for each answer that is wrong and sure."""
    sure = [row for row in facts["rows"] if not row["is_right"] and row["confidence"] > SURE]
    lines = [f"right {facts['right']} of {facts['answers']}",
             f"wrong with confidence above {SURE:g}: {len(sure)}"]
    for row in sure:
        end = "" if row["has_ended"] else ", and does not end"
        lines.append(one_line(f"  {row['prompt']} gives {row['answer']} ({shown(row['confidence'])}"
                              f"{end}), right is {' or '.join(row['answers'])}"))
    auroc = "not known: it needs right and wrong answers" if facts["auroc"] is None else (
        f"{facts['auroc']:.3f}")
    return "\n".join([*lines, f"AUROC of confidence: {auroc}"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, required=True,
                        help="of a brain, or an exported .tflite file")
    parser.add_argument("--file", type=Path, required=True, help="of questions, JSON lines")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    args = parser.parse_args(argv)
    try:
        questions = read_questions(args.file)
        brain = (Brain(args.run_dir) if args.run_dir.is_file() else
                 TrainedBrain.load(RunDir(args.run_dir), args.threads, lambda line: None))
        facts = results([answered(question, brain.answer(question.prompt, MAX_ANSWER_BYTES))
                         for question in questions])
    except (SeedError, BrainError, OSError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(facts) if args.json else summary(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
