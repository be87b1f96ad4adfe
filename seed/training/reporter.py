"""What a run tells while it runs: metrics, the status files, and a view in the terminal."""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seed import governor
from seed.body.results import Acting
from seed.curriculum.state import LAST, grade_of, highest_grade
from seed.evaluation.exact_match import Score
from seed.evaluation.score_summary import Measured
from seed.storage.status_file import StatusFiles
from seed.system_health import machine
from seed.systemd import notify
from seed.task_names import short
from seed.terminal.progress import Answer, Losses, Progress
from seed.terminal.views import MAX_ANSWERS, log_line

if TYPE_CHECKING:
    from seed.body.play import RoundResult
    from seed.training.session import Session
    from seed.training.step import StepResult

LOSS_DECAY = 0.95    # of the mean loss that is shown
MAX_RETURNS = 64     # of a body, the last ones
BOARD_EVERY_S = 5.0  # between lines of steps that tell of the board, to spare the card


class Reporter:
    """Of one session, whose state it reads and only its mean loss changes."""

    def __init__(self, session: Session):
        self._session, self._screen = session, session.screen
        self.files = StatusFiles(session.run_dir, session.clock, self._screen.log)
        self._losses, self._answers, self._event = Losses(), list[Answer](), ""
        self._returns: dict[str, deque[float]] = {}
        self._step_facts: dict[str, float] = {}   # of the last step
        self._evaluated_s = session.clock()
        self._saved_s: float | None = None
        self._board_s, self._board_mark = float("-inf"), (0, 0.0)

    def step(self, result: StepResult | RoundResult, lr: float, tokens_s: float) -> None:
        state, loss = self._session.state, result.loss
        state.mean_loss = (LOSS_DECAY * state.mean_loss + (1 - LOSS_DECAY) * loss
                           if state.mean_loss else loss)
        self._losses.add(loss)
        self._session.metrics.write(
            "step", state.step, loss=loss, grad_norm=result.grad_norm, lr=lr,
            tokens_per_s=round(tokens_s), **self._board_facts())
        self._step_facts = {"grad_norm": result.grad_norm, "lr": lr, "tokens_per_s": tokens_s}
        self.show()

    def _board_facts(self) -> dict[str, float | None]:
        """Of the line of a step: what changes slowly, if it is new or was written long ago."""
        session, throttle, now_s = self._session, self._session.throttle, self._session.clock()
        mark = session.state.curriculum.grade, throttle.decision.duty
        if mark == self._board_mark and now_s - self._board_s < BOARD_EVERY_S:
            return {}
        self._board_s, self._board_mark = now_s, mark
        return {"temp_c": throttle.temp_c and round(throttle.temp_c, 1),
                "memory_mb": throttle.memory_mb and round(throttle.memory_mb),
                "grade": self._grade(), "duty": throttle.decision.duty}

    def _grade(self) -> int | None:
        """The lowest that is not passed, or the last; None without a curriculum."""
        session = self._session
        return min(session.state.curriculum.grade, LAST) if session.has_curriculum else None

    def round(self, name: str, number: int, result: RoundResult) -> None:
        self._session.metrics.write(
            "body", self._session.state.step, body=name, round=number, loss=result.loss,
            entropy=result.entropy, episodes=result.episodes, mean_return=result.mean_return)
        if result.mean_return is not None:
            self._returns.setdefault(name, deque(maxlen=MAX_RETURNS)).append(result.mean_return)

    def evaluation(self, measured: Measured, acting: Acting,
                   examples: Sequence[dict[str, Any]]) -> None:
        self._session.metrics.write(
            "eval", self._session.state.step, board=machine(), elapsed_s=self._session.total_s,
            **acting.to_dict(), scores=[score.to_dict() for score in measured.levels],
            uniform=[score.to_dict() for score in measured.uniform], examples=examples)

    def accuracy(self, scores: Sequence[Score], acting: Acting) -> None:
        """Of unseen items and episodes."""
        texts = [f"{short(row.body)} return {row.mean:.1f}" for row in acting.returns]
        texts += [f"{short(row.body)} choices {100 * row.accuracy:.1f} % as recorded"
                  for row in acting.choices]
        if scores:
            mean = sum(score.accuracy for score in scores) / len(scores)
            texts.append(f"holdout accuracy {100 * mean:.1f} %, mean of {len(scores)} levels")
        self._evaluated_s = self._session.clock()
        self._screen.log(f"step {self._session.state.step}  {', '.join(texts)}")

    def curriculum(self, events: str, answers: Sequence[Answer]) -> None:
        """An evaluation of the curriculum."""
        state = self._session.state
        self._event = events or self._event
        apart = max(1, len(answers) // MAX_ANSWERS)   # of different tasks
        self._answers = list(answers[state.step // 7 % apart::apart][:MAX_ANSWERS])
        self._session.metrics.write("curriculum", state.step, events=events,
                                    answers=[answer._asdict() for answer in self._answers],
                                    **state.curriculum.to_dict())
        if not self._screen.has_panel:
            self._screen.log(f"step {state.step}  {state.curriculum.describe()}")
        if events:
            self._screen.log(f"step {state.step}  {events}")

    def saved(self) -> None:
        self._saved_s = self._session.clock()

    def show(self, doing: str = "") -> None:
        """Draws the view, if it is time for it. `doing`: something else than training steps."""
        if not self._screen.is_due:
            return
        now = self.progress(doing)
        if self._screen.show(now):
            notify(f"STATUS={log_line(now)}")

    def show_last(self) -> None:
        """Whatever was drawn a moment ago; elsewhere than in a terminal the result says it."""
        if self._screen.is_live:
            self._screen.hurry()
            self.show()

    def progress(self, doing: str = "") -> Progress:
        session, state, throttle = self._session, self._session.state, self._session.throttle
        curriculum, profile, left_s = state.curriculum, session.profile, self.left_s()
        now_s, every_s = session.clock(), 60 * profile.train.eval_every_minutes
        next_eval_s = self._evaluated_s + every_s - now_s if every_s else None
        if next_eval_s is not None and left_s is not None and next_eval_s > left_s:
            next_eval_s = None   # that of the end comes first
        return Progress(
            profile.name, str(session.run_dir), state.step, state.plan.total_steps or 0,
            self._fraction(left_s), left_s,
            next_eval_s,
            state.mean_loss or None, self._losses.means,
            self._grade(),
            highest_grade(profile.curriculum), self._accuracy(), curriculum.passed, self._event,
            self._answers,
            {short(name): list(returns) for name, returns in self._returns.items()},
            throttle.temp_c, governor.level(throttle.decision), throttle.memory_mb,
            profile.governor.memory_mb, self._step_facts.get("tokens_per_s", 0.0),
            None if self._saved_s is None else now_s - self._saved_s, throttle.decision.duty,
            throttle.decision.reason, throttle.waited_s, state.skipped, doing)

    def _accuracy(self) -> dict[int, dict[str, float]]:
        """Of the tasks of each grade, the mean of their levels."""
        grades: dict[int, dict[str, float]] = {}
        for task, levels in self._session.state.curriculum.accuracy.items():
            grades.setdefault(grade_of(task), {})[short(task)] = sum(levels) / len(levels)
        return grades

    def _fraction(self, left_s: float | None) -> float:
        """Of the run."""
        state, elapsed_s = self._session.state, self._session.elapsed_s
        if state.plan.total_steps:
            return state.step / state.plan.total_steps
        return elapsed_s / max(1e-9, elapsed_s + max(0.0, left_s or 0.0))

    def left_s(self) -> float | None:
        """Seconds to the end of the run; None before the speed is known."""
        session, state = self._session, self._session.state
        if not state.plan.total_steps:
            return session.profile.train.minutes * 60 - session.elapsed_s
        step_s = session.timer.step_s
        return None if step_s is None else (state.plan.total_steps - state.step) * step_s

    def write_status(self, activity: str) -> None:
        """status.json and heartbeat (docs/board.md)."""
        session, state, throttle = self._session, self._session.state, self._session.throttle
        decision, health, left_s = throttle.decision, throttle.health, self.left_s()
        self.files.write({
            "state": activity, "run_dir": str(session.run_dir.path.absolute()),
            "profile": session.profile.name, "step": state.step,
            "total_steps": state.plan.total_steps, "left_s": left_s and max(0.0, round(left_s)),
            "saved_step": session.checkpointer.saved_step, "loss": state.mean_loss or None,
            **{name: self._step_facts.get(name) for name in ("grad_norm", "lr", "tokens_per_s")},
            "grade": self._grade(), "ticks": session.ticks,
            "returns": {name: returns[-1] for name, returns in self._returns.items()},
            "skipped": state.skipped, "rollbacks": state.rollbacks,
            "level": governor.level(decision), "reason": decision.reason,
            "action": decision.action, "duty": decision.duty, "waited_s": round(throttle.waited_s),
            "temp_c": throttle.temp_c, "memory_mb": throttle.memory_mb,
            "mem_available_mb": health.mem_available_mb.value if health else None,
            "disk_free_mb": health.disk_free_mb.value if health else None})
