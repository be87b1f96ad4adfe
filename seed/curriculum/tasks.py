"""Tasks: each has a generator, a verifier that works the prompt out again, levels and chance.

Every prompt ends in a byte that closes it and shows, read alone, which task it belongs to. Answers
end with END, which the verifier does not see. Level len(chances) + 1 is the extrapolation level:
its prompts are longer than any that is trained. `chance(level)` is the accuracy of the best answer
that ignores the prompt, on training or holdout items, whichever is higher (a holdout of few prompts
has commoner answers), rounded up. Tasks of few answers list them, and examinations balance them.
"""
import random
import re
from typing import NamedTuple

from seed.curriculum.vocab import encode

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Item(NamedTuple):
    task: str
    level: int
    prompt: bytes
    answer: bytes  # without END


def integer(rng: random.Random, low: int, high: int) -> int:
    """Uniform in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def digits(rng: random.Random, low: int, high: int) -> int:
    """A number of low..high digits, each length equally likely."""
    length = integer(rng, low, high)
    return integer(rng, 0 if length == 1 else 10 ** (length - 1), 10 ** length - 1)


def letters(rng: random.Random, low: int, high: int) -> str:
    return "".join([LETTERS[int(rng.random() * 26)] for _ in range(integer(rng, low, high))])


class Task:
    """Subclasses give `name`, `form` (what a prompt looks like), `chances`, `ask` and `solve`."""
    name: str
    form: str                    # regular expression of the whole prompt
    chances: tuple[float, ...]   # one for each training level
    answers: tuple[bytes, ...] = ()  # all of them, where they are few
    extrapolates = True

    @property
    def levels(self) -> range:
        return range(1, len(self.chances) + 1)

    def chance(self, level: int) -> float:
        """Chance level in 0..1; the extrapolation level counts as the hardest trained one."""
        return self.chances[min(level, len(self.chances)) - 1]

    def ask(self, rng: random.Random, level: int) -> str:
        raise NotImplementedError

    def solve(self, prompt: str) -> str:
        raise NotImplementedError

    def generate(self, rng: random.Random, level: int) -> Item:
        prompt = self.ask(rng, level)
        return Item(self.name, level, encode(prompt), encode(self.solve(prompt)))

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        """True if `prompt` is one of this task's and `answer` (without END) is right."""
        text = prompt.decode("utf-8", errors="replace")
        return bool(re.fullmatch(self.form, text)) and encode(self.solve(text)) == answer


class Copy(Task):
    """abc> is answered abc."""
    name, form, chances = "copy", r"[a-z]+>", (0.003, 0.003, 0.003)

    def ask(self, rng: random.Random, level: int) -> str:
        return letters(rng, *((3, 4), (3, 8), (3, 12), (16, 24))[level - 1]) + ">"

    def solve(self, prompt: str) -> str:
        return prompt[:-1]


class Repeat(Task):
    """abc& is answered abcabc."""
    name, form, chances = "repeat", r"[a-z]+&", (0.003, 0.003, 0.003)

    def ask(self, rng: random.Random, level: int) -> str:
        return letters(rng, *((3, 3), (3, 4), (3, 6), (9, 12))[level - 1]) + "&"

    def solve(self, prompt: str) -> str:
        return 2 * prompt[:-1]


def run(rng: random.Random, shown: int, total: int, low: int, high: int, first: int,
        span: int) -> str:
    """`shown` numbers of an arithmetic run up or down by low..high; all `total` are >= first."""
    step = integer(rng, low, high) * (1 if rng.random() < 0.5 else -1)
    start = first + max(0, -step * (total - 1)) + integer(rng, 0, span - 1)
    return ",".join([str(start + i * step) for i in range(shown)])


class Count(Task):
    """3,6,9: is answered 12,15,18: the next three, up or down."""
    name, form, chances = "count", r"\d+,\d+,\d+:", (0.025, 0.008, 0.004)

    def ask(self, rng: random.Random, level: int) -> str:
        return run(rng, 3, 6, *((1, 3, 0, 100), (1, 9, 0, 150), (1, 25, 0, 250),
                                (1, 9, 1000, 5000))[level - 1]) + ":"

    def solve(self, prompt: str) -> str:
        _, middle, last = map(int, prompt[:-1].split(","))
        return ",".join([str(last + i * (last - middle)) for i in (1, 2, 3)])


class Next(Task):
    """abcabca; is answered b, and 4,8,12,16; is answered 20: one more of a cycle or a run."""
    name, form = "next", r"[a-z]{4,};|\d+(,\d+){3,};"
    chances = (0.055, 0.03, 0.011)

    def ask(self, rng: random.Random, level: int) -> str:
        if level == 1:
            period = letters(rng, 2, 3)
            return (3 * period)[:2 * len(period) + integer(rng, 0, len(period) - 1)] + ";"
        if level == 4:
            return run(rng, 6, 7, 1, 9, 1000, 5000) + ";"
        return run(rng, 4, 5, *((1, 9, 0, 100), (10, 20, 0, 300))[level - 2]) + ";"

    def solve(self, prompt: str) -> str:
        shown = prompt[:-1]
        if "," in shown:
            *_, middle, last = map(int, shown.split(","))
            return str(2 * last - middle)
        for period in (2, 3):
            if shown[period:] == shown[:-period]:
                return shown[-period]
        return ""


def operands(rng: random.Random, level: int) -> tuple[int, int]:
    """Level 1: 0..19; 2: two digits; 3: one to three digits; 4: four or five digits."""
    if level == 1:
        return integer(rng, 0, 19), integer(rng, 0, 19)
    low, high = ((2, 2), (1, 3), (4, 5))[level - 2]
    return digits(rng, low, high), digits(rng, low, high)


class Add(Task):
    """12+39= is answered 51, most significant digit first."""
    name, form, chances = "add", r"\d+\+\d+=", (0.1, 0.02, 0.036)

    def ask(self, rng: random.Random, level: int) -> str:
        return "%d+%d=" % operands(rng, level)

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("+")
        return str(int(left) + int(right))


class AddReversed(Add):
    """12+39~ is answered 15: least significant digit first, as carries run."""
    name, form = "add_reversed", r"\d+\+\d+~"

    def ask(self, rng: random.Random, level: int) -> str:
        return "%d+%d~" % operands(rng, level)

    def solve(self, prompt: str) -> str:
        return super().solve(prompt)[::-1]


class Subtract(Task):
    """51-39= is answered 12; the result is never negative."""
    name, form, chances = "subtract", r"\d+-\d+=", (0.165, 0.036, 0.04)

    def ask(self, rng: random.Random, level: int) -> str:
        low, high = sorted(operands(rng, level))
        return f"{high}-{low}="

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("-")
        return str(int(left) - int(right))


class Compare(Task):
    """12<39! is answered T, else F; the truth is drawn first, so both are equally likely."""
    name, form, chances = "compare", r"\d+<\d+!", (0.5, 0.5, 0.5)
    answers = (b"T", b"F")

    def ask(self, rng: random.Random, level: int) -> str:
        if level == 1:
            low, high = integer(rng, 0, 29), integer(rng, 0, 29)
        else:
            low = digits(rng, *((2, 2), (1, 3), (5, 6))[level - 2])
            near = rng.random() < 0.5 and level < 4
            high = low + integer(rng, 1, 9) if near else digits(
                rng, *((2, 2), (1, 3), (5, 6))[level - 2])
        low, high = sorted((low, high))
        if rng.random() < 0.5:
            return f"{low}<{high + (low == high)}!"
        return f"{high}<{low}!"

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("<")
        return "T" if int(left) < int(right) else "F"


class Parity(Task):
    """10110# is answered 1: whether the number of ones is odd."""
    name, form, chances = "parity", r"[01]+#", (0.5, 0.5, 0.5)
    answers = (b"0", b"1")

    def ask(self, rng: random.Random, level: int) -> str:
        length = integer(rng, *((3, 8), (3, 12), (3, 20), (24, 40))[level - 1])
        return f"{integer(rng, 0, 2 ** length - 1):0{length}b}#"

    def solve(self, prompt: str) -> str:
        return str(prompt.count("1") % 2)


class Modular(Task):
    """7+4-2% is answered 4: the value modulo 5, worked out from left to right."""
    name, form, chances = "modular", r"\d+([+*-]\d+)+%", (0.2, 0.2, 0.2)
    answers = (b"0", b"1", b"2", b"3", b"4")

    def ask(self, rng: random.Random, level: int) -> str:
        if level == 1:
            return f"{integer(rng, 0, 19)}+{integer(rng, 0, 19)}%"
        if level == 2:
            return f"{integer(rng, 0, 19)}{'+-'[rng.random() < 0.5]}{integer(rng, 0, 19)}%"
        prompt = str(integer(rng, 0, 9))
        for _ in range(1 if level == 3 else integer(rng, 4, 6)):
            prompt += f"{'+-*'[integer(rng, 0, 2)]}{integer(rng, 0, 9)}"
        # Ending in a sum of a uniform digit keeps the five answers equally likely.
        return f"{prompt}{'+-'[rng.random() < 0.5]}{integer(rng, 0, 9)}%"

    def solve(self, prompt: str) -> str:
        value = 0
        for operator, number in re.findall(r"([+*-]?)(\d+)", prompt):
            other = int(number)
            value = (value * other if operator == "*" else
                     value - other if operator == "-" else value + other)
        return str(value % 5)


class Boolean(Task):
    """T&!F|T$ is answered T: ! binds first, then & (and), | (or), ^ (xor) from left to right."""
    name, form, chances = "boolean", r"!?[TF]([&|^]!?[TF])+\$", (0.5, 0.5, 0.5)
    answers = (b"T", b"F")

    def ask(self, rng: random.Random, level: int) -> str:
        low, high = ((3, 3), (3, 4), (3, 5), (12, 16))[level - 1]
        wanted = "T" if rng.random() < 0.5 else "F"
        while True:
            terms = [("", "!")[rng.random() < 0.3] + "TF"[rng.random() < 0.5]
                     for _ in range(integer(rng, low, high))]
            prompt = terms[0] + "".join(["&|^"[integer(rng, 0, 2)] + t for t in terms[1:]]) + "$"
            if self.solve(prompt) == wanted:
                return prompt

    def solve(self, prompt: str) -> str:
        value, operator, negate = False, "|", False
        for mark in prompt[:-1]:
            if mark == "!":
                negate = True
            elif mark in "&|^":
                operator = mark
            else:
                term = (mark == "T") != negate
                value = (value and term if operator == "&" else
                         value or term if operator == "|" else value != term)
                negate = False
        return "T" if value else "F"


class Identity(Task):
    """who are you? is answered from the profile's [identity] table, in any wording.

    A wording is an opening, a letter case and a closing; the holdout keeps whole wordings back.
    """
    name, form, extrapolates = "identity", r"[^?]+\?+", False
    openings = ("", "please, ", "tell me, ", "hey, ", "robot, ", "seed, ", "hello, ", "now, ",
                "and ", "so, ", "say, ", "well, ")
    closings = ("?", "??", " ?")
    cases = (str, str.capitalize, str.upper)

    def __init__(self, table: dict[str, str]):
        self.table = {question.strip(" ?").lower(): answer for question, answer in table.items()}
        self.questions = list(self.table)
        self.answers = tuple(encode(answer) for answer in self.table.values())
        self.chances = (max(map(self.answers.count, self.answers)) / len(self.answers),)

    def ask(self, rng: random.Random, level: int) -> str:
        opening, question, case, closing = [
            int(rng.random() * len(choices))
            for choices in (self.openings, self.questions, self.cases, self.closings)]
        words = self.openings[opening] + self.questions[question]
        return self.cases[case](words) + self.closings[closing]

    def solve(self, prompt: str) -> str:
        words = prompt.rstrip("? ").lower()
        for opening in self.openings:
            if words.startswith(opening) and words[len(opening):] in self.table:
                return self.table[words[len(opening):]]
        return ""


PLAIN = {task.name: task for task in (
    Copy, Repeat, Count, Next, Add, AddReversed, Subtract, Compare, Parity, Modular, Boolean)}
NAMES = (*PLAIN, Identity.name)
