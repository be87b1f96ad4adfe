"""A run in this process: its state, and the files, sensors and signals around it."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from seed import system_health
from seed.body.results import Acting
from seed.body.round import Round
from seed.config import Profile
from seed.curriculum.batches import Batches
from seed.curriculum.dataset import Batch, Dataset, SoftTargetBatch
from seed.curriculum.state import CurriculumState
from seed.curriculum.task import Item, Task
from seed.errors import Diverged, StopReason
from seed.evaluation.exact_match import AnswerFn, Score, evaluate
from seed.governor import Decision
from seed.practice.selfplay import Selfplay
from seed.practice.teacher import Teacher
from seed.storage.checkpointer import Checkpointer
from seed.storage.metrics import Metrics
from seed.storage.replay import Replay
from seed.storage.run_dir import RunDir
from seed.system_health import Health
from seed.systemd import notify
from seed.terminal.screen import Screen
from seed.terminal_text import duration
from seed.training.reporter import Reporter
from seed.training.run_state import RunState, resume
from seed.training.schedule import StepTimer, WorkClock
from seed.training.stop_signals import StopSignals
from seed.training.throttle import Throttle

if TYPE_CHECKING:
    from seed.body.play import Bodies, RoundResult
    from seed.training.step import Learner, StepResult

MAX_NONFINITE_STEPS = 3   # in a row; then the run rolls back

EarlyStopFn = Callable[[int, float, int], bool]   # (step, loss, unlocked grade) -> stop?


@dataclass(frozen=True)
class Hooks:
    """What is plugged into a run. Tests replace the first four."""
    clock: Callable[[], float] = time.monotonic
    screen: Screen | None = None                          # standard error
    read_health_fn: Callable[[], Health] | None = None    # the board's sensors
    sleep_fn: Callable[[float], object] | None = None     # ends early when a signal asks to stop
    soft_targets_fn: Callable[[int], SoftTargetBatch | None] | None = None   # at some steps
    teacher: Teacher | None = None
    bodies: Bodies | None = None
    early_stop_fn: EarlyStopFn | None = None   # called after each step until the rate decays
    loaded: Mapping[str, Task] = field(default_factory=dict)   # user tasks that are not read again
    replay: Replay = Replay()   # of what adaptations have taught


class Session:
    """What surrounds a step: decides saves, waits and rollbacks; the loop decides the rest."""

    def __init__(self, profile: Profile, run_dir: RunDir, learner: Learner, signals: StopSignals,
                 hooks: Hooks):
        """Resumes from the newest checkpoint, or saves a fresh brain: a run that cannot save at its
        start does not begin. Raises ConfigError, CheckpointError, OSError."""
        self.profile, self.run_dir, self.learner = profile, run_dir, learner
        self.signals, self.clock, config = signals, hooks.clock, profile.train
        self.bodies = hooks.bodies
        self.screen = hooks.screen or Screen(self.clock)
        self.dataset = Dataset(profile.curriculum, profile.identity, config.seed, hooks.loaded,
                               hooks.replay.tasks())
        self.batches = Batches(self.dataset)
        self._replay, self.replay_pools = hooks.replay, hooks.replay.pools()
        self.dataset.check(config.seq_len, self.screen.log)
        resumed = resume(profile, run_dir, learner, hooks.bodies, self.screen.log)
        self.state = state = resumed or RunState(
            CurriculumState.initial(profile.curriculum, self.dataset.tasks))
        curriculum_eval_pending = state.curriculum.evaluated_at < state.step
        self.metrics = Metrics(
            run_dir.metrics, state.step, self.screen.log, rewritten_kinds=[
                "selfplay", *(["curriculum"] if curriculum_eval_pending else [])],
            held=run_dir.held)
        self.checkpointer = Checkpointer(run_dir, config, self.clock, self.screen.log,
                                         resumed.step if resumed else None)
        self.throttle = Throttle(
            profile.governor, hooks.read_health_fn or (lambda: system_health.read(run_dir.path)),
            self.clock, hooks.sleep_fn or signals.stop.wait, signals.stop.is_set)
        self._work_clock = WorkClock() if self.clock is time.monotonic else self.clock
        self._work_began_s, self.timer = self._work_clock(), StepTimer(self._work_clock)
        self._logged_decision, self._is_stepping = Decision(), False
        self._is_resumed = bool(resumed)
        self.has_curriculum = not profile.body.is_alone
        self.holdout = (self.dataset.holdout(profile.curriculum.holdout_items)
                        if self.has_curriculum else [])
        self.ticks = 0   # of bodies, in this process
        self.reporter = Reporter(self)
        signals.answer_fn = self._answer_stop
        self._curriculum_items: dict[int, list[Item]] = {}   # by unlocked grade
        self._open_selfplay()
        if not resumed or resumed.has_new_bodies:
            self.save()
        self.checkpointer.log_write_rate(learner.max_bytes)
        notify("READY=1")

    def _open_selfplay(self) -> None:
        """The rounds before the present step."""
        self.selfplay = Selfplay(self.profile.selfplay, self.dataset, self.run_dir, self.state.step,
                                 self.profile.train.seq_len + 1, self.screen.log)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier processes included; of a real clock without pauses."""
        return self.state.previous_elapsed_s + self._work_clock() - self._work_began_s

    @property
    def total_s(self) -> float | None:
        """Seconds of training of the whole run; None of a run by steps that was resumed, which
        keeps nothing of the clock."""
        is_whole = self.profile.train.steps == 0 or not self._is_resumed
        return self.elapsed_s if is_whole else None

    @property
    def is_unsaved(self) -> bool:
        return self.state.step != self.checkpointer.saved_step

    def _answer_stop(self) -> None:
        """At once, from another thread: what is under way may take some seconds more."""
        n = self.state.step - (self.checkpointer.saved_step or 0)
        lost = f"quit without saving, {n:,} step{'s' if n > 1 else ''} would be lost"
        self.screen.log(f"{'saving' if n else 'stopping'} ... (Ctrl-C again: "
                        f"{lost if n else 'at once'})")

    def curriculum_items(self) -> list[Item]:
        """What the curriculum is evaluated on; drawn once for each unlocked grade."""
        unlocked = self.state.curriculum.unlocked
        if unlocked not in self._curriculum_items:
            self._curriculum_items = {
                unlocked: self.dataset.evaluation_items(self.state.curriculum)}
        return self._curriculum_items[unlocked]

    def uniform_items(self) -> list[Item]:
        """Drawn from all that tasks state; none without a curriculum."""
        return (self.dataset.stated(self.profile.curriculum.holdout_items)
                if self.has_curriculum else [])

    def evaluate(self, items: Sequence[Item],
                 answer_fn: AnswerFn = lambda *_: None) -> list[Score] | None:
        """Scores, or None if the run has to stop; `answer_fn` gets each answer."""
        n_done, total = 0, len(set(items))

        def count(item: Item, target: np.ndarray, guess: np.ndarray) -> None:
            nonlocal n_done
            n_done += 1
            answer_fn(item, target, guess)

        def should_stop() -> bool:
            self.reporter.show(f"evaluating, {n_done} of {total}")
            return self.service_requests()
        return evaluate(items, self.dataset, self.learner.forward, should_stop, count)

    def evaluate_bodies(self) -> Acting | None:
        """Of every body in unseen episodes, or None if the run has to stop."""
        return self.bodies.evaluate(self.service_requests) if self.bodies else Acting()

    def take_step(self, batch: Batch | SoftTargetBatch | Round,
                  lr: float) -> StepResult | RoundResult:
        """One step of the learner, which counts also if it was not finite."""
        self._is_stepping = True
        result: StepResult | RoundResult
        if isinstance(batch, Round):
            assert self.bodies, "whose round it is"
            result = self.bodies.learn(batch, lr)
            self.ticks += batch.n_ticks
        else:
            hearing = self.bodies.hearing(self.state.step, self.profile.train.batch_size) \
                if self.bodies and self.state.is_decaying else None
            result = (self.learner.step(batch, lr, hearing) if hearing else
                      self.learner.step(batch, lr))
        self.state.step += 1
        if not isinstance(batch, Round):
            highest = self.profile.train.lr
            self.learner.follow(self.state.step, lr / highest if highest else 0.0,
                                self.state.is_complete)
        self._is_stepping = False
        self.timer.count_step()
        if not result.skipped:
            self.state.nonfinite_in_a_row = 0
        self._update_safe()
        return result

    def save_before_compiling(self) -> None:
        """So that a compiler that hangs or fails costs no step."""
        if self.can_save and self.is_unsaved:
            self.save()

    @property
    def can_save(self) -> bool:
        """Not while a step may have changed some of the weights."""
        return not self._is_stepping

    def _update_safe(self) -> None:
        """Tells the signals whether the process may end now without losing a step."""
        if self.is_unsaved:
            self.signals.safe.clear()
        else:
            self.signals.safe.set()

    def save(self, must_succeed: bool = False) -> bool:
        """Whether a checkpoint was written. Raises SaveFailed if it was not and the grace is
        over or it `must_succeed`; OSError if there is none yet."""
        self.metrics.sync()   # before the checkpoint that refers to them
        tensors, meta = self.learner.state_dict(), self.state.to_meta(self.profile, self.elapsed_s)
        if self.bodies:
            tensors |= self.bodies.state_dict()
            meta["bodies"] = self.bodies.to_meta()
        meta |= self._replay.to_meta()
        size = self.checkpointer.save(tensors, meta, must_succeed)
        if size is not None:
            self.metrics.write("save", self.state.step, bytes=size)
            self.reporter.saved()
        self._update_safe()
        return size is not None

    def service_requests(self) -> bool:
        """Between two pieces of work: sleeps for the duty cycle, saves when that is due or asked
        for, and waits while the board is too hot. Returns whether the run has to stop."""
        return self.throttle.wait_while_paused(self._service)

    def _service(self, decision: Decision | None) -> None:
        """What is due when the sensors were polled; `decision` if that gave a new one."""
        notify("WATCHDOG=1")
        if decision:
            is_new = self._log_decision(decision)
            if is_new or self.reporter.files.is_due:
                self.reporter.write_status("paused" if self.throttle.is_paused else "training")
        if self.throttle.must_stop:
            return   # the loop saves
        is_urgent = decision is not None and decision.save
        is_due = self.is_unsaved and (is_urgent or self.checkpointer.is_due)
        if self.signals.save.is_set() or is_due:
            self.signals.save.clear()
            self.save()
        if self.throttle.is_paused:
            self.reporter.show(f"paused, {self.throttle.decision.reason}  "
                               f"waited {duration(self.throttle.waited_s)}")

    def _log_decision(self, decision: Decision) -> bool:
        """Whether it was another than before."""
        logged, self._logged_decision = self._logged_decision, decision
        is_new = (decision.action, decision.save) != (logged.action, logged.save)
        if is_new:
            self.metrics.write("governor", self.state.step, **decision._asdict())
            self.screen.log(f"{decision.action}: {decision.reason or 'all is well'}")
        return is_new

    def stop(self) -> StopReason:
        """Saves for the last time. Raises SaveFailed if that fails."""
        notify("STOPPING=1")
        if self.is_unsaved:
            self.save(must_succeed=True)
        return StopReason.STOPPED if self.signals.stop.is_set() else StopReason.OUT_OF_MEMORY

    def close(self, ending: str) -> None:
        """Says in the status file how the run ended: finished, stopped or failed."""
        self.batches.close()
        self.reporter.write_status(ending)
        self.throttle.close()
        self.reporter.show_last()
        self.screen.close()

    def skip(self, loss: float) -> None:
        """Counts a step that was not finite; rolls back after several in a row. Raises Diverged if
        all rollbacks are used up; as `save`."""
        state = self.state
        state.skipped += 1
        state.nonfinite_in_a_row += 1
        self.metrics.write("skip", state.step, loss=repr(loss), in_a_row=state.nonfinite_in_a_row)
        if state.nonfinite_in_a_row < MAX_NONFINITE_STEPS:
            return
        newest = self.run_dir.recover(self.screen.log)
        if newest is None or state.rollbacks >= self.profile.train.max_rollbacks:
            raise Diverged(f"loss or gradient is not finite at step {state.step} "
                           f"({state.rollbacks} rollbacks): lower train.lr")
        self.learner.load_state_dict(newest.tensors)
        if self.bodies:
            self.bodies.load(newest.tensors, newest.meta["bodies"])
        saved = RunState.from_meta(newest.meta)
        self.screen.log(f"loss or gradient is not finite at step {state.step}: rolled back to "
                        f"step {saved.step} at half the learning rate")
        state.step, state.curriculum = saved.step, saved.curriculum
        state.rollbacks += 1
        state.nonfinite_in_a_row = 0
        self.checkpointer.saved_step = saved.step   # a newer generation may have been damaged
        self.save()   # so that no resumed run forgets the rollback
        self._open_selfplay()
