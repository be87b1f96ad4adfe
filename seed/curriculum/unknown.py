"""Prompts to which no task has an answer."""
import random
import re
from collections.abc import Callable, Mapping

from seed.curriculum.problems import CLOSES
from seed.curriculum.small_talk import HELD_OUT_WORDS, small_talk
from seed.curriculum.task import LETTERS, UNKNOWN, Item, Task, integer, is_holdout, pick
from seed.curriculum.vocab import decode, encode
from seed.curriculum.wording import ALL, MAX_PROMPT_CHARS, answer_of, reading, worded
from seed.curriculum.wording_forms import framed
from seed.curriculum.wording_words import NAMES
from seed.errors import ConfigError

CLOSINGS = "=!^:;~#%@$|>&?"
# The beginning of a prompt that may go on, with answers inside it (`intermediate_targets`).
BEGINNING = re.compile(r"[01]+|\d(?:[+*-]\d)*|[LRS]+|!?[TF](?:[&|^]!?[TF])*|[()\[\]{}]+|"
                       r"\([\d()+*-]*\)")
IN_WORDS_FRACTION = 0.5           # of the questions without an answer
DIVISIONS = framed("{}/{}", "{} divided by {}", "{} over {}", "{} to the power of {}")


def malformed(rng: random.Random, prompt: str, closings: str = CLOSINGS) -> str:
    """A byte dropped, inserted or exchanged with the next, or another closing."""
    kind, i = int(rng.random() * 4), int(rng.random() * len(prompt))
    if kind == 0:
        return prompt[:i] + prompt[i + 1:]
    if kind == 1:
        return prompt[:i] + pick(rng, prompt + closings) + prompt[i:]
    if kind == 2:
        return prompt[:i] + prompt[i + 1:i + 2] + prompt[i:i + 1] + prompt[i + 2:]
    return prompt[:-1] + pick(rng, closings)


def another_name(rng: random.Random, prompt: str) -> str:
    """Of a variable or a letter that is nowhere in the prompt."""
    names = set(re.findall(r"([a-z])[=:]", prompt))
    return prompt[:-2] + pick(rng, [name for name in LETTERS if name not in names]) + prompt[-1]


def another_person(rng: random.Random, prompt: str) -> str:
    return prompt[:-4] + pick(rng, [name for name in NAMES if name not in prompt]) + ":"


def another_number(rng: random.Random, prompt: str) -> str:
    """One term of a sequence is changed, or a letter of it."""
    terms = re.findall(r"\d+|[a-z]", prompt)
    at, old = pick(rng, list(enumerate(terms)))
    new = pick(rng, LETTERS) if old.isalpha() else str(max(0, int(old) + integer(rng, -9, 9)))
    matches = list(re.finditer(r"\d+|[a-z]", prompt))
    return prompt[:matches[at].start()] + new + prompt[matches[at].end():]


def another_bracket(rng: random.Random, prompt: str) -> str:
    """One that fits no other, or brackets that are all closed."""
    if rng.random() < 0.4:
        unclosed: list[str] = []
        for mark in prompt[:-1]:
            unclosed = [*unclosed, CLOSES[mark]] if mark in CLOSES else unclosed[:-1]
        return prompt[:-1] + "".join(reversed(unclosed)) + "|"
    i = int(rng.random() * (len(prompt) - 1))
    return prompt[:i] + pick(rng, "()[]{}") + prompt[i + 1:]


def more_walls(rng: random.Random, prompt: str) -> str:
    return "".join(["#" if mark == "." and rng.random() < 0.4 else mark for mark in prompt])


# By task: a question with an answer -> perhaps one without.
EDITS: dict[str, Callable[[random.Random, str], str]] = {
    "recall": another_name, "assign": another_name, "story": another_person,
    "count": another_number, "next": another_number, "missing": another_number,
    "brackets": another_bracket, "grid": more_walls}


class Unknown(Task):
    """hi there! and k:ab,f: are answered I do not know.

    Level 1 is of no task; level 2 malformed prompts of the tasks; level 3 well-formed ones that
    have no answer, in the task's words and in others. Most are close to a prompt that has one.
    """
    name, prompt_pattern, extrapolates = "unknown", ".+", False
    chance_levels = (1.0, 1.0, 1.0)

    def __init__(self, tasks: Mapping[str, Task]):
        """`tasks`: that know answers, by name. Raises ConfigError if there are none."""
        self.tasks = dict(tasks)
        self.own_words = [task for task in self.tasks.values() if task.name not in (
            "identity", "asked")]
        self.edited = [task for task in self.own_words if task.name in EDITS]
        if not self.own_words:
            raise ConfigError("unknown asks what other tasks do not know, and there are none: give "
                              "one of them a weight, such as add = 1.0, or unknown = 0")

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        while True:
            prompt = (small_talk(rng) if level == 1 else self._malformed(rng) if level == 2 else
                      self._without_answer(rng))
            if (len(prompt) <= MAX_PROMPT_CHARS and not BEGINNING.fullmatch(prompt)
                    and self.answer_to(prompt)):
                return prompt

    def _malformed(self, rng: random.Random) -> str:
        task = pick(rng, self.own_words)
        return malformed(rng, task.sample_prompt(rng, integer(rng, 1, 2)))

    def _without_answer(self, rng: random.Random) -> str:
        i = int(rng.random() * (len(self.edited) + 1))
        if i == len(self.edited):
            return pick(rng, DIVISIONS).format(integer(rng, 0, 99), integer(rng, 0, 12))
        task = self.edited[i]
        prompt = EDITS[task.name](rng, task.sample_prompt(rng, integer(rng, 1, 2)))
        if rng.random() >= IN_WORDS_FRACTION:
            return prompt
        wordings = next(wordings for wordings in ALL if wordings.task == task.name)
        return worded(rng, wordings, prompt, is_plain=rng.random() < 0.3)

    def generate(self, rng: random.Random, level: int) -> Item:
        """Without a second search for an answer, which takes longer than all the rest."""
        return Item(self.name, level, encode(self.sample_prompt(rng, level)), encode(UNKNOWN))

    def solve(self, prompt: str) -> str:
        return "" if answer_of(prompt, self.tasks) else UNKNOWN

    def answer_to(self, text: str) -> str:
        return self.solve(text) if text.strip() else ""

    def is_held_out(self, prompt: bytes) -> bool:
        """By its hash, or because its wording or one of its words is never trained on."""
        text = decode(prompt)
        question = reading(text)
        return (is_holdout(prompt) or (question is not None and question.held_out)
                or not HELD_OUT_WORDS.isdisjoint(re.findall("[a-z]+", text.lower())))

    def parse_prompt(self, text: bytes) -> bytes:
        """None: any beginning of a text would be one."""
        return b""
