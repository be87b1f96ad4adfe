"""What a task is: a generator of items, a verifier that works the answer out again, levels, chance.

To add a task, write a subclass of `Task` in the file of its subject and list it in a grade of
tasks.py; tests/curriculum/test_tasks.py then says what is missing.

Every prompt ends in bytes that close it and show, read alone, which task it belongs to. Answers end
with END, which the verifier does not see. Level len(chance_levels) + 1 is the extrapolation level:
its prompts are longer than any that is trained.
"""
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

from seed.curriculum.vocab import encode

PROPOSED_LEVEL = 0   # of a question that a brain or a teacher proposed
STATED_LEVEL = 0     # of an item that is drawn from all that its task states
UNKNOWN = "I do not know"   # the answer to a prompt to which no task has one
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Choice = TypeVar("Choice")


class Item(NamedTuple):
    task: str
    level: int
    prompt: bytes
    answer: bytes  # without END
    # Targets inside the prompt: byte i is to follow its first i + 1 bytes; PAD: nothing is asked.
    labels: bytes = b""      # help the training
    questions: bytes = b""   # belong to what is asked: an item is right if all of it is
    is_fact: bool = False    # trained on and evaluated alike, whatever the hash of the prompt


class Subquestion(NamedTuple):
    """A question that is answered once the first `end` bytes of a prompt are read.

    Its answer is a target there as far as the prompt continues with it, at least its first byte.
    """
    end: int
    question: str   # closed like every prompt of its task
    answer: str


def is_holdout(prompt: bytes) -> bool:
    """Whether a prompt is never trained on: one of eight, by its hash, whatever the seed."""
    return hashlib.blake2b(prompt, digest_size=1).digest()[0] % 8 == 0


def pick(rng: random.Random, choices: Sequence[Choice]) -> Choice:
    return choices[int(rng.random() * len(choices))]


def integer(rng: random.Random, low: int, high: int) -> int:
    """Uniform in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def number_of_digits(rng: random.Random, low: int, high: int) -> int:
    """A number of low..high digits, each length equally likely."""
    length = integer(rng, low, high)
    return integer(rng, 0 if length == 1 else 10 ** (length - 1), 10 ** length - 1)


def letters(rng: random.Random, low: int, high: int) -> str:
    return "".join([pick(rng, LETTERS) for _ in range(integer(rng, low, high))])


class Task:
    """Subclasses give `name`, `prompt_pattern`, `chance_levels`, `sample_prompt` and `solve`.

    A chance level is the accuracy in 0..1 of the best answer that ignores the prompt, on training
    or holdout items, whichever is higher, rounded up (a small holdout has more frequent answers).
    """
    name: str
    prompt_pattern: str                # regular expression of the whole prompt
    chance_levels: tuple[float, ...]   # of each training level
    stated_levels: tuple[int, ...] = ()   # they have all that the task states; (): all do
    chance_stated: float = 0.0         # of `sample_stated`
    answers: tuple[bytes, ...] = ()    # all of them where they are few: evaluations balance them
    extrapolates = True                # whether there is an extrapolation level
    stepwise = False   # a level is the one below with more steps: it waits until that is known
    # Where subquestions are: what ends a prompt that may be closed there, and facts (name, value)
    # that may already follow from what is before them. "": there are none.
    term_pattern = fact_pattern = ""

    @property
    def levels(self) -> range:
        return range(1, len(self.chance_levels) + 1)

    @property
    def extrapolation_levels(self) -> range:
        """Those after the training levels, which are evaluated only."""
        return range(self.levels.stop, self.levels.stop + int(self.extrapolates))

    def belongs(self, item: Item, holdout: bool) -> bool:
        """Whether an item is on that side of the holdout split; a fact is on both."""
        return item.is_fact or self.is_held_out(item.prompt) == holdout

    def chance(self, level: int) -> float:
        """Chance level in 0..1; the extrapolation level counts as the hardest trained one."""
        if level == STATED_LEVEL:
            return self.chance_stated or fmean(map(self.chance, self.stated_levels or self.levels))
        return self.chance_levels[min(level, len(self.chance_levels)) - 1]

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        raise NotImplementedError

    def sample_stated(self, rng: random.Random) -> str:
        """A prompt drawn uniformly from all that docs/curriculum.md states of the task: levels have
        more of what is short, which is in each. "": each of `stated_levels` is as likely."""
        return ""

    def solve(self, prompt: str) -> str:
        """The answer; "" for a prompt that matches the pattern and has no answer."""
        raise NotImplementedError

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        """Shorter questions of this task whose answers are further targets inside the prompt.

        One answer bit for a string of forty bytes is too weak a signal to learn what to keep of it.
        """
        for match in re.finditer(self.term_pattern, prompt) if self.term_pattern else ():
            question = prompt[:match.end()] + prompt[-1]
            if answer := self.solve(question):
                yield Subquestion(match.end(), question, answer)
        for match in re.finditer(self.fact_pattern, prompt) if self.fact_pattern else ():
            question = prompt[:match.end(1)] + prompt[-1]
            if self.solve(question) == match[2]:
                yield Subquestion(match.start(2), question, match[2])

    def generate(self, rng: random.Random, level: int) -> Item:
        prompt = self.sample_prompt(rng, level)
        return Item(self.name, level, encode(prompt), encode(self.solve(prompt)))

    def generate_stated(self, rng: random.Random) -> Item:
        """Of `sample_stated`."""
        prompt = self.sample_stated(rng)
        if prompt:
            return Item(self.name, STATED_LEVEL, encode(prompt), encode(self.solve(prompt)))
        level = pick(rng, self.stated_levels or self.levels)
        return self.generate(rng, level)._replace(level=STATED_LEVEL)

    def is_held_out(self, prompt: bytes) -> bool:
        """Whether a prompt of this task, or of a subquestion, is never trained on."""
        return is_holdout(prompt)

    def answer_to(self, text: str) -> str:
        """The answer if the text is a prompt of this task that has one, else ""."""
        if not re.fullmatch(self.prompt_pattern, text, re.ASCII):
            return ""
        try:
            return self.solve(text)
        except ValueError:   # Python parses no number of more than 4,300 digits
            return ""

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        """True if `prompt` belongs to this task and `answer` (without END) is right."""
        text = prompt.decode("utf-8", errors="replace")
        return answer != b"" and encode(self.answer_to(text)) == answer

    def parse_prompt(self, text: bytes) -> bytes:
        """The prompt of this task at the start of a text; b"" if there is none."""
        match = re.match(self.prompt_pattern, text.decode("utf-8", errors="replace"), re.ASCII)
        return encode(match[0]) if match else b""
