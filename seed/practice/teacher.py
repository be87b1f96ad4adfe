"""A teacher that answers training questions: probed first, its replies filtered and logged.

A reply becomes a training item only if the task's rule verifies it or, without a rule, if the
teacher was sure. A teacher that fails the probe questions is rejected, and the run continues
without it; a server that fails has not answered, and the probe waits for it. teacher.jsonl has each
accepted item with the step from which it is trained on: a resumed run has the same bits, whether
the teacher is there or not.
"""
import os
from bisect import bisect
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from seed.config import Profile, TeacherConfig
from seed.curriculum.dataset import Dataset, Pool, item_bytes
from seed.curriculum.task import PROPOSED_LEVEL, Item, pick
from seed.curriculum.user_tasks import require_prompt_pattern
from seed.curriculum.vocab import decode, encode
from seed.interpreter import KEY_VARIABLE
from seed.practice.reply import EndpointError, Rejection, answer_format
from seed.practice.teacher_backend import (Backend, Background, Mock, ProposalRequest, Reply,
                                           Request)
from seed.rng import Stream, dice
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import Log, RunDir

FORMAT_ITEMS_PER_LEVEL = 32   # from which the format of a task's answers is known
MAX_PENDING_ROUNDS = 4        # of questions; then no more are asked
PROBE_QUESTIONS = 20          # with known answers, which the teacher has to answer first
PROBE_INDEX = 1               # of the probe's random stream, where a round has its step
FULL_POOL_ITEMS = 1000        # a smaller pool gets less than its fraction: it would be memorised
BYTES_AS_TEXT = "surrogateescape"   # a user's class may use bytes that are no text


class TaughtItem(NamedTuple):
    step: int    # from which it is trained on
    item: Item

    def to_object(self) -> dict[str, Any]:
        """A line of the file."""
        return {"step": self.step, "task": self.item.task, "level": self.item.level,
                **({"is_fact": True} if self.item.is_fact else {}),
                "prompt": self.item.prompt.decode("utf-8", BYTES_AS_TEXT),
                "answer": self.item.answer.decode("utf-8", BYTES_AS_TEXT)}

    @classmethod
    def from_object(cls, row: dict[str, Any]) -> "TaughtItem":
        if (type(row["step"]), type(row["level"]), type(row["task"])) != (int, int, str):
            raise ValueError("not a taught item")
        prompt, answer = (row[key].encode("utf-8", BYTES_AS_TEXT) for key in ("prompt", "answer"))
        return cls(row["step"], Item(row["task"], row["level"], prompt, answer,
                                     is_fact=row.get("is_fact") is True))


def open_teacher(profile: Profile, run_dir: RunDir, log: Log) -> "Teacher | None":
    """The teacher of profile.teacher; None if it has no kind. Raises ConfigError."""
    config, seed = profile.teacher, profile.train.seed
    if not config.kind:
        return None
    dataset = Dataset(replace(profile.curriculum, tasks=config.tasks), profile.identity, seed)
    backend = Mock(config.mock_accuracy, seed) if config.kind == "mock" else (
        _endpoint_backend(config, dataset, log))
    return Teacher(config, dataset, run_dir, profile.train.seq_len + 1, backend, log)


def _endpoint_backend(config: TeacherConfig, dataset: Dataset, log: Log) -> Backend:
    from seed.practice.endpoint import Endpoint   # with TLS: 4 MB that other runs do without
    rng, tasks = dice(dataset.seed, Stream.TEACHER, 0), dataset.tasks.values()
    if config.propose_fraction:
        require_prompt_pattern(tasks, "teacher.propose_fraction", "teacher.tasks")
    items = {task.name: [dataset.draw(rng, task, level, holdout=False)
                         for level in task.levels for _ in range(FORMAT_ITEMS_PER_LEVEL)]
             for task in tasks}
    formats = {name: answer_format(decode(item.answer) for item in known)
               for name, known in items.items()}
    shots = [known[i] for i in range(FORMAT_ITEMS_PER_LEVEL)
             for known in items.values()][:config.shots]
    endpoint = Endpoint(config.url, config.model, config.timeout_s,
                        os.environ.get(KEY_VARIABLE, "").strip(), not config.verify,
                        config.thought_tokens)
    log(f"teacher: asks {endpoint.url} in the background")
    return Background(endpoint, [(decode(item.prompt), decode(item.answer)) for item in shots],
                      formats)


class Teacher:
    """The taught items of a run up to a step, and the requests and replies of the next ones."""

    def __init__(self, config: TeacherConfig, dataset: Dataset, run_dir: RunDir,
                 max_item_bytes: int, backend: Backend, log: Log):
        """`dataset` has the tasks whose questions are asked."""
        self.config, self.dataset = config, dataset
        self.max_item_bytes, self.backend, self.log = max_item_bytes, backend, log
        self.file = JsonlLog(run_dir.teacher_log, TaughtItem.from_object, held=run_dir.held)
        if self.file.damage:
            log(self.file.damage)
        self.items = self.file.rows
        valid = [row for row in self.items if self._still_valid(row.item)]
        self._pool, self._steps = [row.item for row in valid], [row.step for row in valid]
        self.reply_counts: Counter[str] = Counter()   # "accepted", or a rejection
        self.probe_counts: Counter[str] = Counter()   # "right", or why not
        self.rejected = False
        self._n_probe_asked = 0

    def pool(self, step: int) -> list[Item]:
        """What is trained on at a step. Level PROPOSED_LEVEL, which no task has, keeps intermediate
        targets away: a prompt may be of another kind than the task's own."""
        return self._pool[:bisect(self._steps, step)]

    def pools(self, step: int) -> list[Pool]:
        """The pool of a step; its data fraction grows with it up to the configured one."""
        pool = self.pool(step)
        return [Pool(self.config.data_fraction * min(1.0, len(pool) / FULL_POOL_ITEMS), pool)]

    def is_due(self, step: int) -> bool:
        """Whether new items may start at this step: never before others that have started."""
        return step % self.config.every_steps == 0 and not self.rejected and (
            not self.items or self.items[-1].step < step)

    def log_faults(self) -> None:
        """What is new in why there are no replies."""
        while self.backend.faults:
            self.log(self.backend.faults.popleft())

    def collect(self, step: int) -> list[Item]:
        """The items that start at this step, on disk when it returns; asks new questions."""
        if self.probe_counts.total() < PROBE_QUESTIONS:
            self._probe()
        if self.rejected or self.probe_counts.total() < PROBE_QUESTIONS:
            return []
        if self.backend.pending() <= MAX_PENDING_ROUNDS * self.config.questions:
            self.backend.submit(
                self._requests(step, self.config.questions, self.config.propose_fraction))
        accepted, known = [], {row.item.prompt for row in self.items}
        for reply in self.backend.drain():
            rejection = self._rejection_reason(reply, known)
            self.reply_counts[str(rejection or "accepted")] += 1
            if rejection is None:
                known.add(reply.question.prompt)
                accepted.append(reply.question._replace(
                    level=PROPOSED_LEVEL, answer=encode(reply.answer), labels=b"", questions=b""))
        rows = [TaughtItem(step, item) for item in accepted]
        if not rows:
            return []
        if not self.file.append(rows, [row.to_object() for row in rows]):
            self.log(f"{len(rows)} teacher items dropped: cannot write {self.file.path}; free disk "
                     f"space or check the card")
            return []
        self._pool += accepted
        self._steps += [step] * len(accepted)
        return accepted

    def _probe(self) -> None:
        """Asks questions with known answers, which are not trained on, until enough have a reply.

        An error of the server is no reply, and another question is asked for it.
        """
        missing = PROBE_QUESTIONS - self.probe_counts.total() - self.backend.pending()
        if missing > 0:
            n_asked, self._n_probe_asked = self._n_probe_asked, self._n_probe_asked + missing
            self.backend.submit(
                self._requests(PROBE_INDEX, self._n_probe_asked, 0.0)[n_asked:])
        for reply in self.backend.drain():
            if isinstance(reply.rejection, EndpointError):
                self.reply_counts[str(reply.rejection)] += 1
            else:
                is_right = encode(reply.answer) == reply.question.answer
                self.probe_counts["right" if is_right else str(
                    reply.rejection or Rejection.WRONG)] += 1
        if self.probe_counts.total() == PROBE_QUESTIONS:
            self._judge_probe()

    def _judge_probe(self) -> None:
        n_right = self.probe_counts["right"]
        self.rejected = n_right < self.config.min_accuracy * PROBE_QUESTIONS
        verdict = f"teacher answered {n_right} of {PROBE_QUESTIONS} probe questions"
        if self.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in
                                self.probe_counts.most_common() if reason != "right")
            verdict += (f"; rejected (needs {100 * self.config.min_accuracy:.0f} %): {reasons}; "
                        "use a larger model or more teacher.shots")
        self.log(verdict)

    def _requests(self, index: int, n: int, propose_fraction: float) -> list[Request]:
        """The same for the same index, whether a run was interrupted or not."""
        rng = dice(self.dataset.seed, Stream.TEACHER, index)
        requests: list[Request] = []
        tasks = list(self.dataset.tasks.values())
        bounds = list(accumulate(self.config.tasks[task.name] for task in tasks))
        for _ in range(n):
            task = tasks[bisect(bounds, rng.random() * bounds[-1])]
            level = pick(rng, task.levels)
            proposes = propose_fraction > 0 and rng.random() < propose_fraction
            items = [self.dataset.draw(rng, task, level, holdout=False,
                                       max_item_bytes=self.max_item_bytes)
                     for _ in range(max(1, self.config.shots) if proposes else 1)]
            requests.append(ProposalRequest(task, tuple(decode(item.prompt) for item in items))
                            if proposes else items[0])
        return requests

    def _still_valid(self, item: Item) -> bool:
        """The file or the profile may have changed since an item was accepted."""
        task = self.dataset.tasks.get(item.task)
        return task is not None and task.belongs(item, holdout=False) and (
            not self.config.verify or task.verify(item.prompt, item.answer))

    def _rejection_reason(self, reply: Reply, known: set[bytes]
                          ) -> Rejection | EndpointError | None:
        """Why a reply is not trained on, if it is not. `known` are prompts that already are."""
        if reply.rejection is not None:
            return reply.rejection
        question, answer = reply.question, encode(reply.answer)
        if item_bytes(question._replace(answer=answer)) > self.max_item_bytes:
            return Rejection.LONG
        task = self.dataset.tasks[question.task]
        if question.level == PROPOSED_LEVEL and task.is_held_out(question.prompt):
            return Rejection.HOLDOUT
        if question.level == PROPOSED_LEVEL and question.prompt in known:
            return Rejection.DUPLICATE
        if self.config.verify:
            is_right = task.verify(question.prompt, answer)
            return None if is_right else Rejection.WRONG
        if reply.logprob is None:
            return Rejection.NO_LOGPROB
        return None if self.config.min_logprob <= reply.logprob <= 0 else Rejection.UNSURE
