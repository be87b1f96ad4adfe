"""A recorded corpus: `items.jsonl` has a JSON object with prompt and answer in each line; in
`notes.txt` the second half of each line continues the first. A broken line is named.

An object may have labels and questions too (user_items.py), a level, and "extrapolation": true if
it is evaluated only. A first one without a prompt has what holds for the file: FLAGS."""
import json
import os
import random
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seed.curriculum.task import Item, Task, pick
from seed.curriculum.user_class_worker import InvalidClass, shown
from seed.curriculum.user_items import KINDS, Tokens, from_json, to_tokens
from seed.curriculum.user_task_worker import FLAGS, MAX_LEVELS
from seed.errors import UserTaskError, printable
from seed.regular_file import reader
from seed.settings import nearest
from seed.system_health import MB, mem_available_mb

PROMPT_FRACTION = 0.5       # of a text line; the rest is its answer
MAX_LINE = 2 ** 20          # characters, with escapes and keys that are not read
LINE_COST_BYTES = 290       # beside its text, of one item at the peak: measured with short lines
READ_BYTES = 2 ** 20


class Corpus(Task):
    """Recorded prompts and answers; the holdout is chosen by the prompt's hash, as everywhere, but
    for a file of facts. Levels after the last that is trained are evaluated only."""
    extrapolates = False   # self-play has no more questions than are recorded

    def __init__(self, name: str, path: Path | None = None, items: Sequence[Item] = ()):
        """Read from `path`, by default the file that it is named after, unless the `items` are
        given, all of level 1. Raises UserTaskError."""
        self.name = name
        recorded = Recorded(items, 1) if items else read_recorded(name, path)
        self.items, self.stepwise = recorded.items, recorded.stepwise
        self._pairs = {item[2:4] for item in self.items}
        self._by_level: dict[int, list[Item]] = {}
        for item in self.items:
            self._by_level.setdefault(item.level, []).append(item)
        first_beyond = recorded.n_training_levels + 1
        self._beyond = range(first_beyond, len(self._by_level) + 1)
        self.chance_levels = tuple(self._chance(level) for level in range(1, first_beyond))

    def _chance(self, level: int) -> float:
        """Of the most frequent answer. Raises UserTaskError if a side of the split has no item."""
        items = set(self._by_level.get(level, ()))
        answers = [Counter(item.answer for item in items if self.belongs(item, holdout))
                   for holdout in (True, False)]
        if not items:
            raise UserTaskError(f"{self.name} has no line with a prompt: give at least some dozens")
        if not all(answers):
            n_prompts = len({item.prompt for item in items})
            of_level = f" of level {level}" if len(self._by_level) > 1 else ""
            facts = (', or teach all of them: begin the file with {"holdout": false}'
                     if self.name.lower().endswith(".jsonl") else "")
            raise UserTaskError(
                f"{self.name}: {len(self._by_level.get(level, ()))} lines{of_level} have "
                f"{n_prompts} distinct prompt{'' if n_prompts == 1 else 's'}, too few for a "
                f"holdout of one in eight: give at least some dozens{facts}")
        return max(side.most_common(1)[0][1] / side.total() for side in answers)

    def remarks(self, seq_len: int) -> Iterator[str]:
        """What is odd about its lines: they contradict each other, or are too long to train on."""
        n_answers = Counter(prompt for prompt, _ in self._pairs)
        n_ambiguous = sum(n > 1 for n in n_answers.values())
        if n_ambiguous:
            yield (f"{n_ambiguous} of {len(n_answers)} prompts have several answers: of each line "
                   f"only its own counts as right")
        sizes = [len(item.prompt) + len(item.answer) for item in self.items
                 if item.level in self.levels]
        n_long = sum(size > seq_len for size in sizes)
        if n_long:
            yield (f"{n_long} of {len(sizes)} lines are not trained on: train.seq_len is "
                   f"{seq_len}, they need up to {max(sizes)}; use train.seq_len={max(sizes)} or "
                   f"shorter lines")

    @property
    def extrapolation_levels(self) -> range:
        return self._beyond

    def belongs(self, item: Item, holdout: bool) -> bool:
        """What is only evaluated needs no split."""
        return holdout if item.level in self._beyond else super().belongs(item, holdout)

    def generate(self, rng: random.Random, level: int) -> Item:
        return pick(rng, self._by_level[level])

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return (prompt, answer) in self._pairs


class Recorded(NamedTuple):
    """What a file has."""
    items: Sequence[Item]
    n_training_levels: int
    stepwise: bool = False


def read_recorded(name: str, path: Path | None = None) -> Recorded:
    """A file, which is read from `path`, by default from where its name says. Raises
    UserTaskError."""
    path = path or Path(name)
    try:
        check_memory(name, path)
        return _parsed(name, _lines(name, path))
    except OSError as error:
        raise UserTaskError(f"{name}: {error.strerror or error}") from None


def _parsed(name: str, lines: Iterator[tuple[int, str]]) -> Recorded:
    """Raises UserTaskError."""
    is_json = name.lower().endswith(".jsonl")
    options, items, beyond, number = dict(FLAGS), list[Item](), set[int](), 0
    try:
        for number, line in lines:
            row = _object(line) if is_json else {}
            if not items and "prompt" not in row and row.keys() & FLAGS.keys():
                options |= _checked_options(row)
                continue
            level, is_beyond = _level(row)
            tokens = from_json(row) if is_json else _split_text(line)
            items.append(Item(name, level, *tokens,
                              is_fact=not options["holdout"] and not is_beyond))
            if is_beyond:
                beyond.add(level)
    except InvalidClass as error:
        raise UserTaskError(f"{name} line {number}: {printable(str(error))}") from None
    return Recorded(items, _n_training_levels(name, items, beyond), options["stepwise"])


def _n_training_levels(name: str, items: Sequence[Item], beyond: Collection[int]) -> int:
    """`beyond`: the levels that are evaluated only. Raises UserTaskError unless they are the last
    ones."""
    levels = sorted({item.level for item in items})
    missing = set(range(1, max(levels, default=1))) - set(levels)
    if missing:
        raise UserTaskError(f"{name}: no line has level {min(missing)}, but one has level "
                            f"{levels[-1]}: number levels from 1 on, without gaps")
    n = len(levels) - len(beyond)
    if beyond and (n < 1 or min(beyond) <= n):
        raise UserTaskError(f"{name}: level {min(beyond)} is for extrapolation, and level "
                            f"{min(n + 1, levels[-1])} is not: give the last levels to lines that "
                            f"are evaluated only")
    return max(1, n)


def _level(row: Mapping[str, Any]) -> tuple[int, bool]:
    """Of a line, and whether it is evaluated only. Raises InvalidClass."""
    for option in FLAGS.keys() & row.keys():
        raise InvalidClass(f"{option} is of the whole file: begin it with a line "
                           f"{json.dumps({option: not FLAGS[option]})}")
    level, is_beyond = row.get("level", 1), row.get("extrapolation", False)
    if type(level) is not int or not 1 <= level <= MAX_LEVELS:
        raise InvalidClass(f"level is {shown(level)}: give a number from 1 to {MAX_LEVELS}")
    if type(is_beyond) is not bool:
        raise InvalidClass(f"extrapolation is {shown(is_beyond)}: give true or false")
    if is_beyond and level == 1:
        raise InvalidClass("extrapolation needs a level above those that are trained: give it")
    return level, is_beyond


def _checked_options(row: Mapping[str, Any]) -> dict[str, bool]:
    """Raises InvalidClass."""
    for option, value in row.items():
        if option not in FLAGS:
            raise InvalidClass(f"{shown(option)} is no option of a file{nearest(option, FLAGS)}")
        if type(value) is not bool:
            raise InvalidClass(f"{option} is {shown(value)}: give true or false")
    return dict(row)


def check_memory(name: str, path: Path) -> None:
    """Raises UserTaskError if the file is none or does not fit, OSError if it is not there."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise UserTaskError(f"{name} is not a file")
    free_mb = mem_available_mb().value
    if free_mb is not None and info.st_size / MB > free_mb:
        raise UserTaskError(f"{name} has {info.st_size / MB:.0f} MB, but {free_mb:.0f} MB "
                            f"of memory are free: use a part of it")


def _lines(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    number = 1
    with open(path, encoding="utf-8-sig") as file:
        try:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise UserTaskError(f"{name} line {number} has more than {MAX_LINE} "
                                        f"characters: split it")
                if line.strip():
                    yield number, line.removesuffix("\n")
                number += 1
        except UnicodeDecodeError as error:
            raise UserTaskError(f"{name} line {number} or after: {error}: write it as "
                                f"UTF-8") from None


def whole_lines(path: str) -> int:
    """Bytes of a file without a last line of JSON that is being written. Raises OSError."""
    with reader(path) as file:
        size = file.seek(0, os.SEEK_END)
        if not path.lower().endswith(".jsonl"):
            return size
        start = max(0, size - MAX_LINE)
        file.seek(start)
        tail = file.read(size - start)
    last = tail[tail.rfind(b"\n") + 1:]
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return size - len(last) if len(last) < len(tail) else size
    return size


def memory_mb(path: Path) -> float:
    """About what the corpus in a file takes in memory; 0 if it cannot be read."""
    n_bytes = n_lines = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(READ_BYTES):
                n_bytes += len(chunk) * (1 + sum(f'"{kind}"'.encode() in chunk for kind in KINDS))
                n_lines += chunk.count(b"\n")
    except OSError:
        return 0.0
    return (n_bytes + n_lines * LINE_COST_BYTES) / MB


def _object(line: str) -> dict[str, Any]:
    """Raises InvalidClass."""
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
        if isinstance(row, dict):
            return row
    raise InvalidClass('give {"prompt": "...", "answer": "..."}')


def _split_text(line: str) -> Tokens:
    data = to_tokens("the line", line)
    if len(data) < 2:
        raise InvalidClass("give at least two bytes")
    split = max(1, int(len(data) * PROMPT_FRACTION))
    while split > 1 and data[split] & 0xC0 == 0x80:   # inside a character
        split -= 1
    return Tokens(data[:split], data[split:])
