"""What a run knows of itself: the state that its checkpoints hold, and the session around it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from seed.config import Profile, from_dict
from seed.curriculum.dataset import Dataset
from seed.curriculum.state import LAST, CurriculumState
from seed.curriculum.task import Item
from seed.errors import ConfigError, Diverged, SaveFailed, StopReason
from seed.evaluation.exact_match import Score, evaluate
from seed.governor import RUN, STOP, Decision
from seed.storage import checkpoint
from seed.storage.checkpointer import Checkpointer
from seed.storage.metrics import Metrics, StatusLine, duration
from seed.storage.run_dir import Log, RunDir
from seed.training.schedule import Plan, StepTimer
from seed.training.stop_signals import StopSignals
from seed.training.systemd import notify
from seed.training.throttle import POLL_EVERY_S, Throttle

if TYPE_CHECKING:
    from seed.training.step import Learner, StepResult

# What a resumed run may change without a word: none of it changes what a step computes.
NOT_IN_THE_BITS = {
    "train": ("steps", "minutes", "eval_every_minutes", "save_every_minutes",
              "save_grace_minutes", "write_gb_per_day"), "distill": ("parent",)}
CHANGEABLE_TABLES = ("selfplay", "teacher")   # changes are logged; they hold for the steps to come
FIXED_TABLES = ("model", "curriculum", "train", "identity", "distill")
MAX_NONFINITE_STEPS = 3   # in a row; then the run rolls back
LOSS_DECAY = 0.95   # of the mean loss that is shown


class TrainResult(NamedTuple):
    step: int
    reason: StopReason
    scores: Sequence[Score] = ()   # of the holdout, when finished

    @property
    def finished(self) -> bool:
        return self.reason is StopReason.FINISHED


@dataclass
class RunState:
    """What changes from step to step, beside the learner's tensors."""
    curriculum: CurriculumState
    step: int = 0                  # optimizer steps done
    plan: Plan = Plan()
    skipped: int = 0               # steps whose loss or gradient was not finite
    rollbacks: int = 0
    elapsed_s: float = 0.0         # when its process began
    nonfinite_in_a_row: int = 0    # this and the next are not saved
    mean_loss: float = 0.0         # exponential; 0 before the first step

    @property
    def lr_scale(self) -> float:
        """Each rollback halves the rate."""
        return 0.5 ** self.rollbacks

    @property
    def is_complete(self) -> bool:
        return self.plan.total_steps is not None and self.step >= self.plan.total_steps

    @property
    def is_decaying(self) -> bool:
        return self.plan.decay_start is not None and self.step >= self.plan.decay_start

    def to_meta(self, profile: Profile, elapsed_s: float) -> dict[str, Any]:
        """Checkpoint metadata. A run by steps has nothing of the clock in its file."""
        return {"profile": profile.to_dict(), "step": self.step, "skipped": self.skipped,
                "elapsed_s": 0.0 if profile.train.steps else elapsed_s, "plan": asdict(self.plan),
                "rollbacks": self.rollbacks, "curriculum": self.curriculum.to_dict()}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> RunState:
        return cls(CurriculumState.from_dict(meta["curriculum"]), meta["step"],
                   Plan(**meta["plan"]), meta["skipped"], meta["rollbacks"], meta["elapsed_s"])


def resume(profile: Profile, run_dir: RunDir, learner: Learner, log: Log) -> RunState | None:
    """The state of the newest checkpoint, whose tensors the learner then has; None if there is
    none. Raises ConfigError, CheckpointError, OSError."""
    newest = run_dir.recover(log)
    if newest is None:
        return None
    _check_unchanged(profile, newest.meta, log)
    checkpoint.check_tensors(newest.tensors, learner.state_dict(), "checkpoint")
    learner.load_state_dict(newest.tensors)
    state, config = RunState.from_meta(newest.meta), profile.train
    is_longer = config.minutes > from_dict(newest.meta["profile"]).train.minutes
    if state.plan.total_steps != config.steps if config.steps else is_longer:
        state.plan = Plan()   # a run that is given a new end is planned anew
    log(f"resuming from step {state.step} of {run_dir}")
    return state


def _check_unchanged(profile: Profile, meta: dict[str, Any], log: Log) -> None:
    """Raises ConfigError naming the first key in which a resumed run differs from its start."""
    now, then = profile.to_dict(), from_dict(meta["profile"]).to_dict()
    for table in CHANGEABLE_TABLES:
        for key, value in now[table].items():
            if value != then[table][key]:
                log(f"{table}.{key} is {value!r} from step {meta['step']} on; it was "
                    f"{then[table][key]!r}")
    for table in FIXED_TABLES:
        for key in {**now[table], **then[table]}:
            value, old = now[table].get(key), then[table].get(key)
            if value != old and key not in NOT_IN_THE_BITS.get(table, ()):
                raise ConfigError(f"{table}.{key} is {value!r}, but this run began with {old!r}: "
                                  f"use that, or another --run-dir")


@dataclass
class Session:
    """A run in this process: its state, and the files, sensors and signals around it."""
    profile: Profile
    run_dir: RunDir
    learner: Learner
    dataset: Dataset
    state: RunState
    metrics: Metrics
    checkpointer: Checkpointer
    throttle: Throttle
    signals: StopSignals
    status: StatusLine
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.started_s = self.clock()
        self.timer = StepTimer(self.clock)
        self._logged = Decision(RUN, 1.0, False, "")
        self._curriculum_items: dict[int, list[Item]] = {}   # by unlocked grade

    @property
    def elapsed_s(self) -> float:
        """Of training so far, in this process and before."""
        return self.state.elapsed_s + self.clock() - self.started_s

    @property
    def is_unsaved(self) -> bool:
        return self.state.step > self.checkpointer.saved_step

    def curriculum_items(self) -> list[Item]:
        """What the curriculum is evaluated on; drawn once for each unlocked grade."""
        unlocked = self.state.curriculum.unlocked
        if unlocked not in self._curriculum_items:
            self._curriculum_items = {
                unlocked: self.dataset.evaluation_items(self.state.curriculum)}
        return self._curriculum_items[unlocked]

    def evaluate(self, items: Sequence[Item]) -> list[Score] | None:
        """Scores, or None if the run has to stop."""
        return evaluate(items, self.dataset, self.learner.forward, self.profile.train.seq_len,
                        self.service_requests)

    def evaluate_holdout(self, holdout: Sequence[Item]) -> list[Score] | None:
        """The same, logged to the metrics."""
        scores = self.evaluate(holdout)
        if scores is not None:
            self.metrics.write("eval", self.state.step, scores=[s.to_dict() for s in scores])
        return scores

    def mark_safe(self) -> None:
        """Tells the signals whether the process may end now without losing a step."""
        if self.state.step == self.checkpointer.saved_step:
            self.signals.safe.set()
        else:
            self.signals.safe.clear()

    def save_first(self) -> None:
        """A checkpoint of the fresh brain, so that there is one to roll back to. Raises OSError."""
        size = self.checkpointer.save_first(self.learner.state_dict(),
                                            self.state.to_meta(self.profile, self.elapsed_s))
        self.metrics.write("save", 0, bytes=size)

    def save(self) -> bool:
        """Whether a checkpoint was written. Raises SaveFailed when the grace is over."""
        self.metrics.sync()   # what a checkpoint counts on is on the disk before it
        size = self.checkpointer.save(self.learner.state_dict(),
                                      self.state.to_meta(self.profile, self.elapsed_s))
        if size is not None:
            self.metrics.write("save", self.state.step, bytes=size)
        self.mark_safe()
        return size is not None

    def service_requests(self) -> bool:
        """Between two pieces of work: sleeps for the duty cycle, saves when that is due or asked
        for, and waits while the board is too hot. Returns whether the run has to stop."""
        self.throttle.sleep_for_duty()
        while True:
            notify("WATCHDOG=1")
            decision = self.throttle.poll()
            if decision:
                self._log_decision(decision)
            if self.signals.stop.is_set() or self.throttle.decision.action == STOP:
                return True
            is_urgent = decision is not None and decision.save
            if self.signals.save.is_set() or self.is_unsaved and (
                    is_urgent or self.checkpointer.is_due):
                self.signals.save.clear()
                self.save()
            if not self.throttle.is_paused:
                return False
            self.status.show(f"step {self.state.step}  paused, {self.throttle.decision.reason}  "
                             f"waited {duration(self.throttle.waited_s)}")
            self.throttle.sleep(POLL_EVERY_S)

    def _log_decision(self, decision: Decision) -> None:
        if (decision.action, decision.save) != (self._logged.action, self._logged.save):
            self.metrics.write("governor", self.state.step, **decision._asdict())
            self.status.log(f"{decision.action}: {decision.reason or 'all is well'}")
            self._logged = decision

    def stop(self) -> StopReason:
        """Saves for the last time. Raises SaveFailed if that fails."""
        notify("STOPPING=1")
        if self.is_unsaved and not self.save():
            raise SaveFailed(self.checkpointer.unsaved_message())
        return StopReason.STOPPED if self.signals.stop.is_set() else StopReason.OUT_OF_MEMORY

    def skip(self, loss: float) -> bool:
        """Counts a step that was not finite. Rolls back, and returns that, after several in a row.

        Raises Diverged if all rollbacks are used up.
        """
        state, config = self.state, self.profile.train
        state.skipped += 1
        state.nonfinite_in_a_row += 1
        self.metrics.write("skip", state.step, loss=repr(loss), in_a_row=state.nonfinite_in_a_row)
        if state.nonfinite_in_a_row < MAX_NONFINITE_STEPS:
            return False
        newest = self.run_dir.recover(self.status.log)
        if newest is None or state.rollbacks >= config.max_rollbacks:
            raise Diverged(f"loss is not finite at step {state.step} ({state.rollbacks} "
                           f"rollbacks): lower train.lr")
        self.learner.load_state_dict(newest.tensors)
        self.status.log(f"loss is not finite at step {state.step}: rolled back to step "
                        f"{newest.meta['step']} at half the learning rate")
        saved = RunState.from_meta(newest.meta)
        state.step, state.curriculum = saved.step, saved.curriculum
        state.rollbacks += 1
        state.nonfinite_in_a_row = 0
        return True

    def log_step(self, result: StepResult, lr: float, tokens_s: float) -> None:
        state, loss = self.state, result.loss
        state.nonfinite_in_a_row = 0
        state.mean_loss = (LOSS_DECAY * state.mean_loss + (1 - LOSS_DECAY) * loss
                           if state.mean_loss else loss)
        self.metrics.write("step", state.step, loss=loss, grad_norm=result.grad_norm, lr=lr)
        text = self._describe(tokens_s)
        if self.status.show(text):
            notify(f"STATUS={text}")

    def log_accuracy(self, scores: Sequence[Score]) -> None:
        mean = sum(score.accuracy for score in scores) / len(scores)
        self.status.log(f"step {self.state.step}  holdout accuracy {100 * mean:.1f} %, mean of "
                        f"{len(scores)} levels")

    def _left_s(self) -> float | None:
        """Of the run, as far as is known."""
        if not self.state.plan.total_steps:
            return self.profile.train.minutes * 60 - self.elapsed_s
        step_s = self.timer.step_s
        return None if step_s is None else (self.state.plan.total_steps - self.state.step) * step_s

    def _describe(self, tokens_s: float) -> str:
        state, throttle, left_s = self.state, self.throttle, self._left_s()
        total = f"/{state.plan.total_steps}" if state.plan.total_steps else ""
        memory_mb, temp_c = throttle.memory_mb, throttle.temp_c
        texts = [f"step {state.step}{total}", f"grade {min(state.curriculum.grade, LAST)}",
                 f"loss {state.mean_loss:.4f}", f"{tokens_s:,.0f} tokens/s",
                 f"{duration(max(0.0, left_s))} left" if left_s is not None else "",
                 f"{memory_mb:.0f} MB" if memory_mb is not None else "memory unknown",
                 f"{temp_c:.0f} C" if temp_c is not None else "no thermal sensor",
                 f"{state.skipped} steps skipped" if state.skipped else ""]
        if throttle.decision.duty < 1:
            texts.append(f"at {100 * throttle.decision.duty:.0f} %: {throttle.decision.reason}")
        if throttle.waited_s >= 1:
            texts.append(f"waited {duration(throttle.waited_s)}")
        return "  ".join(filter(None, texts))
