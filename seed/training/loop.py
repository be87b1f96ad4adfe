"""The training loop: the only place that decides when to evaluate, save, go back and stop."""
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from seed import system_health
from seed.config import Profile, from_dict
from seed.errors import ConfigError
from seed.curriculum.state import LAST, CurriculumState
from seed.curriculum.dataset import Batch, Dataset, Pool, SoftTargetBatch
from seed.curriculum.task import Item
from seed.governor import RUN, STOP, Decision
from seed.system_health import Health
from seed.practice.teacher import Teacher
from seed.storage import checkpoint
from seed.evaluation.exact_match import Score, by_task, evaluate
from seed.storage.run_dir import RunDir
from seed.storage.metrics import Metrics, StatusLine, duration
from seed.training.throttle import POLL_EVERY_S, Throttle
from seed.practice.selfplay import Answer, Selfplay
from seed.storage.checkpointer import RETRY_S, Checkpointer
from seed.training.schedule import Plan, lr_at, replan
from seed.training.systemd import notify
from seed.training.stop_signals import StopSignals
from seed.errors import Diverged


MAX_NONFINITE_STEPS = 3   # in a row; then the run rolls back
FEW_STEPS = 5   # by which the speed of a process is known

Lessons = TypeVar("Lessons")   # a batch, or the items of an examination


class Learner(Protocol):
    """What the loop trains; `seed.training.learner.Learner` is the real one."""
    def step(self, batch: Batch | SoftTargetBatch, lr: float) -> Any: ...
    def forward(self, t: int, tokens: np.ndarray) -> np.ndarray: ...

    def rollout(self, prompts: Sequence[bytes], longest: int, temperature: float, seed: int,
                index: int) -> list[Answer]: ...

    def state_dict(self) -> dict[str, np.ndarray]: ...
    def load_state_dict(self, tensors: dict[str, np.ndarray]) -> None: ...


class Result(NamedTuple):
    step: int
    finished: bool               # False: stopped, to be resumed
    scores: list[Score] | None   # of the holdout, when finished
    enough: bool = False         # stopped because whoever was asked has seen enough
    retry: bool = False          # stopped for want of memory: it may go on when there is more


# What a resumed run may change: nothing of it is arithmetic.
FREE = {"train": ("steps", "minutes", "eval_every_minutes", "save_every_minutes",
                  "save_grace_minutes", "write_gb_per_day"), "distill": ("parent",)}
LATER = ("selfplay", "teacher")   # what it may take up, change or drop: the steps to come differ


def _check_same(profile: Profile, meta: dict[str, Any], say: Callable[[str], None]) -> None:
    """Raises ConfigError naming the first key in which a resumed run differs from its start."""
    now, then = profile.to_dict(), from_dict(meta["profile"]).to_dict()
    for table in LATER:
        for key, value in now[table].items():
            if value != then[table][key]:
                say(f"{table}.{key} is {value!r} from step {meta['step']} on, and was "
                    f"{then[table][key]!r}")
    for table in ("model", "curriculum", "train", "identity", "distill"):
        for key in {**now[table], **then[table]}:
            if now[table].get(key) != then[table].get(key) and key not in FREE.get(table, ()):
                raise ConfigError(f"{table}.{key} is {now[table].get(key)!r}, the run directory "
                                  f"was started with {then[table].get(key)!r}: use that or "
                                  f"another --run-dir")


def train(profile: Profile, run_dir: RunDir, learner: Learner, requests: StopSignals,
          clock: Callable[[], float] = time.monotonic, status: StatusLine | None = None,
          look: Callable[[], Health] | None = None,
          wait: Callable[[float], object] | None = None,
          soft: Callable[[int], SoftTargetBatch | None] | None = None,
          desk: Teacher | None = None,
          enough: Callable[[int, float, int], bool] | None = None) -> Result:
    """Trains from the run directory's newest checkpoint, or from the start, to the plan's end.

    `look` reads the sensors and `wait` sleeps until told to stop; both are the real ones unless
    given. `soft` gives the batch of a step in which a parent teaches, and None where the
    curriculum does; at `desk` a teacher answers. `enough` is told step, loss and opened grade after each step
    until the rate falls, and may end the run. Bits depend on (profile, step), on what a teacher
    has said and on the step at which a table of LATER was changed, not on when it was saved,
    evaluated, paused or interrupted; after a way back they depend on the last save too.

    Raises ConfigError, CheckpointError, Diverged; OSError if the first save fails, and SaveFailed if
    saving fails for longer than the grace or when it is the last chance.
    """
    config, status = profile.train, status or StatusLine(clock)
    if not config.steps and not config.minutes:
        raise ConfigError("train.steps and train.minutes are both 0: give --steps or --minutes")
    dataset = Dataset(profile.curriculum, profile.identity, config.seed)
    curriculum = CurriculumState.initial(profile.curriculum, dataset.tasks)
    dataset.check(config.seq_len)
    rows = config.batch_size * config.grad_accum_steps
    step, elapsed_before, plan, lr_scale = 0, 0.0, Plan(), 1.0
    skipped, skipped_in_a_row, rollbacks = 0, 0, 0

    found = run_dir.recover(status.say)
    if found:
        _check_same(profile, found.meta, status.say)
        checkpoint.check_tensors(found.tensors, learner.state_dict(), "checkpoint")
        learner.load_state_dict(found.tensors)
        found = found._replace(tensors={})   # it is held no longer than that
        step, elapsed_before = found.meta["step"], found.meta["elapsed_s"]
        skipped, rollbacks = found.meta["skipped"], found.meta["rollbacks"]
        lr_scale, plan = 0.5 ** rollbacks, Plan(**found.meta["plan"])
        curriculum = CurriculumState.from_dict(found.meta["curriculum"])
        longer = config.minutes > from_dict(found.meta["profile"]).train.minutes
        if plan.total_steps != config.steps if config.steps else longer:
            plan = Plan()  # a run that is given a new end is planned anew
        status.say(f"going on from step {step} of {run_dir}")
    again = ["selfplay", *(["curriculum"] if curriculum.evaluated_at < step else [])]
    metrics = Metrics(run_dir.metrics, step, status.say, again)
    started = last_eval = clock()
    saving = Checkpointer(run_dir, config, clock, status.say, step)
    pace = Throttle(profile.governor, look or (lambda: system_health.read(run_dir.path)), clock,
                    wait or requests.stop.wait)
    told = Decision(RUN, 1.0, False, "")
    step_at_start, loss_average = step, 0.0
    steady = (step, started)   # when the first step of this process had ended: it compiles

    def elapsed() -> float:
        return elapsed_before + clock() - started

    def step_s() -> float | None:
        """Of this process; None before it has made a few."""
        made = step - steady[0]
        return (clock() - steady[1]) / made if made >= FEW_STEPS else None

    def meta() -> dict[str, Any]:
        by_time = config.steps == 0  # else nothing of the clock goes into the file
        return {"profile": profile.to_dict(), "step": step, "skipped": skipped,
                "elapsed_s": elapsed() if by_time else 0.0, "plan": asdict(plan),
                "rollbacks": rollbacks, "curriculum": curriculum.to_dict()}

    def mark() -> None:
        """Whether nothing would be lost now."""
        (requests.safe.set if step == saving.saved_step else requests.safe.clear)()

    def save() -> bool:
        metrics.sync()  # what a checkpoint counts on is on the disk before it
        size = saving.save(learner.state_dict(), meta())
        if size is not None:
            metrics.write("save", step, bytes=size)
        mark()
        return size is not None

    def attend() -> bool:
        """Between two pieces of work: does what the board and signals ask for, and waits while it
        is too hot. Whether the run has to stop."""
        nonlocal told
        pace.rest()
        while True:
            notify("WATCHDOG=1")
            decision = pace.look()
            if decision and (decision.action, decision.save) != (told.action, told.save):
                metrics.write("governor", step, **decision._asdict())
                status.say(f"{decision.action}: {decision.reason or 'all is well'}")
                told = decision
            if requests.stop.is_set() or pace.decision.action == STOP:
                return True
            urgent = decision is not None and decision.save
            if requests.save.is_set() or step > saving.saved_step and (urgent or saving.due()):
                requests.save.clear()
                save()
            if not pace.paused:
                return False
            status.show(f"step {step}  paused, {pace.decision.reason}  "
                        f"waited {duration(pace.waited_s)}")
            pace.wait(POLL_EVERY_S)

    def examine(items: Sequence[Item]) -> list[Score] | None:
        return evaluate(items, dataset, learner.forward, config.seq_len, attend)

    def examine_holdout() -> list[Score] | None:
        scores = examine(holdout)
        if scores is not None:
            metrics.write("eval", step, scores=[s.to_dict() for s in scores])
        return scores

    def lessons(make: Callable[..., Lessons], *args: Any) -> Lessons:
        try:
            return make(*args)
        except ConfigError:  # a user's own task has failed; what was learnt is kept
            if step > saving.saved_step:
                save()
            raise

    def enter_play(step: int) -> Selfplay:
        return Selfplay(profile.selfplay, dataset, run_dir, step, config.seq_len + 1)

    def extra(step: int) -> list[Pool]:
        return [*play.pools(), *(desk.pools(step) if desk else ())]

    play = enter_play(step)
    exams: dict[int, list[Item]] = {}   # the examination of all that is open up to this grade
    holdout = dataset.holdout(profile.curriculum.holdout_items)
    if not found:  # so that there is always a generation to go back to
        metrics.write("save", 0, bytes=saving.begin(learner.state_dict(), meta()))
    saving.announce(sum(array.nbytes for array in learner.state_dict().values()))
    notify("READY=1")
    seen_enough = False   # whoever was asked; the run ends when that is saved
    while True:
        plan = plan if seen_enough else replan(config, plan, step, elapsed(), step_s())
        done = plan.total_steps is not None and step >= plan.total_steps
        unsaved = (done or seen_enough) and step > saving.saved_step and not save()
        if attend():
            notify("STOPPING=1")
            if step > saving.saved_step and not save():
                raise saving.unsaved()
            return Result(step, False, None, retry=not requests.stop.is_set())
        if unsaved:
            pace.wait(RETRY_S)
            continue
        if seen_enough:
            return Result(step, False, None, enough=True)
        if done:
            scores = examine_holdout()
            if scores is None:
                continue  # it has to stop
            return Result(step, True, scores)
        if config.eval_every_minutes and clock() - last_eval > config.eval_every_minutes * 60:
            scores = examine_holdout()
            last_eval = clock()
            if scores is None:
                continue
            mean = sum(s.accuracy for s in scores) / len(scores)
            status.say(f"step {step}  holdout {100 * mean:.1f} % exact, mean of "
                       f"{len(scores)} levels")

        if curriculum.is_due(profile.curriculum, step):
            if curriculum.unlocked not in exams:
                exams = {curriculum.unlocked: lessons(dataset.evaluation_items, curriculum)}
            scores = examine(exams[curriculum.unlocked])
            if scores is None:
                continue
            curriculum, moved = curriculum.update(profile.curriculum, dataset.tasks,
                                                  by_task(scores), step)
            metrics.write("curriculum", step, moved=moved, **curriculum.to_dict())
            status.say(f"step {step}  {curriculum.describe()}")
            if moved:
                status.say(moved)

        if play.is_due(step):
            played = lessons(play.play, step, config.seed, learner.rollout, attend)
            if played is None:
                continue
            for won in played:
                metrics.write("selfplay", step, task=won.task, level=won.level,
                              accept_rate=won.accept_rate, agreement=won.agreement,
                              entropy=won.entropy, ended=won.ended,
                              confident=won.confident)
        if desk and desk.is_due(step):
            heard = lessons(desk.collect, step)
            metrics.write("teacher", step, accepted=len(heard), replies=dict(desk.reply_counts))
        batch: Batch | SoftTargetBatch = (soft(step) if soft else None) or lessons(
            dataset.batch, curriculum, step, rows, config.seq_len, extra(step), play.learns_prompt)
        lr = lr_at(config, plan, step, lr_scale)
        before = clock()
        result = learner.step(batch, lr)
        took_s = clock() - before
        step += 1
        mark()
        if step == step_at_start + 1:
            steady = (step, clock())
        if result.skipped:
            skipped, skipped_in_a_row = skipped + 1, skipped_in_a_row + 1
            metrics.write("skip", step, loss=repr(result.loss), in_a_row=skipped_in_a_row)
            if skipped_in_a_row >= MAX_NONFINITE_STEPS:
                last = _rollback(run_dir, learner, status, step, rollbacks, config.max_rollbacks)
                step, curriculum = last["step"], CurriculumState.from_dict(last["curriculum"])
                play = enter_play(step)
                rollbacks += 1
                lr_scale, skipped_in_a_row = 0.5 ** rollbacks, 0
            continue
        skipped_in_a_row = 0
        loss_average = 0.95 * loss_average + 0.05 * result.loss if loss_average else result.loss
        rate = rows * config.seq_len / max(1e-9, took_s)
        metrics.write("step", step, loss=result.loss, grad_norm=result.grad_norm, lr=lr)
        each_s, left_s = step_s(), None
        if not plan.total_steps:
            left_s = config.minutes * 60 - elapsed()
        elif each_s is not None:
            left_s = (plan.total_steps - step) * each_s
        shown = _describe(step, plan, left_s, loss_average, rate, skipped, pace,
                          min(curriculum.grade, LAST))
        if status.show(shown):
            notify(f"STATUS={shown}")
        falls = plan.decay_start is not None and step >= plan.decay_start
        seen_enough = bool(enough and not falls and enough(step, result.loss, curriculum.unlocked))


def _rollback(run_dir: RunDir, learner: Learner, status: StatusLine, step: int, rollbacks: int,
              allowed: int) -> dict[str, Any]:
    """Loads the last good checkpoint; returns its metadata. Raises Diverged."""
    found = run_dir.recover(status.say)
    if found is None or rollbacks >= allowed:
        raise Diverged(f"loss or gradient is not finite at step {step} after {rollbacks} ways "
                       f"back: use a lower train.lr")
    learner.load_state_dict(found.tensors)
    status.say(f"not finite at step {step}: back to step {found.meta['step']} at half the rate")
    return found.meta


def _describe(step: int, plan: Plan, left_s: float | None, loss: float, rate: float, skipped: int,
              pace: Throttle, grade: int) -> str:
    temp, rss = system_health.temp_c(), system_health.rss_mb()
    parts = [f"step {step}" + (f"/{plan.total_steps}" if plan.total_steps else ""),
             f"grade {grade}", f"loss {loss:.4f}", f"{rate:,.0f} tokens/s",
             *([] if left_s is None else [f"{duration(max(0.0, left_s))} left"]),
             f"{rss:.0f} MB" if rss is not None else "memory unknown",
             f"{temp:.0f} C" if temp is not None else "no thermal sensor"]
    if skipped:
        parts.append(f"{skipped} steps dropped")
    if pace.decision.duty < 1:
        parts.append(f"at {100 * pace.decision.duty:.0f} %: {pace.decision.reason}")
    if pace.waited_s >= 1:
        parts.append(f"waited {duration(pace.waited_s)}")
    return "  ".join(parts)
