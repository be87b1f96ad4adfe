"""A question of a task in other words: written from its canonical prompt, and read back as that.

A wording is a template such as `how much is {a} plus {b}?`, whose fields are parts of the canonical
prompt `{a}+{b}=`, each in a form of its own ("true and not false" is a form of `T&!F`). Spaces at
marks and capitals mean nothing: `normal` takes them out. `canonical` is the one inverse of all
templates. The templates are in wording_numbers.py and wording_words.py.
"""
import hashlib
import random
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from seed.curriculum.task import Task, is_holdout, pick
from seed.curriculum.vocab import encode
from seed.curriculum.wording_forms import Wordings
from seed.curriculum.wording_numbers import NUMBERS
from seed.curriculum.wording_words import WORDS

MAX_TEXT_CHARS = 512        # of what is read
MAX_PROMPT_CHARS = 112      # of what is written: with its answer it fits into a row of any profile
ADDRESSES = ("please ", "hey, ", "robot, ", "ok, ", "so, ", "now, ", "seed, ")   # before a wording
ADDRESSED_FRACTION = 0.12
CLOSINGS = ("", "?", ".", "!", "??")   # of a wording
OWN_CLOSING_FRACTION = 0.7
HELD_OUT_FRACTION = 0.15    # of the templates of a task, at least one of each list
ALL = (*NUMBERS, *WORDS)

_ADDRESS = re.compile("^(?:please |(?:robot|hey|ok|so|now|seed),)")
_SPACE = r"(?: |(?<!\w)|(?!\w))"   # of two words; none is left where one side is a mark
_MARK = re.compile(r" ?([^\w ]) ?", re.ASCII)
_OPERATOR_AFTER_WORD = re.compile(r"(?<=[\w)])([-+*/<>=&|^%])", re.ASCII)
_OPERATOR_BEFORE_WORD = re.compile(r"([-+*/<>=&|^%])(?=[\w(!])", re.ASCII)
_PAUSE = re.compile(r"(?<=[\w)])([,;:.])(?=[\w(])", re.ASCII)


class Template(NamedTuple):
    """One wording of a task. In words, any of CLOSINGS may end it; its own is the most common."""
    wordings: Wordings
    text: str
    closing: str | None   # None: the text has the only one
    held_out: bool        # never trained on

    @property
    def first_word(self) -> str:
        """"" if it begins with a field."""
        return _first_word(normal(self.text)) if self.text[0] != "{" else ""


def normal(text: str) -> str:
    """In lower case, without spaces at marks, and with one between words. "" if nothing can be read
    of a text: it is long, or not ASCII."""
    if len(text) > MAX_TEXT_CHARS or not text.isascii():
        return ""
    return _MARK.sub(r"\1", " ".join(text.lower().split()))


def _literal(text: str) -> str:
    """The regular expression of what is between fields. A space at its edge is none at a mark."""
    return ((_SPACE if text.startswith(" ") else "") + re.escape(normal(text))
            + (_SPACE if text.endswith(" ") and text != " " else ""))


def _pattern(template: Template, name: str) -> str:
    """The regular expression of a template's normal text, with a group `name` and one for each
    field."""
    parts = re.split(r"({\w+(?::\w+)?})", template.text)
    marks = [f"(?P<{name}_{field[1:-1].partition(':')[0]}>"
             f"{template.wordings.forms[field[1:-1]].pattern})" for field in parts[1::2]]
    closing = "" if template.closing is None else "[?.!]*"
    return f"(?P<{name}>" + "".join(
        _literal(literal) + mark for literal, mark in zip(parts[::2], [*marks, closing])) + ")"


def _templates(wordings: Wordings, texts: tuple[str, ...], is_worded: bool
               ) -> tuple[Template, ...]:
    """Which are held out is decided by their hashes. The first third, in which the most common
    words are, is always trained on."""
    def digest(text: str) -> bytes:
        return hashlib.blake2b(encode(wordings.task + text), digest_size=8).digest()
    closings: dict[str, str | None] = {}   # by the text without it
    for text in texts:
        body = text.rstrip("?.!") if is_worded else text
        closings.setdefault(body, text[len(body):] if is_worded and body[-1] not in "=:" else None)
    held_out = sorted(list(closings)[len(closings) // 3:], key=digest)
    held_out = held_out[:max(1, int(HELD_OUT_FRACTION * len(closings)))]
    return tuple(Template(wordings, text, closing, text in held_out)
                 for text, closing in closings.items())


def _first_word(text: str) -> str:
    match = re.match("[a-z]+", text)
    return match[0] if match else ""


PLAIN = {wordings: _templates(wordings, wordings.plain, False) for wordings in ALL}   # of level 1
WORDED = {wordings: _templates(wordings, wordings.worded, True) for wordings in ALL}  # above it
_BY_FIRST_WORD: dict[str, list[Template]] = {}
for _templates_of in (*PLAIN.values(), *WORDED.values()):
    for _template in _templates_of:
        _BY_FIRST_WORD.setdefault(_template.first_word, []).append(_template)


@cache
def _any_of(first_word: str) -> re.Pattern[str]:
    """One expression for all templates with a first word: it is ten times faster than as many."""
    return re.compile("|".join(_pattern(template, f"t{i}") for i, template in enumerate(
        _BY_FIRST_WORD[first_word])), re.ASCII)


class Reading(NamedTuple):
    """What a text asks."""
    task: str
    prompt: str      # canonical
    held_out: bool   # the wording is never trained on


@lru_cache(maxsize=1024)
def reading(text: str) -> Reading | None:
    """None if it is in no known words."""
    words = normal(text)
    words = _ADDRESS.sub("", words, 1)
    for first_word in dict.fromkeys((_first_word(words), "")):
        match = _any_of(first_word).fullmatch(words) if first_word in _BY_FIRST_WORD else None
        if match and match.lastgroup:
            template = _BY_FIRST_WORD[first_word][int(match.lastgroup[1:])]
            fields = {field: template.wordings.forms[field + form].read(
                match[f"{match.lastgroup}_{field}"])
                for field, form in re.findall(r"{(\w+)(:\w+)?}", template.text)}
            prompt = template.wordings.prompt.format(**fields)
            if re.fullmatch(template.wordings.pattern, prompt, re.ASCII):
                return Reading(template.wordings.task, prompt, template.held_out)
    return None


def canonical(text: str) -> tuple[str, str] | None:
    """The task that a text asks in any words, and its prompt."""
    question = reading(text)
    return (question.task, question.prompt) if question else None


def answer_of(text: str, tasks: Mapping[str, Task]) -> str:
    """The answer of the task that has such a prompt, or to the question in other words; "" if no
    task knows one. With a task `unknown` among them there always is one."""
    return next(filter(None, (task.answer_to(text) for task in tasks.values())),
                "") or answer_in_words(text, tasks)


def worded(rng: random.Random, wordings: Wordings, prompt: str, is_plain: bool) -> str:
    """A canonical prompt in other words, or only with other spaces, capitals and closings; "" if
    the words drawn do not fit it. What it returns reads back as the prompt."""
    match = re.fullmatch(wordings.pattern, prompt, re.ASCII)
    template = pick(rng, (PLAIN if is_plain else WORDED)[wordings])
    if not match:
        return ""
    text = re.sub(r"{(\w+)(:\w+)?}", lambda field: wordings.forms[field[0][1:-1]].write(
        match[field[1]]), template.text)
    if template.closing is not None:
        text += template.closing if rng.random() < OWN_CLOSING_FRACTION else pick(rng, CLOSINGS)
    if not is_plain and rng.random() < ADDRESSED_FRACTION:
        text = pick(rng, ADDRESSES) + text
    text = _in_a_case(rng, _spaced(rng, text, 0.3 if is_plain else 0.1))
    is_read = canonical(text) == (wordings.task, prompt)
    return text if is_read and len(text) <= MAX_PROMPT_CHARS and ends_clearly(text) else ""


def ends_clearly(text: str) -> bool:
    """Whether the digits of an answer cannot be taken for the end of the prompt's last number: a
    mark is between them, or all numbers are as long as each other."""
    return not text.strip()[-1:].isdigit() or len(set(map(len, re.findall(r"\d+", text)))) == 1


def _spaced(rng: random.Random, text: str, tight_fraction: float) -> str:
    tight, kind = _MARK.sub(r"\1", text), rng.random()
    if kind < tight_fraction:
        return tight
    if kind < 0.8:   # as most people type
        if kind < 0.6:
            tight = _OPERATOR_BEFORE_WORD.sub(r"\1 ", _OPERATOR_AFTER_WORD.sub(r" \1", tight))
        return _PAUSE.sub(r"\1 ", tight)

    def stretched(match: re.Match[str]) -> str:
        n = int(rng.random() * 9)
        return (" " if n in (0, 1) else "") + match[1] + (" " if n in (1, 2, 3) else "")
    text = _MARK.sub(stretched, text)
    if rng.random() < 0.3:
        text = text.replace(" ", "  ", 1)
    return f" {text}" if kind > 0.97 else f"{text} " if kind > 0.94 else text


def _in_a_case(rng: random.Random, text: str) -> str:
    kind = rng.random()
    if kind < 0.55:
        return text
    return text[:1].upper() + text[1:] if kind < 0.8 else text.lower() if kind < 0.9 else (
        text.upper())


def is_held_out(text: str) -> bool:
    """Whether a text's words are never trained on, or what it asks is of its task's holdout."""
    question = reading(text)
    return question is not None and (question.held_out or is_holdout(encode(question.prompt)))


def answer_in_words(text: str, tasks: Mapping[str, Task]) -> str:
    """The answer to what a text asks of one of the tasks in other words; "" if it asks nothing of
    them, or has no answer."""
    question = canonical(text)
    if not question or question[0] not in tasks:
        return ""
    try:
        return tasks[question[0]].solve(question[1])
    except ValueError:   # Python parses no number of more than 4,300 digits
        return ""
