"""From what a language model writes to an answer, or to the reason why it is none.

A reply is one line: the answer alone, or after a label ("Answer: 42"), in quotes, with a full stop,
after the question said again ("12 + 30 = 42"). What is left must look like the answers that are
known: no longer than twice the longest, of their characters only. All else is prose. A question is
what the form of its task takes, at the start of one line.
"""
import re
from collections.abc import Iterable
from typing import NamedTuple

from seed.curriculum.task import Task
from seed.curriculum.vocab import encode

LABEL = re.compile(r"(?:the )?(?:answer|result)(?: is)?\s*[:=]?\s+|(?:answer|result|a)\s*[:=]\s*",
                   re.IGNORECASE)
QUOTES = ("```", "`", '"', "'", "**")


class AnswerFormat(NamedTuple):
    """What answers look like."""
    characters: frozenset[str]
    longest: int      # characters


def answer_format(answers: Iterable[str]) -> AnswerFormat:
    """The form of some known answers, of which there is at least one."""
    known = list(answers)
    return AnswerFormat(frozenset("".join(known)), 2 * max(map(len, known)))


def parse(reply: str, prompt: str, form: AnswerFormat) -> tuple[str, str]:
    """(answer, ""), or ("", reason): empty, lines, echo, long or form."""
    lines = [line.strip() for line in reply.strip().splitlines() if line.strip()]
    if not lines:
        return "", "empty"
    if len(lines) > 1:
        return "", "lines"
    stop = "" if "." in form.characters else "."
    label = LABEL.match(lines[0])
    text = _unquoted(lines[0][label.end():] if label else lines[0], stop)
    said_again = _without_spaces(text).startswith(_without_spaces(prompt))
    if said_again:
        text = _after(text, _without_spaces(prompt))
    elif text.count("=") == 1 and "=" not in form.characters:
        text = text.rpartition("=")[2]
    text = _unquoted(text, stop)
    if not text:
        return "", "echo"
    if len(text) > form.longest:
        return "", "long"
    if set(text) - form.characters:
        return "", "form"
    return text, ""


def parse_question(reply: str, task: Task) -> bytes:
    """The question of the task with which a reply of one line begins; nothing if it does not.

    What follows it, such as an answer of the model's own, is not believed.
    """
    lines = [line.strip() for line in reply.strip().splitlines() if line.strip()]
    return task.parse_prompt(encode(_unquoted(lines[0], ""))) if len(lines) == 1 else b""


def _without_spaces(text: str) -> str:
    """Without spaces: models like to add them."""
    return "".join(text.split())


def _after(text: str, spelt: str) -> str:
    """What follows the characters of `spelt` in text, which starts with them but for spaces."""
    left = len(spelt)
    for i, character in enumerate(text):
        if not left:
            return text[i:]
        left -= not character.isspace()
    return ""


def _unquoted(text: str, stop: str) -> str:
    """Without one pair of each kind of quotes, and without a full stop at the end if one is given.
    """
    text = text.strip()
    for mark in QUOTES:
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark):-len(mark)].strip()
    return text.removesuffix(stop).strip() if stop and len(text) > 1 else text
