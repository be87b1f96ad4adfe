"""What a task is: a generator, a verifier that works the prompt out again, levels and chance.

Every prompt ends in bytes that close it and show, read alone, which task it belongs to. Answers end
with END, which the verifier does not see. Level len(chances) + 1 is the extrapolation level: its
prompts are longer than any that is trained. `chance(level)` is the accuracy of the best answer that
ignores the prompt, on training or holdout items, whichever is higher (a holdout of few prompts has
commoner answers), rounded up. Tasks of few answers list them, and examinations balance them.
"""
import hashlib
import random
import re
from collections.abc import Iterable
from typing import NamedTuple

from seed.curriculum.vocab import encode

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Item(NamedTuple):
    task: str
    level: int
    prompt: bytes
    answer: bytes  # without END


class Part(NamedTuple):
    """A question that is answered once the first `end` bytes of a prompt are read.

    Its answer is learnt as far as the prompt goes on with it, and the first byte in any case.
    """
    end: int
    question: str   # closed like every prompt of its task
    answer: str


def is_holdout(prompt: bytes) -> bool:
    """Whether a prompt is never trained on: one of eight, by its hash, whatever the seed."""
    return hashlib.blake2b(prompt, digest_size=1).digest()[0] % 8 == 0


def integer(rng: random.Random, low: int, high: int) -> int:
    """Uniform in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def digits(rng: random.Random, low: int, high: int) -> int:
    """A number of low..high digits, each length equally likely."""
    length = integer(rng, low, high)
    return integer(rng, 0 if length == 1 else 10 ** (length - 1), 10 ** length - 1)


def letters(rng: random.Random, low: int, high: int) -> str:
    return "".join([LETTERS[int(rng.random() * 26)] for _ in range(integer(rng, low, high))])


class Task:
    """Subclasses give `name`, `form` (what a prompt looks like), `chances`, `ask` and `solve`."""
    name: str
    form: str                    # regular expression of the whole prompt
    chances: tuple[float, ...]   # one for each training level
    answers: tuple[bytes, ...] = ()  # all of them, where they are few
    extrapolates = True
    stepwise = False   # each level is the same with more steps: studied as the one below is known

    @property
    def levels(self) -> range:
        return range(1, len(self.chances) + 1)

    def chance(self, level: int) -> float:
        """Chance level in 0..1; the extrapolation level counts as the hardest trained one."""
        return self.chances[min(level, len(self.chances)) - 1]

    def ask(self, rng: random.Random, level: int) -> str:
        raise NotImplementedError

    def solve(self, prompt: str) -> str:
        """The answer; nothing if the prompt, though of this form, asks nothing that has one."""
        raise NotImplementedError

    def parts(self, prompt: str) -> Iterable[Part]:
        """Shorter questions that the prompt answers on its way, learnt beside its own.

        A brain says nothing of use while it reads, so each byte there is free to be taught: one
        bit for a string of forty is too little to find out what to keep of it.
        """
        return ()

    def generate(self, rng: random.Random, level: int) -> Item:
        prompt = self.ask(rng, level)
        return Item(self.name, level, encode(prompt), encode(self.solve(prompt)))

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        """True if `prompt` is one of this task's and `answer` (without END) is right."""
        text = prompt.decode("utf-8", errors="replace")
        if answer == b"" or not re.fullmatch(self.form, text, re.ASCII):
            return False
        try:
            return encode(self.solve(text)) == answer
        except ValueError:   # Python reads no number of more than 4,300 digits
            return False

    def opening(self, text: bytes) -> bytes:
        """The prompt of this task with which a text begins; nothing if it does not."""
        found = re.match(self.form, text.decode("utf-8", errors="replace"), re.ASCII)
        return encode(found[0]) if found else b""
