"""Questions about numbers in other words."""
import random

from seed.curriculum.task import Task, integer, number_of_digits
from seed.curriculum.wording_forms import Form, Wordings, framed, replacing

NUMBER = Form(r"-?\d+")
OPERANDS = {"a": NUMBER, "b": NUMBER}
COUNTING = {"a": Form(r"\d+"), "b": Form(r"\d+")}
BELOW_ZERO_FRACTION = 0.3   # of the sums and differences
ASKED_MOST = 3                # times as often as what people ask less

LIST = r"\d+(?:,\d+){2,}"
SPACED = r"\d+(?: \d+){2,}"


def _spaced(pattern: str = SPACED) -> Form:
    return Form(pattern, lambda text: text.replace(",", " "), lambda text: text.replace(" ", ","))


def _below_zero(rng: random.Random, task: Task, level: int) -> str:
    """A sum with a negative number or a difference below zero, now and then."""
    prompt = task.sample_prompt(rng, level)
    if rng.random() >= BELOW_ZERO_FRACTION:
        return prompt
    if task.name == "add":
        return f"-{prompt}"
    left, right = prompt[:-1].split("-")
    return f"{right}-{left}="


def _product(rng: random.Random, task: Task, level: int) -> str:
    """Digits in the usual order: of one digit by one, or of two by one."""
    left, right = number_of_digits(rng, 1, min(level, 2)), integer(rng, 0, 9)
    return f"{left}*{right}=" if rng.random() < 0.5 else f"{right}*{left}="


def _and_last(text: str) -> str:
    first, _, last = text.rpartition(",")
    return f"{first} and {last}"


SUM = Wordings(
    "add", "{a}+{b}=", r"(?P<a>-?\d+)\+(?P<b>-?\d+)=", OPERANDS,
    ("{a}+{b}=", "{a}+{b}=?", "{a}+{b}?", "{a}+{b}", "{a}+{b}:", "{a}+{b}=_",
     "{a}+{b}=..."),
    ("add {a} and {b}.", "{a} plus {b}?",
     *framed("{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}"), "add {b} to {a}.",
     "{a} and {b} make?", "can you add {a} and {b}?", "what do you get if you add {a} and {b}?",
     "sum {a} and {b}.", "{a} and {b} together?", "add {a}+{b}.",
     "if i have {a} and get {b}, how many do i have?"), _below_zero, ASKED_MOST)

DIFFERENCE = Wordings(
    "subtract", "{a}-{b}=", r"(?P<a>-?\d+)-(?P<b>-?\d+)=", OPERANDS,
    ("{a}-{b}=", "{a}-{b}=?", "{a}-{b}?", "{a}-{b}", "{a}-{b}:", "{a}-{b}=_",
     "{a}-{b}=..."),
    ("subtract {b} from {a}.", "{a} minus {b}?",
     *framed("{a}-{b}", "{a} minus {b}", "{a} take away {b}"), "take {b} from {a}.",
     "take {b} away from {a}.", "can you subtract {b} from {a}?",
     "what is left if you take {b} from {a}?",
     "what do you get if you subtract {b} from {a}?",
     "if i have {a} and lose {b}, how many do i have?"), _below_zero, ASKED_MOST)

PRODUCT = Wordings(
    "multiply", "{a}*{b}=", r"(?P<a>\d+)\*(?P<b>\d+)=", COUNTING,
    ("{a}*{b}=", "{a}*{b}=?", "{a}*{b}?", "{a}x{b}=", "{a}*{b}", "{a}x{b}=?", "{a}x{b}?",
     "{a}*{b}=_", "{a}*{b}=..."),
    ("multiply {a} by {b}.", "{a} times {b}?",
     *framed("{a}*{b}", "{a} times {b}", "{a} x {b}", "{a} multiplied by {b}"),
     "multiply {a} and {b}.", "the product of {a} and {b}?", "what is the product of {a} and {b}?",
     "what is {a}x{b}?", "can you multiply {a} by {b}?"), _product, ASKED_MOST)


def _reversed_digits(task: str, mark: str, word: str) -> Wordings:
    body = f"{{a}}{mark}{{b}}"
    return Wordings(
        task, body + "~", rf"(?P<a>\d+)\{mark}(?P<b>\d+)~", COUNTING,
        tuple(body + closing for closing in ("~", "~?", "~=", "~=?", "~:")),
        tuple(phrase.replace("_", f"{{a}} {word} {{b}}" if i % 2 else body)
              for i, phrase in enumerate((
                  "_, last digit first?", "_, last digit first=", "_ backwards?", "_ backwards=",
                  "backwards, _=", "backwards, what is _?", "last digit first: _=",
                  "with the last digit first, what is _?"))))


COMPARISON = Wordings(
    "compare", "{a}<{b}!", r"(?P<a>\d+)<(?P<b>\d+)!", COUNTING,
    ("{a}<{b}!", "{a}<{b}?", "{a}<{b} !?", "{b}>{a}?", "{b}>{a}!", "{a}<{b}, t or f?",
     "{b}>{a}, t or f?"),
    (*(text.replace("_", word) for word in ("less than", "smaller than", "below") for text in (
        "is {a} _ {b}?", "{a} is _ {b}, true or false?", "{a} _ {b}?", "true or false: {a} _ {b}?",
        "is it true that {a} is _ {b}?")),
     *(text.replace("_", word) for word in ("more than", "greater than", "bigger than",
                                            "larger than", "above") for text in (
        "is {b} _ {a}?", "{b} is _ {a}, true or false?", "{b} _ {a}?",
        "is it true that {b} is _ {a}?")),
     "is {a}<{b}?", "is {b}>{a}?", "true or false: {a}<{b}?", "true or false: {b}>{a}?",
     "is it true that {a}<{b}?", "does {b} come after {a}?", "does {a} come before {b}?"))

ORDER = Wordings(
    "sort", "{x}^", r"(?P<x>\d+(?:,\d+)+)\^", {
        "x": Form(r"\d+(?:,\d+)+"), "x:spaced": _spaced(r"\d+(?: \d+)+"),
        "x:and": Form(r"\d+(?:,\d+)* and \d+", _and_last, lambda text: text.replace(" and ", ","))},
    ("{x}^", "{x}^?", "{x:spaced}^", "{x}^=", "{x}^:", "{x:spaced}^?"),
    tuple(text.replace("_", form) for form in ("{x}", "{x:spaced}", "{x:and}") for text in (
        "sort _.", "sort: _.", "sort the numbers _.", "put _ in order.", "order _.",
        "put these in order: _.", "sort these numbers: _.", "arrange _.", "can you sort _?",
        "_ in order?", "what is _ in order?", "sort _ from small to large.", "_, sorted?",
        "sort from smallest to largest: _.", "order the numbers _.")))

COUNT = Wordings(
    "count", "{x}:", r"(?P<x>\d+,\d+,\d+):", {
        "x": Form(r"\d+,\d+,\d+"), "x:spaced": _spaced(r"\d+ \d+ \d+")},
    ("{x}:", "{x}:?", "{x}...", "{x:spaced}:", "{x},...", "{x:spaced}..."),
    tuple(text.replace("_", form) for form in ("{x}", "{x:spaced}") for text in (
        "what are the next three: _?", "what are the next three after _?", "count on: _.",
        "continue _.", "go on: _.", "the next three numbers after _?", "keep counting: _.",
        "count on from _.", "continue: _.", "_ and so on:", "what are the next three numbers: _?",
        "give me the next three: _.", "three more: _.")))

NEXT = Wordings(
    "next", "{x};", r"(?P<x>[a-z]{4,}|\d+(?:,\d+){2,});", {
        "x": Form(rf"[a-z]{{4,}}|{LIST}"), "x:spaced": _spaced(), "x:letters": Form(r"[a-z]{4,}"),
        "x:apart": Form(r"[a-z](?: [a-z]){3,}", " ".join, lambda text: text.replace(" ", ""))},
    ("{x};", "{x};?", "{x},?", "{x:spaced};", "{x:apart};", "{x:spaced};?", "{x},_?"),
    (*(text.replace("_", form) for form in ("{x}", "{x:spaced}", "{x:apart}") for text in (
        "what comes next: _?", "what comes after _?", "what is next: _?",
        "_, what comes next?", "what comes next after _?", "next: _?", "find the next one: _.",
        "what follows _?", "next after _?", "guess what comes next: _.", "what comes next in _?")),
     *(text.replace("_", form) for form in ("{x}", "{x:spaced}") for text in (
        "what is the next number: _?", "which number comes next: _?", "which number follows _?",
        "what is the next term of _?", "what number comes next: _?")),
     "which letter comes next: {x:letters}?", "which letter follows {x:letters}?",
     "what is the next letter: {x:letters}?"))

GAP = r"(?:\d+|_)(?:,(?:\d+|_)){3,}"
SPACED_GAP = r"(?:\d+|_)(?: (?:\d+|_)){3,}"
MISSING = Wordings(
    "missing", "{x};", r"(?P<x>(?=[^_]*_[^_]*$)(?:\d+|_)(?:,(?:\d+|_)){3,});", {
        "x": Form(GAP), "x:spaced": _spaced(SPACED_GAP),
        "x:mark": Form(GAP.replace("_", r"\?"), lambda text: text.replace("_", "?"),
                       lambda text: text.replace("?", "_"))},
    ("{x};", "{x};?", "{x:spaced};", "{x:mark};", "{x:mark}:", "{x}:", "{x:mark}"),
    tuple(text.replace("_", form) for form in ("{x}", "{x:spaced}", "{x:mark}") for text in (
        "which number is missing: _?", "what is missing: _?", "what is the missing number in _?",
        "fill in the blank: _.", "fill the gap: _.", "find the missing number: _.",
        "_, what is missing?", "_, which number is missing?", "what goes in the gap: _?",
        "what is missing in _?", "which number fills the gap: _?", "missing number: _.",
        "the missing term of _?")))

TERMS = {"+": " plus ", "-": " minus ", "*": " times "}


def _modulo(task: str, prompt: str, pattern: str, words: str) -> Wordings:
    """`prompt`, `pattern`, `words`: of an expression, and of one whose operators are words."""
    frames = ("_ modulo 5?", "what is _ modulo 5?", "what is _ mod 5?", "_ mod 5=",
              "_ modulo 5=", "the remainder of _ by 5?", "calculate _ modulo 5.",
              "what is the remainder of _ divided by 5?", "compute _ mod 5.", "take _ modulo 5.",
              "what is left of _ after fives?", "modulo 5, what is _?")
    return Wordings(
        task, "{x}%", f"(?P<x>{prompt})%", {"x": Form(pattern), "x:words": replacing(TERMS, words)},
        ("{x}%", "{x}%=", "{x}%?", "{x}% =?", "{x:words}%", "{x}%5=", "{x}%:"),
        tuple(frame.replace("_", form) for form in ("{x}", "{x:words}") for frame in frames))


CHAIN = r"\d(?:[-+*]\d)+"
WORD_CHAIN = r"\d(?: (?:plus|minus|times) \d)+"
NUMBERS = (
    SUM, DIFFERENCE, PRODUCT, _reversed_digits("add_long", "+", "plus"),
    _reversed_digits("multiply", "*", "times"), COMPARISON, ORDER, COUNT, NEXT, MISSING,
    _modulo("modular", CHAIN, CHAIN, WORD_CHAIN),
    _modulo("nested", r"\([\d()+*-]+\)", r"\([\d()+*-]+\)",
            r"\((?:[\d()]| ?(?:plus|minus|times) ?)+\)"))
