"""Self-play: the brain answers questions beyond its training levels and learns the right answers.

A round asks, for each task in selfplay.tasks, questions of the task's next level: the first after
its training levels that was not yet promoted. Accepted answers become training items; when enough
of a round is accepted, the level is promoted (Lee et al. 2502.01612, section 3). An answer is
accepted if the task verifies it or, with selfplay.verify = false, if enough of several sampled
answers agree and it is not shorter than most in the round (section 6: short answers are the common
mistake, and votes agree on them). Rejected either way: unterminated answers, those whose mean
entropy is above `max_entropy`, and those that leave unusually large states.

With selfplay.propose_fraction the brain also trains on the prompts of some items, and a round
samples text freely: samples that parse as new questions join the round as PROPOSED_LEVEL.

selfplay.jsonl has a line for each TaskRound. A resumed run drops those after its checkpoint, and
plays them again to the same bits.
"""
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from seed.config import SelfplayConfig
from seed.errors import ConfigError
from seed.curriculum.dataset import Dataset, Pool, item_bytes
from seed.curriculum.task import PROPOSED_LEVEL, Item, Task
from seed.curriculum.user_tasks import UserTask, require_prompt_pattern
from seed.curriculum.vocab import END
from seed.rng import Stream, dice
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import Log, RunDir

if TYPE_CHECKING:   # it imports tinygrad
    from seed.wavecore.decode import Rollout

MIN_PROMOTION_RATE = 0.9           # accepted fraction of a round that promotes its level
MIN_VOTED_LENGTH_FRACTION = 0.75   # of the round's median answer length
MAX_STATE_PEAK_RATIO = 4.0         # to the round's median state peak
MAX_DRAWS_PER_QUESTION = 100


# (prompts, maximal bytes of an answer, temperature, seed and index of the draws) -> answers
RolloutFn = Callable[[Sequence[bytes], int, float, int, int], list["Rollout"]]


class TaskRound(NamedTuple):
    """One task's questions at one step."""
    step: int
    task: str
    level: int
    questions: int
    agreement: float   # mean fraction of the votes for the most common answer
    entropy: float     # mean over all answers
    ended: int         # answers that ended with END
    confident: int     # of them, those with low entropy and usual states
    accepted: tuple[Item, ...]

    @property
    def accept_rate(self) -> float:
        return len(self.accepted) / max(1, self.questions)

    def to_object(self) -> dict[str, Any]:
        """A line of the file."""
        return {**self._asdict(), "accepted": [
            [text.decode("latin-1") for text in (item.prompt, item.answer)]
            for item in self.accepted]}

    @classmethod
    def from_object(cls, row: dict[str, Any]) -> "TaskRound":
        items = [Item(row["task"], row["level"], prompt.encode("latin-1"), answer.encode("latin-1"))
                 for prompt, answer in row["accepted"]]
        played = cls(**{**row, "accepted": tuple(items)})
        if type(played.task) is not str or not all(
                type(count) is int and count >= 0 for count in (
                    played.step, played.level, played.questions, played.ended, played.confident)):
            raise ValueError("not a round")
        return played


class Selfplay:
    """The rounds of a run up to its step, and the next one."""

    def __init__(self, config: SelfplayConfig, dataset: Dataset, run_dir: RunDir, step: int,
                 max_item_bytes: int, log: Log):
        """Raises ConfigError if a task in selfplay.tasks is not trained or lacks a level."""
        for name, level in config.tasks.items():
            if name not in dataset.tasks:
                raise ConfigError(f"selfplay.tasks.{name} is not trained: give it a weight in "
                                  f"curriculum.tasks, or remove it")
            task = dataset.tasks[name]
            n_levels = len(task.levels) + int(task.extrapolates)
            if level > n_levels and not isinstance(task, UserTask):
                raise ConfigError(f"selfplay.tasks.{name} is {level}: the task has {n_levels} "
                                  f"levels, use at most {n_levels}")
        self.config, self.dataset = config, dataset
        self.max_item_bytes, self.log = max_item_bytes, log
        self._tasks = [dataset.tasks[name] for name in config.tasks]
        if config.propose_fraction:
            require_prompt_pattern(self._tasks, "selfplay.propose_fraction", "selfplay.tasks")
        self.file = JsonlLog(run_dir.selfplay_log, TaskRound.from_object,
                             lambda row: row.step < step, run_dir.held)
        if self.file.damage:
            log(self.file.damage)
        self.rounds = self.file.rows
        self.accepted: dict[tuple[str, int], list[Item]] = {}   # by task and level
        self._accept(item for row in self.rounds if row.task in config.tasks
                     for item in row.accepted if self._still_valid(item))

    def is_due(self, step: int) -> bool:
        """Whether a round belongs to this step and has not been played."""
        return bool(self.config.tasks) and step > 0 and step % self.config.every_steps == 0 and (
            not self.rounds or self.rounds[-1].step < step)

    def next_level(self, task: Task) -> int:
        """The level that the next round asks: the first that was not promoted."""
        level = len(task.levels) + 1
        for row in self.rounds:
            promoted = row.accept_rate >= MIN_PROMOTION_RATE
            if promoted and (row.task, row.level) == (task.name, level):
                level += 1
        return min(level, self.config.tasks[task.name])

    def play(self, step: int, seed: int, rollout_fn: RolloutFn,
             should_stop_fn: Callable[[], bool] = lambda: False) -> list[TaskRound] | None:
        """The rounds of this step, on disk when it returns; an empty list if they could not be
        written; None if stopped: `should_stop_fn` is called before each rollout. Raises ConfigError
        for a task that fails."""
        questions = []
        for i, task in enumerate(self._tasks, step * len(self._tasks)):
            level = self.next_level(task)
            questions.append((task, level, self._prompts(task, level, seed, i)))
        # RNG draw indices, unique per rollout
        draws = count(step * (2 * len(self._tasks) * self.config.votes + 1))
        if self.config.propose_fraction:
            if should_stop_fn():
                return None
            samples = rollout_fn([bytes([END])] * self.config.questions, self.max_item_bytes, 1.0,
                                 seed, next(draws))
            questions += [(task, PROPOSED_LEVEL, self._proposals(task, samples))
                          for task in self._tasks]
        rounds = []
        for task, level, prompts in questions:
            votes = []
            for _ in range(self.config.votes if prompts else 0):
                if should_stop_fn():
                    return None
                votes.append(rollout_fn(prompts, self.config.max_answer_bytes,
                                        self.config.temperature, seed, next(draws)))
            rounds.append(self._judge(step, task, level, prompts, votes))
        if not self.file.append(rounds, [row.to_object() for row in rounds]):
            self.log(f"self-play round of step {step} dropped: cannot write {self.file.path}; free "
                     f"disk space or check the card")
            return []
        self._accept(item for row in rounds for item in row.accepted)
        return rounds

    def _accept(self, items: Iterable[Item]) -> None:
        for item in items:
            self.accepted.setdefault((item.task, item.level), []).append(item)

    def _still_valid(self, item: Item) -> bool:
        """An item may have been accepted before `verify` was turned on."""
        return not self.config.verify or self.dataset.tasks[item.task].verify(
            item.prompt, item.answer)

    def pools(self) -> list[Pool]:
        """Accepted items of each task and level. Weight grows with item count up to one round, so
        that a new level is not under-sampled."""
        weights = [min(len(items), self.config.questions) for items in self.accepted.values()]
        return [Pool(self.config.data_fraction * weight / sum(weights), items)
                for weight, items in zip(weights, self.accepted.values())]

    def learns_prompt(self, item: Item) -> bool:
        """Whether an item's prompt is trained too: chosen by its hash, the same in every run."""
        if item.task not in self.config.tasks or not self.config.propose_fraction:
            return False
        digest = hashlib.blake2b(item.prompt, digest_size=4, person=b"propose").digest()
        return int.from_bytes(digest, "little") < self.config.propose_fraction * 2 ** 32

    def _proposals(self, task: Task, samples: Sequence["Rollout"]) -> list[bytes]:
        """The new questions of a task among freely sampled texts."""
        known = {item.prompt for item in self.accepted.get((task.name, PROPOSED_LEVEL), ())}
        prompts = dict.fromkeys(task.parse_prompt(sample.text) for sample in samples)
        return [prompt for prompt in prompts
                if prompt and prompt not in known and not task.is_held_out(prompt)]

    def _prompts(self, task: Task, level: int, seed: int, index: int) -> list[bytes]:
        """Distinct questions outside the holdout."""
        rng, prompts = dice(seed, Stream.SELFPLAY, index), dict[bytes, None]()
        for _ in range(MAX_DRAWS_PER_QUESTION * self.config.questions):
            item = task.generate(rng, level)
            if not task.is_held_out(item.prompt) and item_bytes(item) <= self.max_item_bytes:
                prompts[item.prompt] = None
            if len(prompts) == self.config.questions:
                return list(prompts)
        raise ConfigError(f"selfplay.questions is {self.config.questions}: {task.name} has fewer "
                          f"questions at level {level} that fit into train.seq_len")

    def _judge(self, step: int, task: Task, level: int, prompts: Sequence[bytes],
               votes: Sequence[Sequence["Rollout"]]) -> TaskRound:
        """`votes`: lists of answers to all prompts."""
        if not prompts:
            return TaskRound(step, task.name, level, 0, 0.0, 0.0, 0, 0, ())
        answers = [answer for vote in votes for answer in vote]
        max_peak = MAX_STATE_PEAK_RATIO * median(answer.peak for answer in answers)

        def is_confident(answer: "Rollout") -> bool:
            return (answer.ended and answer.entropy <= self.config.max_entropy
                    and answer.peak <= max_peak)
        best = [_most_common([answer.text for answer in group if is_confident(answer)])
                for group in zip(*votes, strict=True)]
        agreement = [n_votes / len(votes) for _, n_votes in best]
        min_length = MIN_VOTED_LENGTH_FRACTION * median(
            [len(text) for text, n_votes in best if n_votes] or [0])
        accepted = []
        for prompt, (text, _), fraction in zip(prompts, best, agreement):
            if not text:
                continue
            item = Item(task.name, level, prompt, text)
            accept = task.verify(prompt, text) if self.config.verify else (
                fraction >= self.config.majority and len(text) >= min_length)
            if accept and item_bytes(item) <= self.max_item_bytes:
                accepted.append(item)
        return TaskRound(
            step, task.name, level, len(prompts), agreement=sum(agreement) / len(agreement),
            entropy=sum(answer.entropy for answer in answers) / len(answers),
            ended=sum(answer.ended for answer in answers),
            confident=sum(map(is_confident, answers)), accepted=tuple(accepted))


def _most_common(texts: Sequence[bytes]) -> tuple[bytes, int]:
    """The most common text, the first of equals, and how often it occurs; (b"", 0) of none."""
    return Counter(texts).most_common(1)[0] if texts else (b"", 0)
