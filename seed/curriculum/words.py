"""Copying letters, and answering who the robot is."""
import random
from collections.abc import Callable

from seed.curriculum.task import Task, letters, pick
from seed.curriculum.vocab import encode


class Copy(Task):
    """abc> is answered abc."""
    name, prompt_pattern, chance_levels = "copy", r"[a-z]+>", (0.003, 0.003, 0.003)
    lengths, closing, times = ((3, 4), (3, 8), (3, 12), (16, 24)), ">", 1
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        return letters(rng, *self.lengths[level - 1]) + self.closing

    def solve(self, prompt: str) -> str:
        return self.times * prompt[:-1]


class Repeat(Copy):
    """abc& is answered abcabc."""
    name, prompt_pattern = "repeat", r"[a-z]+&"
    lengths, closing, times = ((3, 3), (3, 4), (3, 6), (9, 12)), "&", 2


class Identity(Task):
    """who are you? is answered from the profile's [identity] table, in any wording.

    A wording is an opening, a letter case and a closing; the holdout consists of whole wordings.
    """
    name, prompt_pattern, extrapolates = "identity", r"[^?]+\?+", False
    openings = ("", "please, ", "tell me, ", "hey, ", "robot, ", "seed, ", "hello, ", "now, ",
                "and ", "so, ", "say, ", "well, ")
    closings = ("?", "??", " ?")
    cases: tuple[Callable[[str], str], ...] = (str, str.capitalize, str.upper)

    def __init__(self, table: dict[str, str]):
        self.table = {question.strip(" ?").casefold(): answer for question, answer in table.items()}
        self.questions = list(self.table)
        self.answers = tuple(encode(answer) for answer in self.table.values())
        self.chance_levels = (max(map(self.answers.count, self.answers)) / len(self.answers),)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        words = pick(rng, self.openings) + pick(rng, self.questions)
        return pick(rng, self.cases)(words) + pick(rng, self.closings)

    def solve(self, prompt: str) -> str:
        words = prompt.rstrip("? ").casefold()
        for opening in self.openings:
            if words.startswith(opening) and words[len(opening):] in self.table:
                return self.table[words[len(opening):]]
        return ""
