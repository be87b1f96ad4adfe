"""A recorded corpus: `items.jsonl` has a JSON object with prompt and answer in each line; in
`notes.txt` the second half of each line continues the first. A broken line is named."""
import json
import os
import random
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from seed.curriculum.task import Item, Task, is_holdout, pick
from seed.curriculum.user_class_worker import InvalidClass
from seed.curriculum.user_task_worker import to_bytes
from seed.errors import UserTaskError, printable
from seed.regular_file import reader
from seed.system_health import MB, mem_available_mb

PROMPT_FRACTION = 0.5       # of a text line; the rest is its answer
MAX_LINE = 2 ** 20          # characters, with escapes and keys that are not read
LINE_COST_BYTES = 290       # beside its text, of one item at the peak: measured with short lines
READ_BYTES = 2 ** 20


class Corpus(Task):
    """Recorded prompts and answers; the holdout is chosen by the prompt's hash, as everywhere."""
    extrapolates = False

    def __init__(self, name: str, path: Path | None = None, items: Sequence[Item] = ()):
        """Read from `path`, by default the file that it is named after, unless the `items` are
        given. Raises UserTaskError."""
        self.name = name
        self.items = items or recorded_items(name, path)
        self.distinct = set(self.items)
        answers = [Counter(item.answer for item in self.distinct
                           if is_holdout(item.prompt) == holdout) for holdout in (True, False)]
        if not all(answers):
            n_prompts = len({item.prompt for item in self.items})
            raise UserTaskError(f"{name}: {len(self.items)} lines have {n_prompts} distinct prompt"
                                f"{'' if n_prompts == 1 else 's'}, too few for a holdout of one in "
                                f"eight: give at least some dozens")
        self.chance_levels = (max(side.most_common(1)[0][1] / side.total() for side in answers),)

    def generate(self, rng: random.Random, level: int) -> Item:
        return pick(rng, self.items)

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return Item(self.name, 1, prompt, answer) in self.distinct


def recorded_items(name: str, path: Path | None = None) -> list[Item]:
    """Of a file, which is read from `path`, by default from where its name says. Raises
    UserTaskError."""
    path = path or Path(name)
    try:
        check_memory(name, path)
        return [_item(name, number, line) for number, line in _lines(name, path)]
    except OSError as error:
        raise UserTaskError(f"{name}: {error.strerror or error}") from None


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


def _item(name: str, number: int, line: str) -> Item:
    split_fn = _split_json if name.lower().endswith(".jsonl") else _split_text
    try:
        return Item(name, 1, *split_fn(line))
    except InvalidClass as error:
        raise UserTaskError(f"{name} line {number}: {printable(str(error))}") from None


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
                n_bytes += len(chunk)
                n_lines += chunk.count(b"\n")
    except OSError:
        return 0.0
    return (n_bytes + n_lines * LINE_COST_BYTES) / MB


def _split_json(line: str) -> list[bytes]:
    try:
        row = json.loads(line)
        texts = {what: row[what] for what in ("prompt", "answer")}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidClass('give {"prompt": "...", "answer": "..."}') from None
    return [to_bytes(what, text, "text") for what, text in texts.items()]


def _split_text(line: str) -> list[bytes]:
    data = to_bytes("the line", line)
    if len(data) < 2:
        raise InvalidClass("give at least two bytes")
    split = max(1, int(len(data) * PROMPT_FRACTION))
    while split > 1 and data[split] & 0xC0 == 0x80:   # inside a character
        split -= 1
    return [data[:split], data[split:]]
