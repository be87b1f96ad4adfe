"""Lessons: the mixture of tasks, packed training batches, holdout and extrapolation items.

An item belongs to the holdout if the hash of its prompt says so (1 in 8), whatever the seed. For
identity that keeps back whole wordings, never a question or an answer.
"""
import difflib
import hashlib
import random
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from seed.config import CurriculumConfig
from seed.errors import ConfigError
from seed.curriculum.user_tasks import is_user_task, load
from seed.curriculum.state import CurriculumState
from seed.curriculum.task import Item, Task, is_holdout
from seed.curriculum.tasks import NAMES, PLAIN
from seed.curriculum.vocab import END, PAD, decode, encode
from seed.curriculum.words import Identity
from seed.rng import Stream, dice

IGNORE = -1  # a target that is not learnt
FEW_LEVELS = 3    # a task with fewer is asked more in an examination of the curriculum
ATTEMPTS = 100_000  # to draw an item of one side of the split


class Batch(NamedTuple):
    """`targets` are the next byte if it is of an answer or END, else IGNORE; inside a prompt they
    are the answers to its parts."""
    tokens: np.ndarray   # (b, t) int32
    targets: np.ndarray  # (b, t) int32


class SoftTargetBatch(NamedTuple):
    """A batch with what a parent expects of each byte, as `reference.SoftTargets` has it."""
    tokens: np.ndarray   # (b, t) int32
    targets: np.ndarray  # (b, t) int32
    topk_ids: np.ndarray   # (b, t, k) int32, < 0 where it says nothing
    topk_probs: np.ndarray    # (b, t, k) float32


class Dataset:
    """The tasks with a share above 0, in the order of `NAMES`. Shares count items, not bytes."""

    def __init__(self, config: CurriculumConfig, identity: dict[str, str], seed: int):
        for name in config.tasks:
            if name not in NAMES and not is_user_task(name):
                near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
                raise ConfigError(f"curriculum.tasks.{name} is unknown; nearest is {near}")
        names = [name for name in (*NAMES, *filter(is_user_task, config.tasks))
                 if config.tasks.get(name, 0.0) > 0]
        if Identity.name in names and not identity:
            raise ConfigError("identity is empty: fill [identity] with question = answer, "
                              "or set curriculum.tasks.identity=0")
        self.tasks: dict[str, Task] = {
            name: Identity(identity) if name == Identity.name else
            PLAIN[name]() if name in PLAIN else load(name) for name in names}
        self.seed, self.config = seed, config
        self.levels = [(task, level) for task in self.tasks.values() for level in task.levels]

    def draw(self, rng: random.Random, task: Task, level: int, holdout: bool,
             answer: bytes | None = None, longest: int | None = None) -> Item:
        """An item of that side of the split and, if given, with that answer or of that length.

        Raises ConfigError if there is none.
        """
        for _ in range(ATTEMPTS):
            item = task.generate(rng, level)
            if longest is not None and len(item.prompt) + len(item.answer) > longest:
                continue
            if answer in (None, item.answer) and is_holdout(item.prompt) == holdout:
                return item
        if longest is not None and len(item.prompt) + len(item.answer) > longest:
            raise ConfigError(_too_long(item, longest))
        raise ConfigError(f"{task.name}: none of {ATTEMPTS} prompts of level {level} is for "
                          f"{'the holdout' if holdout else 'training'}: give more distinct prompts")

    def check(self, seq_len: int) -> None:
        """Raises ConfigError unless every task and level has an item that fits into a row."""
        rng = dice(self.seed, Stream.SAMPLE, 0)
        for task, level in self.levels:
            self.draw(rng, task, level, holdout=False, longest=seq_len)

    def mixture(self, curriculum: CurriculumState) -> list[float]:
        """The weight of each task and level, in their order: a task's share, as it is needed."""
        return [self.config.tasks[task.name] / len(task.levels)
                * curriculum.sampling_weight(self.config, task, level)
                for task, level in self.levels]

    def batch(self, curriculum: CurriculumState, step: int, batch_size: int, seq_len: int,
              extra: Sequence[tuple[float, Sequence[Item]]] = (),
              whole: Callable[[Item], bool] = lambda item: False) -> Batch:
        """Rows packed with whole items; a pure function of all that is given and the seed.

        Of each pair in `extra` the first is the share that its items have, as soon as there are
        any. Items are drawn until their bytes would fill the rows, and packed the longest first,
        each into the row that it fills best; what finds no room is dropped. In its row an item
        stands in the order of the draw. Of an item that is `whole` the prompt is learnt as well,
        instead of its parts. Items that outgrow a row are not drawn. Raises ConfigError if nothing
        else is left of a task and level, or if nothing is open.
        """
        pools = [(share, own) for share, own in extra if own and share]
        extras = list(accumulate(share for share, _ in pools))
        rng = dice(self.seed, Stream.BATCH, step)
        shares = list(accumulate(self.mixture(curriculum)))
        if not shares[-1]:
            raise ConfigError(f"curriculum.tasks has nothing of grade {curriculum.unlocked} or below: "
                              f"use the profile with which the run was started")
        items: list[Item] = []
        used = 0
        while used < batch_size * (seq_len + 1):
            which = bisect(extras, rng.random()) if pools else 0
            if which < len(pools):
                own = pools[which][1]
                items.append(own[int(rng.random() * len(own))])
            else:
                task, level = self.levels[bisect(shares, rng.random() * shares[-1])]
                items.append(self.draw(rng, task, level, holdout=False, longest=seq_len))
            used += size(items[-1])
        rows = _pack(items, batch_size, seq_len + 1)
        batch = _lay_out(rows, seq_len, whole)
        if self.config.intermediate_targets:
            self._add_parts(rows, batch.targets, whole)
        return batch

    def _add_parts(self, rows: Sequence[Sequence[Item]], targets: np.ndarray,
                   whole: Callable[[Item], bool]) -> None:
        """Sets the targets inside the prompts: answers to their parts, unless the holdout asks
        them."""
        for row, own in zip(rows, targets):
            start = 0
            for item in row:
                task = self.tasks.get(item.task)
                parts = task.parts(decode(item.prompt)) if (
                    task and item.level in task.levels and not whole(item)) else (
                    ())  # what is extra tells its answer alone
                for end, question, answer in parts:
                    if is_holdout(encode(question)):
                        continue
                    for i, byte in enumerate(encode(answer)):
                        own[start + end - 1 + i] = byte
                        if item.prompt[end + i] != byte:
                            break
                start += size(item)

    def holdout(self, n_per_level: int) -> list[Item]:
        """n items a task and training level, never trained on; the same for every run seed."""
        return self._examination(self.tasks, n_per_level, Stream.HOLDOUT)

    def evaluation_items(self, curriculum: CurriculumState) -> list[Item]:
        """What the curriculum asks of all that it has opened; never trained on either."""
        return [item for name, task in self.tasks.items() if curriculum.is_unlocked(name)
                for item in self._examination(
                    [name], self.config.eval_items * max(1, FEW_LEVELS // len(task.levels)),
                    Stream.EXAM)]

    def extrapolation(self, n_per_level: int, played: Iterable[str] = ()) -> list[Item]:
        """n items a task, longer than any trained one; the same for every run seed. Tasks that were
        `played` beyond their levels have none."""
        names = [name for name in self.tasks if name not in set(played)]
        return self._examination(names, n_per_level, Stream.EXTRAPOLATION)

    def beyond(self, highest: Mapping[str, int], n_per_level: int) -> list[Item]:
        """n items a task and level after its training levels up to `highest`; for every seed."""
        return [item for name, level in highest.items()
                for item in self._examination([name], n_per_level, Stream.EXTRAPOLATION,
                                              range(len(self.tasks[name].levels) + 1, level + 1))]

    def _examination(self, names: Iterable[str], n_per_level: int, purpose: Stream,
                     asked: Sequence[int] = ()) -> list[Item]:
        """Distinct items. Where answers are few, each comes equally often: no constant beats the
        chance level."""
        items: list[Item] = []
        for name in names:
            task = self.tasks[name]
            longer = purpose == Stream.EXTRAPOLATION
            levels = asked or (
                [len(task.levels) + 1] * task.extrapolates if longer else task.levels)
            rng = dice(0, purpose, _number(name))
            for level in levels:
                if task.answers:
                    each = max(1, n_per_level // len(task.answers))
                    found = [self._distinct(rng, task, level, each, answer)
                             for answer in task.answers]
                    least = min(map(len, found))
                    items += [item for own in found for item in own[:least]]
                else:
                    items += self._distinct(rng, task, level, n_per_level, None)
        return items

    def _distinct(self, rng: random.Random, task: Task, level: int, n: int,
                  answer: bytes | None) -> list[Item]:
        """Holdout items, fewer than n where there are few."""
        found: dict[Item, None] = {}
        for _ in range(4 * n):
            found[self.draw(rng, task, level, True, answer)] = None
            if len(found) == n:
                break
        return list(found)


def _number(name: str) -> int:
    """Of a task's own stream of draws."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "little")


def _too_long(item: Item, seq_len: int) -> str:
    needed = size(item) - 1
    return (f"train.seq_len is {seq_len}: an item of {item.task} needs {needed}; "
            f"use at least {needed} or a shorter text")


def size(item: Item) -> int:
    """Bytes of a row, with END."""
    return len(item.prompt) + len(item.answer) + 1


def _pack(items: Sequence[Item], n_rows: int, length: int) -> list[list[Item]]:
    """Best fit, the longest first (Johnson 1973)."""
    rows: list[list[int]] = [[] for _ in range(n_rows)]
    room, needed = [length] * n_rows, [size(item) for item in items]
    for i in sorted(range(len(items)), key=lambda i: -needed[i]):
        fitting = [row for row, left in enumerate(room) if left >= needed[i]]
        if fitting:
            best = min(fitting, key=room.__getitem__)
            rows[best].append(i)
            room[best] -= needed[i]
    return [[items[i] for i in sorted(row)] for row in rows]


def _lay_out(rows: Sequence[Sequence[Item]], seq_len: int,
             whole: Callable[[Item], bool] = lambda item: False) -> Batch:
    """Items back to back in each row; seq_len + 1 bytes a row make seq_len (input, next) pairs."""
    flat = bytearray()
    learnt = bytearray()
    for row in rows:
        start = len(flat)
        for item in row:
            flat += item.prompt + item.answer
            flat.append(END)
            learnt += (b"\x01" if whole(item) else b"\0") * len(item.prompt)
            learnt += b"\x01" * (len(item.answer) + 1)
        room = seq_len + 1 - (len(flat) - start)
        flat += bytes((PAD,)) * room
        learnt += bytes(room)
    bytes_ = np.frombuffer(flat, np.uint8).reshape(len(rows), seq_len + 1)  # (b, t + 1)
    mask = np.frombuffer(learnt, np.uint8).reshape(len(rows), seq_len + 1)  # (b, t + 1)
    tokens = bytes_[:, :-1].astype(np.int32)                                # (b, t)
    targets = bytes_[:, 1:].astype(np.int32)                                # (b, t)
    targets[mask[:, 1:] == 0] = IGNORE
    return Batch(tokens, targets)


def pack_one_per_row(items: Sequence[Item], seq_len: int) -> Batch:
    """One item a row, the rest PAD and IGNORE. Raises ConfigError for an item longer than a row."""
    for item in items:
        if size(item) > seq_len + 1:
            raise ConfigError(_too_long(item, seq_len))
    return _lay_out([[item] for item in items], seq_len)


def samples(dataset: Dataset, n: int) -> list[Item]:
    """n training items of each task and level, for a person to read."""
    items = []
    for name, task in dataset.tasks.items():
        rng = dice(dataset.seed, Stream.SAMPLE, _number(name))
        for level in task.levels:
            items += [dataset.draw(rng, task, level, holdout=False) for _ in range(n)]
    return items
