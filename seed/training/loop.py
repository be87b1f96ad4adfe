"""The training loop: when to evaluate, practise, step, log and end. session.py carries it out."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from seed.body.results import Acting
from seed.body.round import Round
from seed.config import Profile
from seed.curriculum.batches import Request
from seed.curriculum.dataset import Batch, Pool, SoftTargetBatch
from seed.errors import (ConfigError, Diverged, SaveFailed, SeedError, StopReason,
                         StopRequested)
from seed.evaluation.exact_match import Score, by_task
from seed.evaluation.examples import Examples, ShortAnswers
from seed.evaluation.score_summary import Measured
from seed.practice.teacher import Teacher
from seed.storage.checkpointer import RETRY_DELAY_S
from seed.storage.run_dir import RunDir
from seed.training.schedule import lr_at, replan
from seed.training.session import Hooks, Session
from seed.training.stop_signals import StopSignals
from seed.wavecore.compiler import before_compiling

if TYPE_CHECKING:
    from seed.body.play import RoundResult
    from seed.body.results import ChoiceAccuracy, Returns
    from seed.training.step import Learner


class TrainResult(NamedTuple):
    """How a training ended."""
    step: int
    reason: StopReason
    scores: Sequence[Score] = ()   # of the holdout, when finished
    returns: Sequence[Returns] = ()   # of the bodies, when finished
    choices: Sequence[ChoiceAccuracy] = ()   # of recorded episodes, when finished
    elapsed_s: float | None = None   # of training, when finished; None if it is not known
    uniform: Sequence[Score] = ()    # of uniform draws from what tasks state, when finished

    @property
    def finished(self) -> bool:
        """Whether all of its steps or minutes are done."""
        return self.reason is StopReason.FINISHED

    @property
    def measured(self) -> Measured:
        """Scores and uniform draws."""
        return Measured(self.scores, self.uniform)


def run(profile: Profile, run_dir: RunDir, learner: Learner, signals: StopSignals,
        hooks: Hooks = Hooks()) -> TrainResult:
    """Trains from the run directory's newest checkpoint, or from the start, to the plan's end.

    The weights are a deterministic function of the profile, the step, what a teacher has replied
    and the steps at which [selfplay] or [teacher] was changed; not of when the run was saved,
    evaluated, paused or interrupted. After a rollback they depend on the last save too, and in a
    run by minutes on the step at which its decay was planned.

    Raises ConfigError, CheckpointError, Diverged; OSError if the first save fails; SaveFailed if
    saving fails for longer than the grace, or when the run has to stop.
    """
    if not profile.train.steps and not profile.train.minutes:
        raise ConfigError("train.steps and train.minutes are both 0: give --steps or --minutes")
    session = Session(profile, run_dir, learner, signals, hooks)
    session.dataset.stop_when(signals.stop.is_set)
    result = None
    try:
        with before_compiling(session.save_before_compiling):
            result = _loop(session, hooks)
            return result
    except StopRequested:   # by a signal, in a call of a user's class; nothing of the step is done
        result = TrainResult(session.state.step, session.stop())
        return result
    except (SaveFailed, Diverged):
        raise
    except (SeedError, MemoryError):   # of a user's class, a compiler
        if session.is_unsaved and session.can_save:
            session.save()
        raise
    finally:
        session.close("failed" if result is None else "finished" if result.finished else "stopped")


def _loop(session: Session, hooks: Hooks) -> TrainResult:
    state, config, clock = session.state, session.profile.train, hooks.clock
    eval_every_s = config.eval_every_minutes * 60
    last_eval_s, stops_early = clock(), False
    while True:
        # Plan, and final save.
        if not stops_early:
            state.plan = replan(config, state.plan, state.step, session.elapsed_s,
                                session.timer.step_s)
        is_last = stops_early or state.is_complete
        save_failed = is_last and session.is_unsaved and not session.save()

        # Stop if a signal or the governor asks for it; save and wait if they ask for that. A final
        # save that failed is tried again, which a signal may interrupt.
        if session.service_requests():
            return TrainResult(state.step, session.stop())
        if save_failed:
            session.throttle.sleep(RETRY_DELAY_S)
            continue
        if stops_early:
            return TrainResult(state.step, StopReason.STOPPED_EARLY)

        # Evaluate on the holdout, and for the curriculum.
        if is_last or eval_every_s and clock() - last_eval_s > eval_every_s:
            results, last_eval_s = _evaluate(session, is_last), clock()
            if results is None:
                continue   # the run has to stop: service_requests says so again
            measured, acting = results
            if is_last:
                return TrainResult(state.step, StopReason.FINISHED, measured.levels, *acting,
                                   elapsed_s=session.total_s, uniform=measured.uniform)
            session.reporter.accuracy(measured.levels, acting)
        is_due = state.curriculum.is_due(session.profile.curriculum, state.step)
        if session.has_curriculum and is_due and not _evaluate_curriculum(session):
            continue

        # Practise, and draw the batch.
        batch = _draw(session, hooks)
        if batch is None:
            continue   # the run has to stop

        # Step, while the next batch is drawn; roll back after several that were not finite.
        _begin_next_batch(session, hooks)
        lr = lr_at(config, state.plan, state.step, state.lr_scale)
        lr *= session.profile.round_lr_scale if isinstance(batch, Round) else 1.0
        step_began_s = clock()
        result = session.take_step(batch, lr)
        step_s = clock() - step_began_s
        if result.skipped:
            session.skip(result.loss)
            continue

        # Log.
        if isinstance(batch, Round):
            session.reporter.round(batch.name, batch.number, cast("RoundResult", result))
        n_tokens = batch.n_ticks if isinstance(batch, Round) else batch.tokens.size
        session.reporter.step(result, lr, n_tokens / max(1e-9, step_s))
        stops_early = bool(hooks.early_stop_fn and not state.is_decaying and hooks.early_stop_fn(
            state.step, result.loss, state.curriculum.unlocked))


def _draw(session: Session, hooks: Hooks) -> Batch | SoftTargetBatch | Round | None:
    """What the next step learns from: a body's round, soft targets or a batch of the curriculum,
    after what practice is due; None if the run has to stop."""
    state = session.state
    turn = hooks.bodies.turn(state.step) if hooks.bodies else None
    if hooks.bodies and turn:
        return hooks.bodies.play(*turn, session.service_requests)
    if session.selfplay.is_due(state.step) and not _play(session):
        return None
    pools = _pools(session, _listen_to(hooks.teacher, session))
    soft_batch = hooks.soft_targets_fn(state.step) if hooks.soft_targets_fn else None
    return soft_batch or session.batches.take(_request(session, state.step, pools))


def _request(session: Session, step: int, pools: Sequence[Pool]) -> Request:
    config = session.profile.train
    return Request(session.state.curriculum, step, config.batch_size * config.grad_accum_steps,
                   config.seq_len, pools, session.selfplay.learns_prompt)


def _begin_next_batch(session: Session, hooks: Hooks) -> None:
    """Unless there is none, or something comes before it that decides what is in it."""
    state, step = session.state, session.state.step + 1
    if (hooks.bodies or hooks.teacher or hooks.soft_targets_fn or session.selfplay.is_due(step)
            or state.curriculum.is_due(session.profile.curriculum, step)
            or step == state.plan.total_steps):
        return
    session.batches.begin(_request(session, step, _pools(session)))


def _pools(session: Session, others: Sequence[Pool] = ()) -> list[Pool]:
    """Of what the brain has practised, of `others`, and of what adaptations have taught."""
    pools = [*session.selfplay.pools(), *others]
    rest = 1 - sum(pool.data_fraction for pool in pools)
    return pools + [pool._replace(data_fraction=rest * pool.data_fraction)
                    for pool in session.replay_pools]


def _evaluate(session: Session, is_last: bool) -> tuple[Measured, Acting] | None:
    """Of the brain: of the holdout, at the end also of uniform draws, and of all bodies, which is
    written to the metrics; None if the run has to stop."""
    examples = Examples(session.holdout if is_last else [])
    with session.learner.as_brain():
        scores, acting = session.evaluate(session.holdout, examples.add), session.evaluate_bodies()
        if scores is None or acting is None:
            return None
        uniform = session.evaluate(session.uniform_items() if is_last else [])
        if uniform is None:
            return None
    measured = Measured(scores, uniform)
    session.reporter.evaluation(measured, acting, examples.to_rows())
    return measured, acting


def _evaluate_curriculum(session: Session) -> bool:
    """Updates the curriculum state; False if the run has to stop."""
    state, config, answers = session.state, session.profile.curriculum, ShortAnswers()
    scores = session.evaluate(session.curriculum_items(), answers.add)
    if scores is None:
        return False
    state.curriculum, events = state.curriculum.update(config, session.dataset.tasks,
                                                       by_task(scores), state.step)
    session.reporter.curriculum(events, answers.answers)
    return True


def _play(session: Session) -> bool:
    """One round of self-play; False if the run has to stop."""
    step = session.state.step
    rounds = session.selfplay.play(step, session.profile.train.seed, session.learner.rollout,
                                   session.service_requests)
    for row in rounds or []:
        session.metrics.write("selfplay", step, task=row.task, level=row.level,
                              accept_rate=row.accept_rate, agreement=row.agreement,
                              entropy=row.entropy, ended=row.ended, confident=row.confident)
    return rounds is not None


def _listen_to(teacher: Teacher | None, session: Session) -> list[Pool]:
    """Collects what the teacher has answered, if that is due; its items at this step."""
    if teacher is None:
        return []
    step = session.state.step
    teacher.log_faults()
    if teacher.is_due(step):
        accepted = teacher.collect(step)
        session.metrics.write("teacher", step, accepted=len(accepted),
                              replies=dict(teacher.reply_counts),
                              probe=dict(teacher.probe_counts))
    return teacher.pools(step)
