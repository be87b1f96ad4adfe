"""An item as a user gives it and as the brain reads it: checked, and both ways.

A prompt and an answer are text or any bytes. Inside the prompt there may be further targets, as
{"questions": [(end, text), ...], "labels": [...]}: `text` is to follow the first `end` characters
(or bytes, of a prompt in bytes), one byte after the other, whatever the prompt has there. Questions
are part of what is asked, labels only help the training. Needs the standard library alone.
"""
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seed.curriculum.user_class_worker import InvalidClass, shown
from seed.curriculum.vocab import PAD, escape, unescape

MAX_TEXT_BYTES = 4096     # of a prompt or an answer, as the brain reads it
KINDS = "labels", "questions"
TEXT_OR_BYTES, TEXT_OR_NUMBERS = "str or bytes", "text or a list of numbers from 0 to 255"


class Tokens(NamedTuple):
    """The texts of a task.Item."""
    prompt: bytes
    answer: bytes
    labels: bytes = b""
    questions: bytes = b""


def to_tokens(what: str, value: Any, min_bytes: int = 1, kind: str = TEXT_OR_BYTES) -> bytes:
    """A text's UTF-8, or bytes, escaped. Raises InvalidClass."""
    if not isinstance(value, (str, bytes)):
        raise InvalidClass(f"{what} is {type(value).__name__}: give {kind}")
    try:
        tokens = value.encode() if isinstance(value, str) else escape(value)
    except UnicodeEncodeError:
        raise InvalidClass(f"{what} {shown(value)} is not valid text") from None
    if not min_bytes <= len(tokens) <= MAX_TEXT_BYTES:
        raise InvalidClass(f"{what} has {len(tokens)} bytes{_escaped(value, tokens)}: give "
                           f"{min_bytes} to {MAX_TEXT_BYTES}")
    return tokens


def item_tokens(prompt: Any, answer: Any, inside: Any = None) -> Tokens:
    """Raises InvalidClass."""
    texts = to_tokens("prompt", prompt), to_tokens("answer", answer, 0)
    if inside is None:
        return Tokens(*texts)
    if not isinstance(inside, Mapping) or not set(inside) <= set(KINDS):
        raise InvalidClass(f"what is asked inside the prompt is {shown(inside)}: give "
                           '{"questions": [(end, text), ...]}, or labels as well')
    taken = set[int]()
    labels, questions = (_targets(kind, inside.get(kind, ()), prompt, texts[0], taken)
                         for kind in KINDS)
    return Tokens(*texts, labels, questions)


def _targets(kind: str, pairs: Any, prompt: str | bytes, tokens: bytes,
             taken: set[int]) -> bytes:
    """As an Item has them. Their places are added to those that are `taken`."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, (str, bytes)):
        raise InvalidClass(f"{kind} is {shown(pairs)}: give a list of (end, text)")
    places: dict[int, int] = {}
    unit = "characters" if isinstance(prompt, str) else "bytes"
    for i, pair in enumerate(pairs):
        what = f"{kind}[{i}]"
        if not isinstance(pair, Sequence) or isinstance(pair, (str, bytes)) or len(pair) != 2:
            raise InvalidClass(f"{what} is {shown(pair)}: give (end, text)")
        end, text = pair
        if not isinstance(end, int) or isinstance(end, bool) or not 0 < end < len(prompt):
            limit = f"give 1 to {len(prompt) - 1}" if len(prompt) > 1 else "it is too short"
            raise InvalidClass(f"{what} is asked after {shown(end)} of the prompt's {len(prompt)} "
                               f"{unit}: {limit}; what follows the whole prompt is the answer")
        start = end - 1 if len(tokens) == len(prompt) else _n_tokens(prompt[:end]) - 1
        target = to_tokens(what, text)
        if start + len(target) >= len(tokens):
            raise InvalidClass(f"{what} has {len(target)} bytes, which reach into the answer: ask "
                               f"it earlier, or put them into the answer")
        if not taken.isdisjoint(range(start, start + len(target))):
            raise InvalidClass(f"{what} has {len(target)} bytes{_escaped(text, target)} from "
                               f"{end} on, where there is another target: a place has one")
        taken.update(range(start, start + len(target)))
        places.update(enumerate(target, start))
    return bytes(places.get(i, PAD) for i in range(max(places, default=-1) + 1))


def _n_tokens(text: str | bytes) -> int:
    return len(text.encode() if isinstance(text, str) else escape(text))


def _escaped(value: str | bytes, tokens: bytes) -> str:
    return " (0xFD to 0xFF are two each)" if len(tokens) > len(value) and isinstance(
        value, bytes) else ""


def from_json(row: Any) -> Tokens:
    """As `item_tokens`, of an object such as a line of items.jsonl. Raises InvalidClass."""
    try:
        prompt, answer = row["prompt"], row["answer"]
    except (KeyError, TypeError, IndexError):
        raise InvalidClass('give {"prompt": "...", "answer": "..."}') from None
    inside = {kind: _pairs_from_json(kind, row[kind]) for kind in KINDS if kind in row}
    return item_tokens(_text_from_json("prompt", prompt), _text_from_json("answer", answer),
                       inside or None)


def _text_from_json(what: str, value: Any) -> str | bytes:
    if isinstance(value, list) and all(type(byte) is int and 0 <= byte < 256 for byte in value):
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidClass(f"{what} is {type(value).__name__}: give {TEXT_OR_NUMBERS}")
    return value


def _pairs_from_json(kind: str, pairs: Any) -> Any:
    """Checked by `item_tokens`, but for the texts."""
    if not isinstance(pairs, list):
        return pairs
    return [[pair[0], _text_from_json(f"{kind}[{i}]", pair[1])]
            if isinstance(pair, list) and len(pair) == 2 else pair for i, pair in enumerate(pairs)]


def to_json(prompt: bytes, answer: bytes, labels: bytes = b"", questions: bytes = b""
            ) -> dict[str, Any]:
    """The inverse of `from_json`, of an Item's tokens: text, or numbers where that is not exact."""
    targets = {kind: runs(tokens) for kind, tokens in zip(KINDS, (labels, questions)) if tokens}
    texts = [text for pairs in targets.values() for _, text in pairs]
    is_text = all(map(bytes.isascii, (prompt, *texts))) if texts else True
    is_text = is_text and all(map(_is_utf8, (prompt, answer)))

    def shown_as(tokens: bytes) -> str | list[int]:
        return tokens.decode() if is_text else list(unescape(tokens))
    return {"prompt": shown_as(prompt), "answer": shown_as(answer), **{
        kind: [[len(unescape(prompt[:end])), shown_as(text)] for end, text in pairs]
        for kind, pairs in targets.items()}}


def runs(targets: bytes) -> list[tuple[int, bytes]]:
    """(end, text) of targets that follow each other; `end` counts tokens of the prompt."""
    return [(match.start() + 1, match[0]) for match in re.finditer(b"[^\xff]+", targets)]


def marked(prompt: bytes, answer: bytes, labels: bytes = b"", questions: bytes = b"") -> str:
    """An Item's tokens for a person to read: {question} and <label> where they are asked; bytes
    that are no text as \\xff."""
    ends = {end: f"{brackets[0]}{_shown(text)}{brackets[1]}"
            for brackets, targets in (("<>", labels), ("{}", questions))
            for end, text in runs(targets)}
    bounds = [0, *sorted(ends), len(prompt)]
    return "".join(_shown(prompt[start:end]) + ends.get(end, "")
                   for start, end in zip(bounds, bounds[1:])) + _shown(answer)


def _shown(tokens: bytes) -> str:
    return unescape(tokens).decode(errors="backslashreplace")


def _is_utf8(tokens: bytes) -> bool:
    try:
        tokens.decode()
    except UnicodeDecodeError:
        return False
    return True
