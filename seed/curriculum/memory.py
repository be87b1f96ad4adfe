"""What was said before, and what has become of it."""
import random
import re

from seed.curriculum.task import LETTERS, Task, integer

HIGHEST = 99  # value of a variable


class Assign(Task):
    """a=3,b=a+4,b= is answered 7: the variable's value at the end."""
    name, form = "assign", r"([a-z]=[a-z0-9]+([+-][a-z0-9]+)?,)+[a-z]="
    chances = (0.15, 0.155, 0.155)

    def ask(self, rng: random.Random, level: int) -> str:
        values: dict[str, int] = {}
        said = ""
        for _ in range(integer(rng, *((2, 2), (2, 4), (4, 6), (10, 12))[level - 1])):
            known = list(values)
            again = len(known) > 1 and level > 2 and rng.random() < 0.3
            name = known[int(rng.random() * len(known))] if again else self._fresh(rng, values)
            text, value = self._value(rng, values)
            said += f"{name}={text},"
            values[name] = value
        known = list(values)
        return f"{said}{known[int(rng.random() * len(known))]}="

    @staticmethod
    def _fresh(rng: random.Random, values: dict[str, int]) -> str:
        while True:
            name = LETTERS[int(rng.random() * 26)]
            if name not in values:
                return name

    @staticmethod
    def _value(rng: random.Random, values: dict[str, int]) -> tuple[str, int]:
        """A number, or the sum or difference of a known variable and another or a digit."""
        known = list(values)
        while known and rng.random() < 0.8:
            left = known[int(rng.random() * len(known))]
            right = (known[int(rng.random() * len(known))] if rng.random() < 0.5 else
                     str(integer(rng, 0, 9)))
            other = values[right] if right in values else int(right)
            plus = rng.random() < 0.5
            value = values[left] + other if plus else values[left] - other
            if 0 <= value <= HIGHEST:
                return f"{left}{'+' if plus else '-'}{right}", value
        value = integer(rng, 0, 20)
        return str(value), value

    def solve(self, prompt: str) -> str:
        values: dict[str, int] = {}
        *said, asked = prompt[:-1].split(",")
        for name, left, operator, right in re.findall(
                r"([a-z])=(\w+)(?:([+-])(\w+))?", ",".join(said)):
            one, other = (values.get(word, 0) if word.isalpha() else int(word or 0)
                          for word in (left, right))
            values[name] = one - other if operator == "-" else one + other
        return str(values.get(asked, ""))


class Recall(Task):
    """k:ab,f:qz,k: is answered ab: what was said of a letter, among up to 20 pairs."""
    name, form, chances = "recall", r"([a-z]:[a-z]{2},)+[a-z]:", (0.004, 0.004, 0.004)

    def ask(self, rng: random.Random, level: int) -> str:
        count = integer(rng, *((2, 4), (2, 10), (2, 20), (24, 26))[level - 1])
        names = list(LETTERS)
        for i in range(count):  # the first steps of a Fisher-Yates shuffle
            j = integer(rng, i, 25)
            names[i], names[j] = names[j], names[i]
        pairs = [f"{name}:{LETTERS[int(rng.random() * 26)]}{LETTERS[int(rng.random() * 26)]},"
                 for name in names[:count]]
        return f"{''.join(pairs)}{names[int(rng.random() * count)]}:"

    def solve(self, prompt: str) -> str:
        return dict(re.findall(r"([a-z]):([a-z]{2}),", prompt)).get(prompt[-2], "")
