"""Two tasks of state tracking that are not in the curriculum, as classes of a user (2207.02098).
Standard library only."""
import random

LENGTHS = (3, 8), (3, 20), (3, 40), (41, 256)   # bytes of each level's prompts; the last is beyond
MODULUS = 5


class Ordered:
    """What both share: three levels, and longer prompts that are only evaluated."""
    levels, extrapolation_levels, stepwise = 3, 1, True
    closing = ""

    def generate(self, rng: random.Random, level: int) -> tuple:
        low, high = LENGTHS[level - 1]
        shown, answers = self.drawn(rng, low + int(rng.random() * (high - low + 1)))
        labels = [(end, answer) for end, answer in answers if end < len(shown)]
        return shown + self.closing, self.solve(shown), {"labels": labels}

    def verify(self, prompt: str, answer: str) -> bool:
        return prompt[-1:] == self.closing and self.solve(prompt[:-1]) == answer

    def drawn(self, rng: random.Random, length: int) -> tuple[str, list[tuple[int, str]]]:
        """A text of that length, and what is known after the first `end` bytes of it."""
        raise NotImplementedError

    def solve(self, shown: str) -> str:
        raise NotImplementedError


class EvenPairs(Ordered):
    """abba; is answered T: ab and ba occur equally often, so that the last letter is the first."""
    closing = ";"

    def chance(self, level: int) -> float:
        return 0.5

    def drawn(self, rng: random.Random, length: int) -> tuple[str, list[tuple[int, str]]]:
        shown = "".join("ab"[rng.random() < 0.5] for _ in range(length))
        return shown, [(end, self.solve(shown[:end])) for end in range(1, length)]

    def solve(self, shown: str) -> str:
        return "T" if shown[0] == shown[-1] else "F"


class Bracketed(Ordered):
    """((3*4)+(-2))% is answered 0: the value modulo 5. Both sides of an operator share what is left
    of the length uniformly; after each bracket that closes, its value is a label."""
    closing = "%"

    def chance(self, level: int) -> float:
        return 0.32   # of 0: a product is 0 if one of its factors is

    def drawn(self, rng: random.Random, length: int) -> tuple[str, list[tuple[int, str]]]:
        known: list[tuple[int, str]] = []
        shown, _ = self._expression(rng, length, 0, known)
        return shown, known

    def _expression(self, rng: random.Random, length: int, start: int,
                    known: list[tuple[int, str]]) -> tuple[str, int]:
        """Text and value of an expression that begins at `start`."""
        if length <= 4:
            digit = int(rng.random() * MODULUS)
            text = ("", f"{digit}", f"-{digit}", f"({digit})", f"(-{digit})")[length]
            value = (-digit if "-" in text else digit) % MODULUS
        else:
            n_left = 1 + int(rng.random() * (length - 4))
            left, x = self._expression(rng, n_left, start + 1, known)
            operator = "+-*"[int(rng.random() * 3)]
            right, y = self._expression(rng, length - 3 - n_left, start + n_left + 2, known)
            text = f"({left}{operator}{right})"
            value = {"+": x + y, "-": x - y, "*": x * y}[operator] % MODULUS
        if text.endswith(")"):
            known.append((start + length, str(value)))
        return text, value

    def solve(self, shown: str) -> str:
        """By a stack of operands and operators, without the recursion that made it."""
        values, operators, is_operand = [], [], True
        for mark in shown:
            if mark == "(":
                operators.append(mark)
                is_operand = True
            elif mark.isdigit():
                values.append(int(mark))
                while operators and operators[-1] == "~":
                    operators.pop()
                    values[-1] = -values[-1]
                is_operand = False
            elif mark in "+-*":
                operators.append("~" if is_operand else mark)   # ~: a sign
                is_operand = True
            elif mark == ")" and operators:
                operator = operators.pop()
                if operator != "(":
                    y, x = values.pop(), values.pop()
                    values.append({"+": x + y, "-": x - y, "*": x * y}[operator])
                    operators.pop()
                is_operand = False
        return str(values[-1] % MODULUS)
