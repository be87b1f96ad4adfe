"""Addition, subtraction, comparison, sorting and multiplication of numbers."""
import random

from seed.curriculum.task import Task, integer, number_of_digits


def operands(rng: random.Random, level: int) -> tuple[int, int]:
    """Level 1: 0..19; 2: two digits; 3: one to three digits; 4: four or five digits."""
    if level == 1:
        return integer(rng, 0, 19), integer(rng, 0, 19)
    low, high = ((2, 2), (1, 3), (4, 5))[level - 2]
    return number_of_digits(rng, low, high), number_of_digits(rng, low, high)


class Add(Task):
    """12+39= is answered 51, most significant digit first."""
    name, prompt_pattern, chance_levels = "add", r"\d+\+\d+=", (0.1, 0.02, 0.036)
    chance_stated = 0.002

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        return "%d+%d=" % operands(rng, level)

    def sample_stated(self, rng: random.Random) -> str:
        return f"{integer(rng, 0, 999)}+{integer(rng, 0, 999)}="

    def solve(self, prompt: str) -> str:
        return str(sum(map(int, prompt[:-1].split("+"))))


class Subtract(Task):
    """51-39= is answered 12; the result is never negative."""
    name, prompt_pattern, chance_levels = "subtract", r"\d+-\d+=", (0.165, 0.04, 0.045)
    chance_stated = 0.003

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        low, high = sorted(operands(rng, level))
        return f"{high}-{low}="

    def sample_stated(self, rng: random.Random) -> str:
        low, high = sorted((integer(rng, 0, 999), integer(rng, 0, 999)))
        return f"{high}-{low}="

    def solve(self, prompt: str) -> str:
        mark = prompt.index("-", 1)   # a number may be negative too
        return str(int(prompt[:mark]) - int(prompt[mark + 1:-1]))

    def answer_to(self, text: str) -> str:
        """A result below zero is asked for in other words (wording.py)."""
        answer = super().answer_to(text)
        return "" if answer.startswith("-") else answer


class Compare(Task):
    """12<39! is answered T, else F; the answer is drawn first, so both are equally likely."""
    name, prompt_pattern, chance_levels = "compare", r"\d+<\d+!", (0.5, 0.5, 0.5)
    answers, chance_stated = (b"T", b"F"), 0.5

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        if level == 1:
            low, high = integer(rng, 0, 29), integer(rng, 0, 29)
        else:
            digits = ((2, 2), (1, 3), (5, 6))[level - 2]
            low = number_of_digits(rng, *digits)
            near = rng.random() < 0.5 and level < 4
            high = low + integer(rng, 1, 9) if near else number_of_digits(rng, *digits)
        low, high = sorted((low, high))
        if rng.random() < 0.5:
            return f"{low}<{high + 1 if low == high else high}!"
        return f"{high}<{low}!"

    def sample_stated(self, rng: random.Random) -> str:
        return f"{integer(rng, 0, 999)}<{integer(rng, 0, 999)}!"

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("<")
        return "T" if int(left) < int(right) else "F"


class Sort(Task):
    """7,31,5^ is answered 5,7,31."""
    name, prompt_pattern, chance_levels = "sort", r"\d+(,\d+)+\^", (0.045, 0.003, 0.002)
    chance_stated = 0.001

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        count = integer(rng, *((3, 3), (3, 4), (3, 5), (7, 8))[level - 1])
        low, high = ((1, 1), (1, 2), (1, 2), (2, 2))[level - 1]
        return ",".join([str(number_of_digits(rng, low, high)) for _ in range(count)]) + "^"

    def sample_stated(self, rng: random.Random) -> str:
        return ",".join([str(integer(rng, 0, 99)) for _ in range(integer(rng, 3, 5))]) + "^"

    def solve(self, prompt: str) -> str:
        return ",".join(sorted(prompt[:-1].split(","), key=int))


class AddLong(Task):
    """21+93~ is answered 150: 12 + 39 = 051 with every number's least significant digit first.

    The answer has one digit more than the longer number, so that its length reveals nothing.
    """
    name, prompt_pattern, chance_levels = "add_long", r"\d+\+\d+~", (0.013, 0.003, 0.001)
    chance_stated = 0.001

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        low, high = ((1, 4), (1, 10), (10, 10), (12, 16))[level - 1]
        return self._sum(number_of_digits(rng, low, high), number_of_digits(rng, low, high))

    def sample_stated(self, rng: random.Random) -> str:
        return self._sum(integer(rng, 0, 10 ** 10 - 1), integer(rng, 0, 10 ** 10 - 1))

    def _sum(self, left: int, right: int) -> str:
        return f"{str(left)[::-1]}+{str(right)[::-1]}~"

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("+")
        total = int(left[::-1]) + int(right[::-1])
        return f"{total:0{max(len(left), len(right)) + 1}d}"[::-1]


class Multiply(Task):
    """724*6~ is answered 2652: 427 * 6 = 2562 with the least significant digit first.

    In other words (wording.py) it also is 6*7=, which is answered 42.
    """
    name, prompt_pattern, chance_levels = "multiply", r"\d+\*\d~", (0.2, 0.16, 0.11)
    chance_stated = 0.11

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        low, high = ((1, 1), (1, 2), (2, 4), (6, 7))[level - 1]
        return f"{str(number_of_digits(rng, low, high))[::-1]}*{integer(rng, 0, 9)}~"

    def sample_stated(self, rng: random.Random) -> str:
        return f"{str(integer(rng, 0, 9999))[::-1]}*{integer(rng, 0, 9)}~"

    def solve(self, prompt: str) -> str:
        left, right = prompt[:-1].split("*")
        if prompt[-1] == "=":
            return str(int(left) * int(right))
        return str(int(left[::-1]) * int(right))[::-1]
