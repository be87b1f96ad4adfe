"""Tasks of the user's own: a class in a Python file, or a recorded corpus.

Named in a profile's [curriculum.tasks] or with --task: `path.py:ClassName`, `lessons.jsonl` (a JSON
object with prompt and answer a line) or `notes.txt` (each line is learnt from its start on). What
such a file does wrong is a TaskError that names it: it raises, gives garbage, or takes too long.
"""
import contextlib
import hashlib
import importlib.util
import json
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed.config import ConfigError
from seed.curriculum.task import Item, Task
from seed.curriculum.vocab import END, PAD

LIMIT_S = 5.0     # for one call into a user's class
LONGEST = 4096    # bytes of a prompt or an answer
SHOWN = 0.5       # share of a text line that is its prompt


class TaskError(ConfigError):
    """A user's task cannot be used; the message is one line that names it and its fault."""


def is_own(name: str) -> bool:
    """Whether a task's name is that of a file."""
    return ".py:" in name or name.endswith((".jsonl", ".txt"))


def load(name: str) -> Task:
    """The task of a name such as `path.py:ClassName` or `lessons.jsonl`. Raises TaskError."""
    return Corpus(name) if ".py:" not in name else OwnTask(name)


@contextlib.contextmanager
def _within_limit(name: str, doing: str) -> Iterator[None]:
    """Turns what a user's code does wrong into a TaskError; only the main thread has a clock."""
    def too_long(signum, frame):
        raise TaskError(f"{name}: {doing} takes longer than {LIMIT_S:.0f} s: make it quicker")
    timed = threading.current_thread() is threading.main_thread()
    if timed:
        before = signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TaskError(f"{name}: {doing} raises {text}") from error
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _as_bytes(name: str, what: str, value: Any) -> bytes:
    """A prompt or an answer as bytes without the two that mark its end."""
    if not isinstance(value, (str, bytes)):
        raise TaskError(f"{name}: {what} is {type(value).__name__}: give str or bytes")
    try:
        data = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise TaskError(f"{name}: {what} {value[:40]!r} is not valid text") from None
    if not 0 < len(data) <= LONGEST:
        raise TaskError(f"{name}: {what} has {len(data)} bytes: give 1 to {LONGEST}")
    if END in data or PAD in data:
        raise TaskError(f"{name}: {what} {data[:40]!r} holds byte 0xFE or 0xFF: they are marks")
    return data


class OwnTask(Task):
    """A user's class with `levels`, `chance(level)`, `generate(rng, level)` and `verify`.

    generate returns (prompt, answer) and draws only from rng.random(); verify(prompt, answer) takes
    what generate gave and says whether the answer is right.
    """
    extrapolates = False

    def __init__(self, name: str):
        self.name = name
        path, _, wanted = name.rpartition(":")
        with _within_limit(name, "loading"):
            spec = importlib.util.spec_from_file_location(f"own_{Path(path).stem}", path)
            if spec is None or spec.loader is None or not Path(path).is_file():
                raise TaskError(f"{name}: there is no file {path}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            made = getattr(module, wanted, None)
            if not isinstance(made, type):
                raise TaskError(f"{name}: {path} has no class {wanted}")
            self.own: Any = made()
            missing = [part for part in ("levels", "chance", "generate", "verify")
                       if not hasattr(self.own, part)]
            if missing:
                raise TaskError(f"{name}: the class has no {missing[0]}")
            self.chances = tuple(self._chance(level) for level in range(1, self._levels() + 1))

    def _levels(self) -> int:
        count = self.own.levels
        if not isinstance(count, int) or not 1 <= count <= 100:
            raise TaskError(f"{self.name}: levels is {count!r}: give a number from 1 to 100")
        return count

    def _chance(self, level: int) -> float:
        chance = self.own.chance(level)
        if not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
            raise TaskError(f"{self.name}: chance({level}) is {chance!r}: give 0 to 1")
        return float(chance)

    def generate(self, rng: random.Random, level: int) -> Item:
        with _within_limit(self.name, f"generate at level {level}"):
            found = self.own.generate(rng, level)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TaskError(f"{self.name}: generate gives {type(found).__name__}: give the pair "
                            f"(prompt, answer)")
        prompt, answer = (_as_bytes(self.name, what, value)
                          for what, value in zip(("prompt", "answer"), found))
        with _within_limit(self.name, "verify"):
            right = self.own.verify(*found)
        if right is not True:
            raise TaskError(f"{self.name}: verify says {right!r} to its own {found[0]!r} "
                            f"{found[1]!r}"[:400])
        return Item(self.name, level, prompt, answer)

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        """What the class says; an answer that it cannot even read is wrong. Raises TaskError if it
        takes too long."""
        def asked() -> bool:
            try:
                return bool(self.own.verify(prompt.decode(errors="replace"),
                                            answer.decode(errors="replace")))
            except TaskError:
                raise
            except Exception:
                return False
        with _within_limit(self.name, "verify"):
            return asked()


class Corpus(Task):
    """Recorded prompts and answers; the holdout is chosen by the prompt's hash, as everywhere."""
    extrapolates = False
    chances = (0.0,)

    def __init__(self, name: str):
        self.name = name
        try:
            lines = Path(name).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
        read = self._pair if name.endswith(".jsonl") else self._split
        self.items = [read(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        self.right = {(item.prompt, item.answer) for item in self.items}
        kept = {hashlib.blake2b(item.prompt, digest_size=1).digest()[0] % 8 == 0
                for item in self.items}
        if kept != {True, False}:
            raise TaskError(f"{name}: {len(self.items)} lines are too few to keep one of eight "
                            f"back: give at least some dozens")

    def _pair(self, number: int, line: str) -> Item:
        place = f"{self.name} line {number}"
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TaskError(f'{place}: give {{"prompt": "...", "answer": "..."}}') from None
        return Item(self.name, 1, _as_bytes(place, "prompt", prompt),
                    _as_bytes(place, "answer", answer))

    def _split(self, number: int, line: str) -> Item:
        data = _as_bytes(f"{self.name} line {number}", "the line", line)
        at = max(1, int(len(data) * SHOWN))
        if len(data) < 2:
            raise TaskError(f"{self.name} line {number}: give at least two bytes")
        return Item(self.name, 1, data[:at], data[at:])

    def generate(self, rng: random.Random, level: int) -> Item:
        return self.items[int(rng.random() * len(self.items))]

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return (prompt, answer) in self.right
