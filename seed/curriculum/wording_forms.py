"""What wordings are made of: a task's templates, and the forms of the fields in them."""
import random
from collections.abc import Callable
from typing import NamedTuple

from seed.curriculum.task import Task

Convert = Callable[[str], str]


class Form(NamedTuple):
    """How a part of a canonical prompt is written."""
    pattern: str       # regular expression of what is written, in lower case, without groups
    write: Convert = str   # from the part of the prompt
    read: Convert = str    # from what was written, in lower case, to the part


class Wordings(NamedTuple):
    """`pattern` has a group for each field of `prompt`; `forms` one for each {field:form}."""
    task: str
    prompt: str                # canonical, with {field}s
    pattern: str               # of the canonical prompt
    forms: dict[str, Form]
    plain: tuple[str, ...]     # templates that keep the marks and change the closing
    worded: tuple[str, ...]
    sample: Callable[[random.Random, Task, int], str] = (   # of a canonical prompt of a level
        lambda rng, task, level: task.sample_prompt(rng, level))
    share: int = 1             # how often they are asked, beside others

    def __hash__(self) -> int:
        return hash((self.task, self.prompt))


def replacing(pairs: dict[str, str], pattern: str) -> Form:
    """Each mark in other words. No word may be a part of another."""
    def write(text: str) -> str:
        for mark, word in pairs.items():
            text = text.replace(mark, word)
        return text

    def read(text: str) -> str:
        for mark, word in pairs.items():
            text = text.replace(word.strip(), mark)
        return text.replace(" ", "")
    return Form(pattern, write, read)


def framed(*phrases: str) -> tuple[str, ...]:
    """Each phrase in each frame in which people ask for a value; the first is in marks, and
    `plain` asks for it without words."""
    return tuple(frame.replace("_", phrase) for i, phrase in enumerate(phrases)
                 for frame in (*FRAMES, *(WORDLESS if i else ())))


FRAMES = ("what is _?", "what's _?", "how much is _?", "_ is?", "calculate _.", "what is _",
          "tell me _.", "_ equals?", "compute _.", "what does _ equal?", "can you tell me _?",
          "do you know what _ is?", "give me _.", "solve _.", "what do you get for _?",
          "calculate _")
WORDLESS = ("_?", "_ =", "_ = ?")
