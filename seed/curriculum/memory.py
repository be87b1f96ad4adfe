"""Values that are stated early in a prompt and asked for at its end."""
import random
import re
from collections.abc import Iterator

from seed.curriculum.task import LETTERS, Subquestion, Task, integer, pick

MAX_VALUE = 99  # of a variable


class Assign(Task):
    """a=3,b=a+4,b= is answered 7: the variable's value at the end.

    Some statements restate what is known: a=3,b=a+4,b=7,c=b-a,c= is answered 4.
    """
    name, prompt_pattern = "assign", r"([a-z]=([a-z]|\d+)([+-]([a-z]|\d+))?,)+[a-z]="
    chance_levels, fact_pattern = (0.15, 0.155, 0.155), r"([a-z])=(\d+),"
    chance_stated = 0.155

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        count = integer(rng, *((2, 3), (3, 5), (5, 8), (13, 14))[level - 1])
        return self._program(rng, count, level > 2)

    def sample_stated(self, rng: random.Random) -> str:
        return self._program(rng, integer(rng, 2, 8), True)

    def _program(self, rng: random.Random, count: int, may_change: bool) -> str:
        """So many statements; `may_change`: also of a variable that has a value."""
        values: dict[str, int] = {}
        statements = ""
        for _ in range(count):
            known = list(values)
            some = pick(rng, known) if len(known) > 1 else ""
            if some and rng.random() < 0.3:
                statements += f"{some}={values[some]},"
                continue
            is_known = bool(some) and may_change and rng.random() < 0.3
            name = some if is_known else pick(rng, LETTERS)
            while name in values and not is_known:
                name = pick(rng, LETTERS)
            text, value = self._value(rng, values)
            statements += f"{name}={text},"
            values[name] = value
        return f"{statements}{pick(rng, list(values))}="

    @staticmethod
    def _value(rng: random.Random, values: dict[str, int]) -> tuple[str, int]:
        """A number, or the sum or difference of a known variable and another or a digit."""
        known = list(values)
        while known and rng.random() < 0.8:
            left = pick(rng, known)
            right = pick(rng, known) if rng.random() < 0.5 else str(integer(rng, 0, 9))
            operand = values[right] if right in values else int(right)
            plus = rng.random() < 0.5
            value = values[left] + operand if plus else values[left] - operand
            if 0 <= value <= MAX_VALUE:
                return f"{left}{'+' if plus else '-'}{right}", value
        value = integer(rng, 0, 20)
        return str(value), value

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        """Also each value that follows from others, after its statement."""
        yield from super().intermediate_targets(prompt)
        for match in re.finditer(r"([a-z])=(?!\d+,)[^,]+,", prompt):
            question = f"{prompt[:match.end()]}{match[1]}="
            yield Subquestion(match.end(), question, self.solve(question))

    def solve(self, prompt: str) -> str:
        values: dict[str, int] = {}
        *statements, variable = prompt[:-1].split(",")
        for name, left, operator, right in re.findall(
                r"([a-z])=(\w+)(?:([+-])(\w+))?", ",".join(statements)):
            if any(word.isalpha() and word not in values for word in (left, right)):
                return ""
            first, second = (values[word] if word.isalpha() else int(word or 0)
                             for word in (left, right))
            values[name] = first - second if operator == "-" else first + second
        return str(values.get(variable, ""))


class Recall(Task):
    """k:ab,f:qz,k: is answered ab: the value of a letter, among up to 20 pairs.

    A third of the pairs after the second restate what is known.
    """
    name, prompt_pattern = "recall", r"([a-z]:[a-z]{2},)+[a-z]:"
    chance_levels, fact_pattern = (0.004, 0.004, 0.004), r"([a-z]):([a-z]{2}),"
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        count = integer(rng, *((2, 4), (2, 10), (2, 20), (24, 26))[level - 1])
        names = list(LETTERS)
        for i in range(count):  # the first steps of a Fisher-Yates shuffle
            j = integer(rng, i, 25)
            names[i], names[j] = names[j], names[i]
        pairs: list[str] = []
        fresh = 0
        while len(pairs) < count:
            if fresh > 1 and rng.random() < 0.33:
                pairs.append(pick(rng, pairs))
            else:
                pairs.append(f"{names[fresh]}:{pick(rng, LETTERS)}{pick(rng, LETTERS)},")
                fresh += 1
        return f"{''.join(pairs)}{pick(rng, names[:fresh])}:"

    def solve(self, prompt: str) -> str:
        return dict(re.findall(self.fact_pattern, prompt)).get(prompt[-2], "")
