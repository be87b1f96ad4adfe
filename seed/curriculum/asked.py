"""Questions of the other tasks in other words."""
import random
from collections.abc import Mapping

from seed.curriculum.task import Task, integer, pick
from seed.curriculum.vocab import decode
from seed.curriculum.wording import ALL, answer_in_words, canonical, is_held_out, worded
from seed.errors import ConfigError


class Asked(Task):
    """What is 12 + 39? is answered 51, as 12+39= is.

    Level 1 has other spaces, capitals and closings; level 2 other words, and easy items; level 3
    other words, and items of the middle levels. The holdout are whole wordings, and all questions
    that are of the holdout of their own task.
    """
    name, prompt_pattern, extrapolates = "asked", ".+", False
    chance_levels = (0.085, 0.085, 0.085)

    def __init__(self, tasks: Mapping[str, Task]):
        """`tasks`: that can be asked, by name. Raises ConfigError if there are none."""
        self.tasks = dict(tasks)
        self.wordings = [wordings for wordings in ALL if wordings.task in self.tasks
                         for _ in range(wordings.share)]
        if not self.wordings:
            raise ConfigError("asked asks what other tasks teach, and there are none: give one a "
                              "weight, such as add = 1.0, or asked = 0")

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        while True:
            wordings = pick(rng, self.wordings)
            task = self.tasks[wordings.task]
            task_level = (integer(rng, 1, 2) if level == 1 else 1 if level == 2 else
                          integer(rng, 2, max(2, len(task.levels) - 1)))
            prompt = worded(rng, wordings, wordings.sample(rng, task, task_level), level == 1)
            if self.answer_to(prompt):
                return prompt

    def solve(self, prompt: str) -> str:
        return answer_in_words(prompt, self.tasks)

    def answer_to(self, text: str) -> str:
        """None to what a task asks in its own words."""
        question = canonical(text)
        if not question or question[0] not in self.tasks or self.tasks[question[0]].answer_to(text):
            return ""
        return self.solve(text)

    def is_held_out(self, prompt: bytes) -> bool:
        return is_held_out(decode(prompt))

    def parse_prompt(self, text: bytes) -> bytes:
        """None: where a question in words ends is not told by its beginning."""
        return b""
