"""A state that every byte may change, followed over long strings (Deletang et al. 2207.02098)."""
import random
import re

from seed.curriculum.task import Task, integer, pick

MODULUS = 5


class Parity(Task):
    """10110# is answered 1: whether the number of ones is odd."""
    name, prompt_pattern, chance_levels = "parity", r"[01]+#", (0.5, 0.5, 0.5)
    answers, stepwise, term_pattern = (b"0", b"1"), True, "[01]"
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        length = integer(rng, *((3, 8), (3, 20), (3, 40), (41, 256))[level - 1])
        return "".join(["1" if rng.random() < 0.5 else "0" for _ in range(length)]) + "#"

    def solve(self, prompt: str) -> str:
        return str(prompt.count("1") % 2)


class Modular(Task):
    """7+4*2% is answered 0: the value modulo 5, products first."""
    name, prompt_pattern, chance_levels = "modular", r"\d([+*-]\d)+%", (0.2, 0.2, 0.2)
    answers, stepwise, term_pattern = (b"0", b"1", b"2", b"3", b"4"), True, r"[+*-]\d"
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        terms = integer(rng, *((2, 3), (2, 8), (2, 20), (21, 128))[level - 1])
        operators = [pick(rng, "+-*") for _ in range(terms - 1)]
        digits = [integer(rng, 0, 9) for _ in operators]
        # Ending in a sum of a uniform digit keeps the five answers equally likely.
        operators[-1] = pick(rng, "-+")
        marks = [f"{operator}{digit}" for operator, digit in zip(operators, digits)]
        return f"{integer(rng, 0, 9)}{''.join(marks)}%"

    def solve(self, prompt: str) -> str:
        """The sum so far, and the product that may still grow."""
        total, product = 0, int(prompt[0])
        for operator, digit in zip(prompt[1:-1:2], prompt[2:-1:2]):
            if operator == "*":
                product = product * int(digit) % MODULUS
            else:
                total, product = total + product, int(operator + digit)
        return str((total + product) % MODULUS)


class Cycle(Task):
    """RRL@ is answered 1: the place on a ring of five after steps right, left, or none (S)."""
    name, prompt_pattern, chance_levels = "cycle", r"[LRS]+@", (0.2, 0.2, 0.2)
    answers, stepwise, term_pattern = (b"0", b"1", b"2", b"3", b"4"), True, "[LRS]"
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        length = integer(rng, *((3, 8), (3, 20), (3, 40), (41, 256))[level - 1])
        answer = int(rng.random() * MODULUS)
        while True:
            moves = "".join([pick(rng, "LRS") for _ in range(length)])
            if (moves.count("R") - moves.count("L")) % MODULUS == answer:
                return moves + "@"

    def solve(self, prompt: str) -> str:
        return str((prompt.count("R") - prompt.count("L")) % MODULUS)


class Boolean(Task):
    """T&!F|T$ is answered T: ! binds first, then & (and), | (or), ^ (xor) from left to right."""
    name, prompt_pattern, chance_levels = "boolean", r"!?[TF]([&|^]!?[TF])+\$", (0.5, 0.5, 0.5)
    answers, stepwise, term_pattern = (b"T", b"F"), True, r"[&|^]!?[TF]"
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        terms = integer(rng, *((3, 4), (3, 8), (3, 16), (25, 64))[level - 1])
        answer = "T" if rng.random() < 0.5 else "F"
        while True:
            words = [("!" if rng.random() < 0.3 else "") + ("F" if rng.random() < 0.5 else "T")
                     for _ in range(terms)]
            prompt = words[0] + "".join([pick(rng, "&|^") + word for word in words[1:]]) + "$"
            if self.solve(prompt) == answer:
                return prompt

    def solve(self, prompt: str) -> str:
        value = False
        for operator, negate, term in re.findall(r"([&|^]?)(!?)([TF])", prompt):
            operand = (term == "T") != bool(negate)
            value = (value and operand if operator == "&" else
                     value != operand if operator == "^" else value or operand)
        return "T" if value else "F"
