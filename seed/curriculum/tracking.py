"""A state that every byte may change, followed over long strings (Deletang et al. 2207.02098)."""
import random
import re
from collections.abc import Iterator

from seed.curriculum.task import Subquestion, Task, integer

MODULUS = 5


class Parity(Task):
    """10110# is answered 1: whether the number of ones is odd."""
    name, prompt_pattern, chance_levels = "parity", r"[01]+#", (0.5, 0.5, 0.5)
    answers, stepwise = (b"0", b"1"), True

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        length = integer(rng, *((3, 8), (3, 20), (3, 40), (41, 256))[level - 1])
        return "".join(["1" if rng.random() < 0.5 else "0" for _ in range(length)]) + "#"

    def solve(self, prompt: str) -> str:
        return str(prompt.count("1") % 2)

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        odd = False
        for end, bit in enumerate(prompt[:-1], 1):
            odd = odd != (bit == "1")
            yield Subquestion(end, prompt[:end] + "#", str(int(odd)))


class Modular(Task):
    """7+4*2% is answered 0: the value modulo 5, products first."""
    name, prompt_pattern, chance_levels = "modular", r"\d([+*-]\d)+%", (0.2, 0.2, 0.2)
    answers, stepwise = (b"0", b"1", b"2", b"3", b"4"), True

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        terms = integer(rng, *((2, 3), (2, 8), (2, 20), (21, 128))[level - 1])
        marks = [mark + "0123456789"[int(rng.random() * 10)]
                 for mark in ["+-*"[int(rng.random() * 3)] for _ in range(terms - 1)]]
        # Ending in a sum of a uniform digit keeps the five answers equally likely.
        marks[-1] = ("-" if rng.random() < 0.5 else "+") + marks[-1][1]
        return f"{integer(rng, 0, 9)}{''.join(marks)}%"

    def solve(self, prompt: str) -> str:
        return str(list(self._values(prompt))[-1])

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        for i, value in enumerate(list(self._values(prompt))[1:]):
            yield Subquestion(2 * i + 3, prompt[:2 * i + 3] + "%", str(value))

    @staticmethod
    def _values(prompt: str) -> Iterator[int]:
        """The value after each digit: the sum so far, whose last product may still grow."""
        total, product = 0, int(prompt[0])
        yield product % MODULUS
        for operator, digit in zip(prompt[1:-1:2], prompt[2:-1:2]):
            if operator == "*":
                product = product * int(digit) % MODULUS
            else:
                total, product = total + product, int(operator + digit)
            yield (total + product) % MODULUS


class Cycle(Task):
    """RRL@ is answered 1: the place on a ring of five after steps right, left, or none (S)."""
    name, prompt_pattern, chance_levels = "cycle", r"[LRS]+@", (0.2, 0.2, 0.2)
    answers, stepwise = (b"0", b"1", b"2", b"3", b"4"), True

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        length = integer(rng, *((3, 8), (3, 20), (3, 40), (41, 256))[level - 1])
        answer = int(rng.random() * MODULUS)
        while True:
            moves = "".join(["LRS"[int(rng.random() * 3)] for _ in range(length)])
            if (moves.count("R") - moves.count("L")) % MODULUS == answer:
                return moves + "@"

    def solve(self, prompt: str) -> str:
        return str((prompt.count("R") - prompt.count("L")) % MODULUS)

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        place = 0
        for end, move in enumerate(prompt[:-1], 1):
            place = (place + {"L": -1, "R": 1, "S": 0}[move]) % MODULUS
            yield Subquestion(end, prompt[:end] + "@", str(place))


class Boolean(Task):
    """T&!F|T$ is answered T: ! binds first, then & (and), | (or), ^ (xor) from left to right."""
    name, prompt_pattern, chance_levels = "boolean", r"!?[TF]([&|^]!?[TF])+\$", (0.5, 0.5, 0.5)
    answers, stepwise = (b"T", b"F"), True

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        terms = integer(rng, *((3, 4), (3, 8), (3, 16), (25, 64))[level - 1])
        answer = "T" if rng.random() < 0.5 else "F"
        while True:
            words = [("!" if rng.random() < 0.3 else "") + ("F" if rng.random() < 0.5 else "T")
                     for _ in range(terms)]
            prompt = words[0] + "".join(["&|^"[int(rng.random() * 3)] + w for w in words[1:]]) + "$"
            if self.solve(prompt) == answer:
                return prompt

    def solve(self, prompt: str) -> str:
        return [step.answer for step in self._steps(prompt)][-1]

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        return (step for step in self._steps(prompt) if len(step.question) > 3)

    @staticmethod
    def _steps(prompt: str) -> Iterator[Subquestion]:
        """The value after each term."""
        value = False
        for match in re.finditer(r"([&|^]?)(!?)([TF])", prompt):
            operator, negate, term = match.groups()
            operand = (term == "T") != bool(negate)
            value = (value and operand if operator == "&" else
                     value != operand if operator == "^" else value or operand)
            yield Subquestion(match.end(), prompt[:match.end()] + "$", "T" if value else "F")
