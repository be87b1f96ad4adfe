"""The dataset: the mixture of tasks, packed training batches, holdout and extrapolation items.

From a training item to its loss mask: `Dataset.batch` draws items, `_pack` puts them into rows, and
`_lay_out` makes tokens and targets; a target outside the loss mask is IGNORE. Then
`_add_targets_inside` and `_add_intermediate_targets` set targets inside prompts. An item belongs to
the holdout if its task says so, mostly by the hash of its prompt (1 in 8), whatever the seed,
unless it is a fact.
"""
import random
import sys
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from seed.config import CurriculumConfig
from seed.errors import ConfigError, printable
from seed.curriculum.state import CurriculumState
from seed.curriculum.asked import Asked
from seed.curriculum.task import STATED_LEVEL, Item, Task, pick
from seed.curriculum.tasks import NAMES, TASKS
from seed.curriculum.corpus import Corpus
from seed.curriculum.unknown import Unknown
from seed.curriculum.user_tasks import UserTask, load
from seed.curriculum.vocab import END, PAD, decode, encode
from seed.curriculum.words import Identity
from seed.rng import Stream, dice, name_index
from seed.settings import nearest
from seed.task_names import is_user_task, short, wrong_kind

IGNORE = -1             # a target outside the loss mask
MIN_EVAL_LEVELS = 3     # a task with fewer levels has as many evaluation items as one with these
MAX_DRAWS = 100_000     # for an item on one side of the holdout split


class Batch(NamedTuple):
    """Targets are the next byte in answers, answers to subquestions in prompts, else IGNORE."""
    tokens: np.ndarray   # (b, t) int32
    targets: np.ndarray  # (b, t) int32


class SoftTargetBatch(NamedTuple):
    """A batch with a parent's soft targets, as in `wavecore.loss.SoftTargets`."""
    tokens: np.ndarray      # (b, t) int32
    targets: np.ndarray     # (b, t) int32
    topk_ids: np.ndarray    # (b, t, k) int32, < 0 where there is no soft target
    topk_probs: np.ndarray  # (b, t, k) float32


class Pool(NamedTuple):
    """Items beside those of the generators, and the fraction of a batch's items that they get."""
    data_fraction: float
    items: Sequence[Item]


class Dataset:
    """The tasks with a weight above 0, in the order of `NAMES`. Weights count items, not bytes."""

    def __init__(self, config: CurriculumConfig, identity: dict[str, str], seed: int,
                 loaded: Mapping[str, Task] = MappingProxyType({}), replayed: Sequence[Task] = ()):
        """`loaded`: user tasks that need not be read again, by name. `replayed`: tasks that are
        evaluated beside those of the mixture."""
        for name in config.tasks:
            if name not in NAMES and not is_user_task(name):
                raise ConfigError(f"curriculum.tasks.{printable(name)}" + (
                    wrong_kind(name) or f" is unknown{nearest(name, NAMES)}"))
        names = [name for name in (*NAMES, *filter(is_user_task, config.tasks))
                 if config.tasks.get(name, 0.0) > 0]
        if Identity.name in names and not identity:
            raise ConfigError("identity is empty: fill [identity] with question = answer, "
                              "or set curriculum.tasks.identity=0")
        self.tasks: dict[str, Task] = {}
        for name in names:
            if name == Identity.name:
                self.tasks[name] = Identity(identity)
            elif name == Asked.name:   # after the tasks that it asks about, as the next
                self.tasks[name] = Asked(self.tasks)
            elif name == Unknown.name:
                self.tasks[name] = Unknown(self.tasks)
            else:
                self.tasks[name] = TASKS[name]() if name in TASKS else (
                    loaded.get(name) or load(name))
        self.replayed = {task.name: task for task in replayed}
        self.seed, self.config = seed, config
        self.levels = [(task, level) for task in self.tasks.values() for level in task.levels]

    def draw(self, rng: random.Random, task: Task, level: int, holdout: bool,
             answer: bytes | None = None, max_item_bytes: int = sys.maxsize) -> Item:
        """An item on that side of the holdout split, with that answer if given.

        Raises ConfigError if there is none.
        """
        any_fits = False
        for _ in range(MAX_DRAWS):
            item = (task.generate_stated(rng) if level == STATED_LEVEL else
                    task.generate(rng, level))
            fits = item_bytes(item) <= max_item_bytes
            any_fits |= fits
            if fits and answer in (None, item.answer) and task.belongs(item, holdout):
                return item
        if not any_fits:
            raise ConfigError(_too_long(item, max_item_bytes - 1))
        raise ConfigError(f"{task.name}: none of {MAX_DRAWS} prompts of level {level} is for "
                          f"{'the holdout' if holdout else 'training'}: give more distinct prompts")

    def check(self, seq_len: int, log: Callable[[str], object] = bool) -> None:
        """Raises ConfigError unless every task and level has an item that fits into a row.

        Logs what is odd about a corpus.
        """
        rng = dice(self.seed, Stream.SAMPLE, 0)
        for task, level in self.levels:
            self.draw(rng, task, level, holdout=False, max_item_bytes=seq_len + 1)
        for task in self.tasks.values():
            for remark in task.remarks(seq_len) if isinstance(task, Corpus) else ():
                log(f"{printable(task.name)}: {remark}")

    def stop_when(self, stop_fn: Callable[[], bool]) -> None:
        """Calls of user tasks end with StopRequested when `stop_fn` is true."""
        for task in self.tasks.values():
            if isinstance(task, UserTask):
                task.stop_when(stop_fn)

    def mixture(self, curriculum: CurriculumState) -> list[float]:
        """The weight of each of `levels`: the profile's times the curriculum's."""
        return [self.config.tasks[task.name] / len(task.levels)
                * curriculum.sampling_weight(self.config, task, level)
                for task, level in self.levels]

    def batch(self, curriculum: CurriculumState, step: int, batch_size: int, seq_len: int,
              extra_pools: Sequence[Pool] = (),
              learn_prompt_fn: Callable[[Item], bool] = lambda item: False) -> Batch:
        """Rows packed with whole items; a pure function of the arguments and the seed.

        Items that fit into a row are drawn until their bytes would fill all rows; those that then
        fit nowhere are dropped. Where `learn_prompt_fn` is true the prompt is in the loss mask too,
        without intermediate targets. Raises ConfigError if a task and level has no item that fits,
        or if no task is unlocked.
        """
        length = seq_len + 1   # in bytes: the last is only a target
        items = self._training_items(curriculum, step, batch_size * length, length, extra_pools)
        rows = _pack(items, batch_size, length)
        batch = _lay_out(rows, seq_len, learn_prompt_fn)
        _add_targets_inside(rows, batch.targets, learn_prompt_fn, self.config.intermediate_targets)
        if self.config.intermediate_targets:
            self._add_intermediate_targets(rows, batch.targets, learn_prompt_fn)
        return batch

    def _training_items(self, curriculum: CurriculumState, step: int, n_bytes: int,
                        max_item_bytes: int, extra_pools: Sequence[Pool]) -> list[Item]:
        """Items of the pools and of the mixture that have at least `n_bytes` together."""
        pools = [pool for pool in extra_pools if pool[0] and pool[1]]
        pool_bounds = list(accumulate(data_fraction for data_fraction, _ in pools))
        rng = dice(self.seed, Stream.BATCH, step)
        bounds = list(accumulate(self.mixture(curriculum)))
        if not bounds[-1]:
            raise ConfigError(f"curriculum.tasks has no task of grade {curriculum.unlocked} or "
                              f"below: use the profile with which the run was started")
        items: list[Item] = []
        total = 0
        while total < n_bytes:
            i = bisect(pool_bounds, rng.random()) if pools else 0
            if i < len(pools):
                items.append(pick(rng, pools[i][1]))
            else:
                task, level = self.levels[bisect(bounds, rng.random() * bounds[-1])]
                items.append(self.draw(rng, task, level, False, max_item_bytes=max_item_bytes))
            total += item_bytes(items[-1])
        return items

    def _add_intermediate_targets(self, rows: Sequence[Sequence[Item]], targets: np.ndarray,
                                  learn_prompt_fn: Callable[[Item], bool]) -> None:
        """Sets targets (b, t) inside prompts: answers to subquestions that are not of the holdout.

        Items of extra pools have none: their level is not a training level.
        """
        for row, row_targets in zip(rows, targets):
            start = 0
            for item in row:
                task = self.tasks.get(item.task)
                if task and item.level in task.levels and not learn_prompt_fn(item):
                    for end, question, answer in task.intermediate_targets(decode(item.prompt)):
                        if task.is_held_out(encode(question)):
                            continue
                        for i, byte in enumerate(encode(answer), end):
                            row_targets[start + i - 1] = byte
                            if item.prompt[i] != byte:
                                break
                start += item_bytes(item)

    def holdout(self, n_per_level: int) -> list[Item]:
        """n items per task and training level, never trained on; the same for every run seed."""
        return [item for task in (*self.tasks.values(), *self.replayed.values())
                for item in self._held_out(task, task.levels, n_per_level, Stream.HOLDOUT)]

    def stated(self, n_per_level: int) -> list[Item]:
        """Of each task as many items as `holdout` has of its levels, but drawn uniformly from all
        that it states; never trained on either, and the same for every run seed."""
        return [item for task in (*self.tasks.values(), *self.replayed.values())
                for item in self._held_out(task, (STATED_LEVEL,), n_per_level * len(task.levels),
                                           Stream.STATED)]

    def chance(self, task: str, level: int) -> float:
        """Of a task of the mixture, or one that is replayed."""
        return (self.replayed.get(task) or self.tasks[task]).chance(level)

    def evaluation_items(self, curriculum: CurriculumState) -> list[Item]:
        """What the curriculum is evaluated on: holdout items of all unlocked tasks."""
        return [item for task in self.tasks.values() if curriculum.is_unlocked(task.name)
                for item in self._held_out(
                    task, task.levels,
                    self.config.eval_items * max(1, MIN_EVAL_LEVELS // len(task.levels)),
                    Stream.EVALUATION)]

    def extrapolation(self, n_per_level: int, excluded: Collection[str] = ()) -> list[Item]:
        """n items per extrapolation level, longer than any trained one; the same for every run
        seed. `excluded`: tasks that self-play trains beyond their levels."""
        return self.beyond({name: task.extrapolation_levels.stop - 1
                            for name, task in self.tasks.items() if name not in excluded},
                           n_per_level)

    def beyond(self, highest_levels: Mapping[str, int], n_per_level: int) -> list[Item]:
        """n items of each level after the training levels up to a task's highest."""
        return [item for name, highest in highest_levels.items() for item in self._held_out(
            self.tasks[name], range(self.tasks[name].levels.stop, highest + 1), n_per_level,
            Stream.EXTRAPOLATION)]

    def within_levels(self, highest_levels: Mapping[str, int]) -> dict[str, int]:
        """Of the tasks of this dataset, each at most at the highest level that it can ask."""
        return {name: min(highest, self.tasks[name].extrapolation_levels.stop - 1)
                if name in TASKS else highest
                for name, highest in highest_levels.items() if name in self.tasks}

    def _held_out(self, task: Task, levels: Iterable[int], n_per_level: int,
                  purpose: Stream) -> list[Item]:
        """Distinct items of one task. Where answers are few, each occurs equally often: no constant
        answer beats the chance level."""
        items, rng = list[Item](), dice(0, purpose, _task_index(task.name))
        answers = task.answers or (None,)
        n_per_answer = max(1, n_per_level // len(answers))
        for level in levels:
            by_answer = [self._distinct(rng, task, level, n_per_answer, answer)
                         for answer in answers]
            n_balanced = min(map(len, by_answer))
            items += [item for group in by_answer for item in group[:n_balanced]]
        return items

    def _distinct(self, rng: random.Random, task: Task, level: int, n: int,
                  answer: bytes | None) -> list[Item]:
        """Holdout items, fewer than n where there are few."""
        items: dict[Item, None] = {}
        for _ in range(4 * n):
            items[self.draw(rng, task, level, True, answer)] = None
            if len(items) == n:
                break
        return list(items)


def _task_index(name: str) -> int:
    """The index of a task's random stream, the same wherever a user task's file is."""
    return name_index(short(name))


def _too_long(item: Item, seq_len: int) -> str:
    needed = item_bytes(item) - 1
    return (f"train.seq_len is {seq_len}: an item of {item.task} needs {needed}; "
            f"use at least {needed} or a shorter text")


def item_bytes(item: Item) -> int:
    """Bytes of an item in a row, with END."""
    return len(item.prompt) + len(item.answer) + 1


def _pack(items: Sequence[Item], n_rows: int, length: int) -> list[list[Item]]:
    """Best fit decreasing (Johnson 1973); a row keeps the order in which its items were drawn."""
    rows: list[list[int]] = [[] for _ in range(n_rows)]
    room, sizes = [length] * n_rows, [item_bytes(item) for item in items]
    for i in sorted(range(len(items)), key=lambda i: -sizes[i]):
        fitting = [row for row, left in enumerate(room) if left >= sizes[i]]
        if fitting:
            best = min(fitting, key=room.__getitem__)
            rows[best].append(i)
            room[best] -= sizes[i]
    return [[items[i] for i in sorted(row)] for row in rows]


def _lay_out(rows: Sequence[Sequence[Item]], seq_len: int,
             learn_prompt_fn: Callable[[Item], bool] = lambda item: False) -> Batch:
    """Items back to back in each row; seq_len + 1 bytes make seq_len (token, next byte) pairs.

    The loss mask has answers and END, and prompts where `learn_prompt_fn` is true.
    """
    data = np.full((len(rows), seq_len + 1), PAD, np.int32)   # (b, t + 1)
    loss_mask = np.zeros(data.shape, bool)                    # (b, t + 1)
    for i, row in enumerate(rows):
        start = 0
        for item in row:
            end, answer = start + item_bytes(item), start + len(item.prompt)
            text = item.prompt + item.answer + bytes((END,))
            data[i, start:end] = np.frombuffer(text, np.uint8)
            loss_mask[i, start if learn_prompt_fn(item) else answer:end] = True
            start = end
    targets = np.where(loss_mask, data, IGNORE)[:, 1:]        # (b, t)
    return Batch(data[:, :-1].copy(), targets.copy())


def _add_targets_inside(rows: Sequence[Sequence[Item]], targets: np.ndarray,
                        learn_prompt_fn: Callable[[Item], bool], with_labels: bool) -> None:
    """Sets targets (b, t) inside prompts: the questions there, and labels if they are wanted."""
    for row, row_targets in zip(rows, targets):
        start = 0
        for item in row:
            for tokens in (item.questions, item.labels if with_labels else b""):
                if tokens and not learn_prompt_fn(item):
                    inside = np.frombuffer(tokens, np.uint8)   # (n,)
                    places = np.flatnonzero(inside != PAD)
                    row_targets[start + places] = inside[places]
            start += item_bytes(item)


def samples(dataset: Dataset, n: int) -> list[Item]:
    """n training items of each task and level, for a person to read."""
    items = []
    for name, task in dataset.tasks.items():
        rng = dice(dataset.seed, Stream.SAMPLE, _task_index(name))
        for level in task.levels:
            items += [dataset.draw(rng, task, level, holdout=False) for _ in range(n)]
    return items
