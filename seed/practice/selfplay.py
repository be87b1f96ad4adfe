"""Self-play: the brain answers questions longer than its lessons, and learns what it got right.

At a round the brain is asked, for each task that plays, questions of the task's frontier: the level
after those that it was taught and has won. Answers that pass become lessons; when enough of a round
passes, the frontier moves on (Lee et al. 2502.01612, section 3). An answer passes

- by rule: the task verifies it; or, with selfplay.verify = false,
- by vote: enough of several sampled answers are the same, and it is not shorter than is usual in
  the round (section 6: short answers are the common mistake, and votes agree on them);

and either way only if it was said steadily: it came to an end, the brain was not at a loss over its
bytes (selfplay.max_entropy), and its states are no larger than is usual in the round.

With selfplay.propose_fraction the brain learns the prompts of some lessons too, and asks itself: at a round
it says what comes into its mind, and what is a new question of a task that plays, and not one that
examinations keep, is put to it as those of the frontier are. In the rounds these are level 0.

The rounds are in selfplay.jsonl, one line a task and round, or two. A run that goes on drops what
lies after its checkpoint, and plays it again to the same bits.
"""
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from seed.config import SelfplayConfig
from seed.errors import ConfigError
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import RunDir
from seed.curriculum.dataset import Dataset, is_holdout, item_bytes
from seed.curriculum.user_tasks import UserTask, require_prompt_pattern
from seed.curriculum.task import Item, Task
from seed.curriculum.vocab import END
from seed.rng import Stream, dice

PROMOTE_AT = 0.9   # fraction of a round that has to pass before the next level is asked
SHORT = 0.75   # of the usual length: a voted answer that is shorter is not learnt
WILD = 4.0     # times the usual magnitude of the states: an answer that leaves more is not learnt
SELF_ASKED = 0        # the level of what the brain has asked itself


class Answer(NamedTuple):
    """What a brain has said to a prompt, without END."""
    text: bytes
    ended: bool       # by END, not by its length
    entropy: float    # mean over its bytes, nats
    peak: float       # the largest magnitude in the states that it leaves


# (prompts, longest answer, temperature, seed and index of the draws) -> answers
Rollout = Callable[[Sequence[bytes], int, float, int, int], list[Answer]]


class Round(NamedTuple):
    """One task's questions of one step."""
    step: int
    task: str
    level: int                # SELF_ASKED: asked by the brain
    asked: int
    agreement: float          # mean share of the votes that the commonest answer has
    entropy: float
    ended: int                # answers that came to an end
    steady: int               # of them, those said without doubt and with usual states
    passed: tuple[Item, ...]

    @property
    def rate(self) -> float:
        return len(self.passed) / max(1, self.asked)

    def to_object(self) -> dict[str, Any]:
        """As a line of the file has it."""
        return {**self._asdict(), "passed": [(item.prompt.decode("latin-1"),
                                              item.answer.decode("latin-1"))
                                             for item in self.passed]}


def _round(row: dict[str, Any]) -> Round:
    items = tuple(Item(row["task"], row["level"], *(text.encode("latin-1") for text in pair))
                  for pair in row["passed"])
    return Round(**{"steady": row["ended"], **row, "passed": items})   # it was not told before


class Selfplay:
    """The rounds of a run up to its step, and the next one."""

    def __init__(self, config: SelfplayConfig, dataset: Dataset, run_dir: RunDir, step: int,
                 longest: int):
        """`longest`: bytes of an item that still fits into a row.

        Raises ConfigError if a task that is to play is not taught, or has not so many levels.
        """
        for name, level in config.tasks.items():
            if name not in dataset.tasks:
                raise ConfigError(f"selfplay.tasks.{name} is not among the lessons: give it a "
                                  f"weight in curriculum.tasks, or take it out")
            task = dataset.tasks[name]
            most = len(task.levels) + task.extrapolates
            if level > most and not isinstance(task, UserTask):
                raise ConfigError(f"selfplay.tasks.{name} is {level}: the task has {most} levels, "
                                  f"use no more")
        self.config, self.dataset, self.longest = config, dataset, longest
        self._tasks = [dataset.tasks[name] for name in config.tasks]
        if config.propose_fraction:
            require_prompt_pattern(self._tasks, "selfplay.propose_fraction", "selfplay.tasks")
        self.journal = JsonlLog(run_dir.selfplay_log, _round, lambda done: done.step < step)
        self.won: dict[tuple[str, int], list[Item]] = {}   # what has passed, by task and level
        self._keep([done._replace(passed=tuple(filter(self._stands, done.passed)))
                    for done in self.rounds if done.task in config.tasks])

    @property
    def rounds(self) -> list[Round]:
        return self.journal.rows

    def is_due(self, step: int) -> bool:
        """Whether a round belongs to this step and has not been played."""
        return bool(self.config.tasks) and step > 0 and step % self.config.every_steps == 0 and (
            not self.rounds or self.rounds[-1].step < step)

    def frontier(self, task: Task) -> int:
        """The level that is asked next: the first that was not won."""
        level = len(task.levels) + 1
        for done in self.rounds:
            if done.task == task.name and done.level == level and done.rate >= PROMOTE_AT:
                level += 1
        return min(level, self.config.tasks[task.name])

    def play(self, step: int, seed: int, rollout: Rollout,
             stopped: Callable[[], bool] = lambda: False) -> list[Round] | None:
        """The rounds of this step, on disk when it returns; none if the disk refuses them. None if
        `stopped`, which is asked before each rollout, became true.

        Raises ConfigError for a task that is at fault.
        """
        questions = []
        for i, task in enumerate(self._tasks):
            level = self.frontier(task)
            questions.append((task, level, self._prompts(task, level, seed,
                                                         step * len(self._tasks) + i)))
        draws = iter(self._draws(step))
        if self.config.propose_fraction:
            if stopped():
                return None
            said = rollout([bytes([END])] * self.config.questions, self.longest, 1.0, seed,
                           next(draws))
            questions += [(task, SELF_ASKED, self._proposals(task, said)) for task in self._tasks]
        played = []
        for task, level, prompts in questions:
            votes = []
            for _ in range(self.config.votes if prompts else 0):
                if stopped():
                    return None
                votes.append(rollout(prompts, self.config.max_answer_bytes, self.config.temperature, seed,
                                     next(draws)))
            played.append(self._judge(step, task, level, prompts, votes))
        if not self.journal.append(played, [done.to_object() for done in played]):
            return []
        self._keep(played)
        return played

    def _keep(self, rounds: Sequence[Round]) -> None:
        for done in rounds:
            if done.passed:
                self.won.setdefault((done.task, done.level), []).extend(done.passed)

    def _stands(self, item: Item) -> bool:
        """Whether what was won may be learnt: the rule may not have been asked then."""
        return not self.config.verify or self.dataset.tasks[item.task].verify(*item[2:])

    def lessons(self) -> list[tuple[float, Sequence[Item]]]:
        """What was won, and its shares: the same for each task and level that has passed as often
        as a round asks. Else the newest, from which the next is learnt, would have the least."""
        weights = [min(len(items), self.config.questions) for items in self.won.values()]
        return [(self.config.data_fraction * weight / sum(weights), items)
                for weight, items in zip(weights, self.won.values())]

    def teaches_to_ask(self, item: Item) -> bool:
        """Whether an item's prompt is learnt as well: chosen by its hash, the same in every run."""
        if item.task not in self.config.tasks or not self.config.propose_fraction:
            return False
        digest = hashlib.blake2b(item.prompt, digest_size=4, person=b"propose").digest()
        return int.from_bytes(digest, "little") < self.config.propose_fraction * 2 ** 32

    def _draws(self, step: int) -> range:
        """The indices of a round's draws: no two of a run are the same."""
        most = 2 * len(self._tasks) * self.config.votes + 1
        return range(step * most, (step + 1) * most)

    def _proposals(self, task: Task, said: Sequence[Answer]) -> list[bytes]:
        """The new questions of a task among texts that the brain has said of itself."""
        old = {item.prompt for item in self.won.get((task.name, SELF_ASKED), ())}
        found = dict.fromkeys(task.parse_prompt(answer.text) for answer in said)
        return [prompt for prompt in found
                if prompt and prompt not in old and not is_holdout(prompt)]

    def _prompts(self, task: Task, level: int, seed: int, index: int) -> list[bytes]:
        """Distinct questions for training, as the holdout keeps its own."""
        rng, found = dice(seed, Stream.SELFPLAY, index), dict[bytes, None]()
        for _ in range(100 * self.config.questions):
            item = task.generate(rng, level)
            if not is_holdout(item.prompt) and item_bytes(item) <= self.longest:
                found[item.prompt] = None
            if len(found) == self.config.questions:
                return list(found)
        raise ConfigError(f"selfplay.questions is {self.config.questions}: {task.name} has fewer "
                          f"questions at level {level} that fit into train.seq_len")

    def _judge(self, step: int, task: Task, level: int, prompts: Sequence[bytes],
               votes: Sequence[Sequence[Answer]]) -> Round:
        if not prompts:
            return Round(step, task.name, level, 0, 0.0, 0.0, 0, 0, ())
        everything = [answer for vote in votes for answer in vote]
        usual_peak = median(answer.peak for answer in everything)

        def steady(answer: Answer) -> bool:
            return (answer.ended and answer.entropy <= self.config.max_entropy and
                    answer.peak <= WILD * usual_peak)
        said = list(zip(*votes, strict=True))   # of each prompt
        common = [Counter(a.text for a in own if steady(a)).most_common(1) for own in said]
        shares = [found[0][1] / len(own) if found else 0.0 for found, own in zip(common, said)]
        usual = median(len(found[0][0]) for found in common if found) if any(common) else 0
        passed = []
        for prompt, found, share in zip(prompts, common, shares):
            if not found or not found[0][0]:
                continue
            item = Item(task.name, level, prompt, found[0][0])
            right = task.verify(*item[2:]) if self.config.verify else (
                share >= self.config.majority and len(item.answer) >= SHORT * usual)
            if right and item_bytes(item) <= self.longest:
                passed.append(item)
        return Round(step, task.name, level, len(prompts), sum(shares) / len(shares),
                     sum(a.entropy for a in everything) / len(everything),
                     sum(a.ended for a in everything), sum(map(steady, everything)), tuple(passed))
