"""A teacher beside the lessons: asked questions, probed, doubted, and remembered.

What it says becomes a lesson only if the task's rule holds it right, or, without a rule, if it was
sure. A teacher that fails the probe at the start is refused, and the run goes on without one. What
was accepted is in teacher.jsonl with the step from which it was learnt: a run that goes on learns
it again at the same steps, whether the teacher is there or not, so its bits are the same.
"""
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from seed.config import Profile, TeacherConfig
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import RunDir
from seed.curriculum.dataset import Dataset, is_holdout, item_bytes
from seed.curriculum.user_tasks import require_prompt_pattern
from seed.curriculum.task import Item
from seed.curriculum.vocab import decode, encode
from seed.rng import Stream, dice
from seed.practice.endpoint import Endpoint
from seed.practice.reply import answer_format
from seed.practice.teacher_backend import PROPOSED, Background, ProposalRequest, Mock, Reply, Backend

BYTES = "surrogateescape"   # a user's class may speak bytes that are no text
KNOWN = 32  # items a level from which the form of answers is known
QUEUE = 4   # rounds of questions that may wait
PROBE_QUESTIONS = 20   # with known answers, which a teacher has to answer first
PROBE = 1   # index of the draws of the first questions, where a step has its own
MANY = 1000  # lessons from which on they have their whole share: few would be learnt by heart


class Lesson(NamedTuple):
    step: int    # from which it is learnt
    item: Item

    def to_object(self) -> dict[str, Any]:
        """As a line of the file has it."""
        return {"step": self.step, "task": self.item.task, "level": self.item.level,
                "prompt": self.item.prompt.decode("utf-8", BYTES),
                "answer": self.item.answer.decode("utf-8", BYTES)}


def _lesson(row: dict[str, Any]) -> Lesson:
    if type(row["step"]) is not int or type(row["level"]) is not int:
        raise ValueError("not a lesson")
    return Lesson(row["step"], Item(row["task"], row["level"],
                                    row["prompt"].encode("utf-8", BYTES),
                                    row["answer"].encode("utf-8", BYTES)))


def open_teacher(profile: Profile, run_dir: RunDir, say: Callable[[str], None]) -> "Teacher | None":
    """The desk of profile.teacher; None if it names no teacher. Raises ConfigError."""
    config, seed = profile.teacher, profile.train.seed
    if not config.kind:
        return None
    dataset = Dataset(replace(profile.curriculum, tasks=config.tasks), profile.identity, seed)
    if config.kind == "mock":
        return Teacher(config, dataset, run_dir, profile.train.seq_len + 1,
                       Mock(config.mock_accuracy, seed), say)
    rng, tasks = dice(seed, Stream.TEACHER, 0), dataset.tasks.values()
    if config.propose_fraction:
        require_prompt_pattern(tasks, "teacher.propose_fraction", "teacher.tasks")
    known = {task.name: [dataset.draw(rng, task, level, holdout=False)
                         for level in task.levels for _ in range(KNOWN)] for task in tasks}
    forms = {name: answer_format(decode(item.answer) for item in items)
             for name, items in known.items()}
    shown = [items[i] for i in range(KNOWN) for items in known.values()][:config.shots]
    source = Background(Endpoint(config.url, config.model, config.timeout_s),
                        [(decode(item.prompt), decode(item.answer)) for item in shown], forms)
    return Teacher(config, dataset, run_dir, profile.train.seq_len + 1, source, say)


class Teacher:
    """The lessons of a run up to a step, and those that come."""

    def __init__(self, config: TeacherConfig, dataset: Dataset, run_dir: RunDir, longest: int,
                 source: Backend, say: Callable[[str], None]):
        """`dataset` has the tasks whose questions are asked; `longest` is of an item, bytes."""
        self.config, self.dataset = config, dataset
        self.longest, self.source, self.say = longest, source, say
        self.journal = JsonlLog(run_dir.teacher_log, _lesson)
        self._fallen = {i for i, row in enumerate(self.lessons) if not self._stands(row)}
        self._pool: list[Item] = []   # what has begun
        self._begun = 0               # lessons, those that have fallen with them
        self.counts: Counter[str] = Counter()   # of replies, by what became of them
        self.probed: list[bool] = []
        self.refused = False
        self._has_asked = False

    @property
    def lessons(self) -> list[Lesson]:
        return self.journal.rows

    def pool(self, step: int) -> list[Item]:
        """What is learnt at a step. Its level is 0, none of the lessons': its answer alone is told.
        """
        if self._begun and self.lessons[self._begun - 1].step > step:   # back to an older brain
            self._pool.clear()
            self._begun = 0
        while self._begun < len(self.lessons) and self.lessons[self._begun].step <= step:
            if self._begun not in self._fallen:
                self._pool.append(self.lessons[self._begun].item)
            self._begun += 1
        return self._pool

    def taught(self, step: int) -> list[tuple[float, Sequence[Item]]]:
        """The pool of a step and its share of the lessons, which grows with it."""
        pool = self.pool(step)
        return [(self.config.data_fraction * min(1.0, len(pool) / MANY), pool)]

    def is_due(self, step: int) -> bool:
        """Whether new lessons may begin at this step: never where others have begun already."""
        return step % self.config.every_steps == 0 and not self.refused and (
            not self.lessons or self.lessons[-1].step < step)

    def collect(self, step: int) -> list[Item]:
        """The lessons that begin at this step, on disk when it returns; asks new questions."""
        self._ask(step)
        found, known = [], {lesson.item.prompt for lesson in self.lessons}
        for said in self.source.ready():
            if len(self.probed) < PROBE_QUESTIONS:
                self._probe(said)
            elif not self.refused:
                reason = self._rejection_reason(said, known)
                self.counts[reason or "accepted"] += 1
                if not reason:
                    known.add(said.question.prompt)
                    found.append(said.question._replace(level=0, answer=encode(said.answer)))
        new = [Lesson(step, item) for item in found]
        kept = new and self.journal.append(new, [lesson.to_object() for lesson in new])
        return found if kept else []

    def _ask(self, step: int) -> None:
        if self.source.waiting() > QUEUE * self.config.questions:
            return
        if not self._has_asked:
            self._has_asked = True
            self.source.begin(self._questions(PROBE, PROBE_QUESTIONS, 0.0))
        self.source.begin(self._questions(
            step, self.config.questions, self.config.propose_fraction))

    def _questions(self, index: int, wanted: int, made_up: float) -> list[Item | ProposalRequest]:
        """The same for the same index, whether a run was interrupted or not."""
        rng = dice(self.dataset.seed, Stream.TEACHER, index)
        questions: list[Item | ProposalRequest] = []
        tasks = list(self.dataset.tasks.values())
        shares = list(accumulate(self.config.tasks[task.name] for task in tasks))
        for _ in range(wanted):
            task = tasks[bisect(shares, rng.random() * shares[-1])]
            level = task.levels[int(rng.random() * len(task.levels))]
            invites = made_up and rng.random() < made_up
            items = [self.dataset.draw(rng, task, level, holdout=False, max_item_bytes=self.longest)
                     for _ in range(max(1, self.config.shots) if invites else 1)]
            questions.append(ProposalRequest(task, tuple(decode(item.prompt) for item in items))
                             if invites else items[0])
        return questions

    def _stands(self, lesson: Lesson) -> bool:
        """Whether a lesson of the file may be learnt: it may have been changed, or the profile."""
        task = self.dataset.tasks.get(lesson.item.task)
        return task is not None and not is_holdout(lesson.item.prompt) and (
            not self.config.verify or task.verify(lesson.item.prompt, lesson.item.answer))

    def _probe(self, said: Reply) -> None:
        """The first replies are to questions whose answers are known, and are not learnt."""
        self.probed.append(encode(said.answer) == said.question.answer)
        if len(self.probed) == PROBE_QUESTIONS:
            right = sum(self.probed)
            self.refused = right < self.config.min_accuracy * PROBE_QUESTIONS
            self.say(f"the teacher has {right} of {PROBE_QUESTIONS} right" + (
                f": refused, it needs {100 * self.config.min_accuracy:.0f} %" if self.refused else ""))

    def _rejection_reason(self, said: Reply, known: set[bytes]) -> str:
        """Why a reply is not learnt; empty if it is. `known` are prompts that are learnt."""
        if said.reason:
            return said.reason
        task, answer = self.dataset.tasks[said.question.task], encode(said.answer)
        if item_bytes(said.question._replace(answer=answer)) > self.longest:
            return "long"
        if said.question.level == PROPOSED:
            if is_holdout(said.question.prompt):
                return "kept"
            if said.question.prompt in known:
                return "known"
        if self.config.verify:
            return "" if task.verify(said.question.prompt, answer) else "wrong"
        sure = said.logprob is not None and self.config.min_logprob <= said.logprob <= 0
        return "" if sure else "unsure"
