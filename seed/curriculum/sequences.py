"""Continuing a sequence, and finding the term that is missing in one."""
import random
import re
from collections.abc import Iterator
from itertools import accumulate

from seed.curriculum.task import Subquestion, Task, integer, letters, pick


def run(rng: random.Random, total: int, max_step: int, first: int, span: int) -> list[int]:
    """`total` numbers up or down by 1..max_step, all of them >= first."""
    step = integer(rng, 1, max_step) * pick(rng, (1, -1))
    start = first + max(0, -step * (total - 1)) + integer(rng, 0, span - 1)
    return [start + i * step for i in range(total)]


def alternation(rng: random.Random, total: int, first: int = 0) -> list[int]:
    """Up by one step and down by another, in turn, from either; all >= first."""
    steps = [integer(rng, 1, 12), -integer(rng, 1, 12)]
    turn = int(rng.random() < 0.5)
    changes = [steps[(i + turn) % 2] for i in range(total - 1)]
    numbers = list(accumulate(changes, initial=0))
    up = first + integer(rng, 0, 99) - min(numbers)
    return [up + number for number in numbers]


def progression(rng: random.Random, total: int) -> list[int]:
    """Times 2 or 3 at each step, or divided by it; up to 999."""
    ratio = integer(rng, 2, 3)
    start = integer(rng, 1, 999 // ratio ** (total - 1))
    numbers = [start * ratio ** i for i in range(total)]
    return numbers if rng.random() < 0.5 else numbers[::-1]


def interleaving(rng: random.Random, pairs: int, first: int, span: int) -> list[int]:
    """Two runs in turn."""
    even, odd = (run(rng, pairs, 9, first, span) for _ in range(2))
    return [number for pair in zip(even, odd) for number in pair]


def after_terms(task: Task, prompt: str) -> Iterator[Subquestion]:
    """A sequence that ends earlier, wherever it is long enough to be asked."""
    for match in re.finditer(",", prompt):
        question = f"{prompt[:match.start()]};"
        if answer := task.answer_to(question):
            yield Subquestion(match.end(), question, answer)


def joined(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


class Count(Task):
    """3,6,9: is answered 12,15,18: the next three, up or down."""
    name, prompt_pattern, chance_levels = "count", r"\d+,\d+,\d+:", (0.025, 0.008, 0.004)
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        max_step, first, span = (
            (3, 0, 100), (9, 0, 150), (25, 0, 250), (9, 1000, 5000))[level - 1]
        return joined(run(rng, 6, max_step, first, span)[:3]) + ":"

    def solve(self, prompt: str) -> str:
        first, middle, last = map(int, prompt[:-1].split(","))
        step = last - middle
        return joined([last + i * step for i in (1, 2, 3)]) if middle - first == step else ""


class Next(Task):
    """One more of a sequence: a cycle of letters, a run, an alternation, a progression, two runs.

    abcabca; is answered b. 4,8,12,16; is answered 20, 5,9,7,11,9; is answered 13, 3,6,12; is
    answered 24, and 1,20,3,18,5,16; is answered 7.
    """
    name, prompt_pattern = "next", r"[a-z]{4,};|\d+(,\d+){2,};"
    chance_levels = (0.055, 0.012, 0.02, 0.05, 0.03)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        if level == 1:
            period = letters(rng, 2, 3)
            return (3 * period)[:2 * len(period) + integer(rng, 0, len(period) - 1)] + ";"
        while True:
            numbers = (run(rng, integer(rng, 5, 6), 20, 0, 200) if level == 2 else
                       alternation(rng, integer(rng, 6, 7)) if level == 3 else
                       progression(rng, integer(rng, 4, 5)) if level == 4 else
                       interleaving(rng, 4, 0, 50)[:integer(rng, 7, 8)] if level == 5 else
                       interleaving(rng, 7, 100, 900)[:integer(rng, 13, 14)])
            prompt = joined(numbers[:-1]) + ";"
            if self.solve(prompt) == str(numbers[-1]):  # else another rule fits what is shown
                return prompt

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        """The next term, after each."""
        return after_terms(self, prompt)

    def solve(self, prompt: str) -> str:
        shown = prompt[:-1]
        if "," not in shown:
            for period in (2, 3):
                if shown[period:] == shown[:-period]:
                    return shown[-period]
            return ""
        x = list(map(int, shown.split(",")))
        if 0 not in x and x[0] != x[1] and all(a * c == b * b for a, b, c in zip(x, x[1:], x[2:])):
            following, rest = divmod(x[-1] * x[-1], x[-2])
            return "" if rest else str(following)
        changes = [later - earlier for earlier, later in zip(x, x[2:])]   # of two runs in turn
        return str(x[-2] + changes[-2]) if len(x) > 3 and changes[2:] == changes[:-2] else ""


class Missing(Task):
    """4,8,_,16; is answered 12: the term left out of a run or an alternation."""
    name, prompt_pattern = "missing", r"(?=[^_]*_[^_]*$)(\d+|_)(,(\d+|_)){3,};"
    chance_levels, stated_levels = (0.03, 0.012, 0.02), (2, 3)   # runs, alternations

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        numbers = (run(rng, integer(rng, 4, 5), 9, 0, 100) if level == 1 else
                   run(rng, integer(rng, 4, 6), 25, 0, 250) if level == 2 else
                   alternation(rng, integer(rng, 5, 7)) if level == 3 else
                   alternation(rng, integer(rng, 9, 12), 100))
        shown = list(map(str, numbers))
        shown[integer(rng, 0, len(shown) - 1)] = "_"
        return ",".join(shown) + ";"

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        """The missing term, as soon as it follows."""
        return after_terms(self, prompt)

    def solve(self, prompt: str) -> str:
        """Terms two places apart differ by the same amount, in a run and in an alternation."""
        shown = prompt[:-1].split(",")
        at = shown.index("_")
        known = {i: int(text) for i, text in enumerate(shown) if i != at}
        changes = {known[i + 2] - known[i] for i in known if i + 2 in known}
        values = {known[at + offset] - offset // 2 * change for change in changes
                  for offset in (-2, 2) if at + offset in known}
        return str(values.pop()) if len(changes) == len(values) == 1 else ""
