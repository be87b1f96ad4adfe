"""From a language model's reply to an answer, or to the reason for which it is rejected.

A reply is one line: the answer alone, or after a label ("Answer: 42"), in quotes, with a full stop,
after the question restated ("12 + 30 = 42"), and after a thought between tags. What remains has to
look like the known answers: at most twice as long as the longest, of their characters only.
"""
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from seed.curriculum.task import Task
from seed.curriculum.vocab import encode

LABEL = re.compile(r"(?:the )?(?:answer|result)(?: is)?\s*[:=]?\s+|(?:answer|result|a)\s*[:=]\s*",
                   re.IGNORECASE)
_TAG = "think|thinking|thought|reasoning"
THOUGHT_BEGIN = re.compile(rf"\s*(<({_TAG})>|\[THINK\]|<\|channel\|>analysis)", re.IGNORECASE)
THOUGHT_END = re.compile(rf"</({_TAG})>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
QUOTES = ("```", "`", '"', "'", "**")


class Rejection(StrEnum):
    """Why a reply does not become a training item; the value is its key in metrics."""
    EMPTY = "empty"
    LINES = "several lines"
    ECHO = "question alone"
    LONG = "too long"
    FORMAT = "unlike an answer"
    NO_QUESTION = "no question"
    CUT_OFF = "cut off"
    HOLDOUT = "of the holdout"
    DUPLICATE = "duplicate"
    WRONG = "wrong"
    UNSURE = "unsure"
    NO_LOGPROB = "no log-probability"


class EndpointError(Exception):
    """No completion. `reason` is short, a key in metrics; `detail` and `fix` are for a person.

    `retryable` tells whether the same request may succeed later, `retry_after_s` when, if the
    server says so.
    """

    def __init__(self, reason: str, retryable: bool, fix: str = "see the server's log",
                 detail: str = "", retry_after_s: float | None = None):
        super().__init__(reason)
        self.reason, self.retryable, self.fix = reason, retryable, fix
        self.detail, self.retry_after_s = detail, retry_after_s

    def describe(self) -> str:
        return f"{self.reason}{self.detail and f' ({self.detail})'}; {self.fix}"


class AnswerFormat(NamedTuple):
    """What a task's answers look like."""
    characters: frozenset[str]
    max_length: int   # characters


def answer_format(answers: Iterable[str]) -> AnswerFormat:
    """The format of some known answers, of which there is at least one."""
    known = list(answers)
    return AnswerFormat(frozenset("".join(known)), 2 * max(map(len, known)))


def parse(reply: str, prompt: str, form: AnswerFormat) -> tuple[str, Rejection | None]:
    """(answer, None), or ("", why there is none)."""
    lines = _lines(reply)
    if len(lines) != 1:
        return "", Rejection.LINES if lines else Rejection.EMPTY
    full_stop = "" if "." in form.characters else "."
    label = LABEL.match(lines[0])
    text = _unquoted(lines[0][label.end():] if label else lines[0], full_stop)
    restated = re.match(r"\s*".join(map(re.escape, "".join(prompt.split()))), text)
    if restated:   # models like to add spaces
        text = text[restated.end():]
    elif text.count("=") == 1 and "=" not in form.characters:
        text = text.rpartition("=")[2]
    text = _unquoted(text, full_stop)
    if not text:
        return "", Rejection.ECHO
    if len(text) > form.max_length:
        return "", Rejection.LONG
    return ("", Rejection.FORMAT) if set(text) - form.characters else (text, None)


def parse_question(reply: str, task: Task) -> bytes:
    """The task's question at the start of a reply of one line, whatever follows; b"" for none."""
    lines = _lines(reply)
    return task.parse_prompt(encode(_unquoted(lines[0], ""))) if len(lines) == 1 else b""


def after_thought(text: str) -> str | None:
    """What follows a thought, whose first tag some servers leave out; None if it has no end."""
    end = THOUGHT_END.search(text)
    if end:
        return text[end.end():]
    return None if THOUGHT_BEGIN.match(text) else text


def _lines(reply: str) -> list[str]:
    return [line.strip() for line in reply.splitlines() if line.strip()]


def _unquoted(text: str, full_stop: str) -> str:
    """Without one pair of each kind of quotes, and without `full_stop` at the end if given."""
    text = text.strip()
    for mark in QUOTES:
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark):-len(mark)].strip()
    return text.removesuffix(full_stop).strip() if full_stop and len(text) > 1 else text
