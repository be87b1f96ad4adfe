"""How a run is now, as a part of a page: while it trains in any process, and after it ended."""
import threading
import time
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, TypeVar

from seed.curriculum.state import grade_of
from seed.errors import SeedError
from seed.evaluation import html_report
from seed.evaluation.html_page import facts, section, text
from seed.evaluation.run_facts import read_run
from seed.evaluation.run_history import FollowedRun, RunHistory
from seed.evaluation.score_cards import example
from seed.evaluation.svg_plot import bar
from seed.storage.lock import is_held
from seed.storage.run_dir import RunDir
from seed.storage.runs import read_status
from seed.task_names import short
from seed.terminal_text import duration

PANEL_EVERY_S, REPORT_EVERY_S = 1.0, 5.0   # however many look at them
OLD_S = 60.0        # of a status: a run that trains writes it each ten seconds at least
ACTIVE = ("training", "paused")
MAX_BODIES, MAX_TASKS, MAX_ANSWERS = 8, 30, 4   # that are shown; tasks of a grade

Made = TypeVar("Made")


class Watched:
    """One run, whose pages are made anew once in a while for all."""

    def __init__(self, run_dir: RunDir, status_dir: RunDir):
        self.run_dir, self._status_dir = run_dir, status_dir
        self._followed, self._lock = FollowedRun(run_dir), threading.Lock()
        self._made: dict[str, tuple[float, Any]] = {}

    def _remembered(self, name: str, every_s: float, make_fn: Callable[[], Made]) -> Made:
        with self._lock:
            now_s = time.monotonic()
            made_s, value = self._made.get(name, (now_s - every_s, None))
            if now_s - made_s >= every_s:
                value = make_fn()
                self._made[name] = now_s, value
            return value

    def status(self) -> dict[str, Any]:
        return self._remembered("status", PANEL_EVERY_S, lambda: read_status(self._status_dir))

    def panel(self) -> str:
        """HTML. Raises OSError."""
        status = self.status()
        return self._remembered("panel", PANEL_EVERY_S, lambda: panel(
            status, self._followed.read(), self.run_dir))

    def report(self, head: str, top: str) -> str:
        """A page. Raises SeedError, OSError."""
        return self._remembered("report", REPORT_EVERY_S, lambda: html_report.page(
            read_run(self.run_dir, self._followed.read()), head=head, top=top))

    def profile(self) -> str:
        """Its name; that of the directory if it is not known."""
        def name() -> str:
            try:
                run = read_run(self.run_dir, RunHistory(step=1))
                return run.profile or run.name
            except (SeedError, OSError):
                return self.run_dir.path.name
        return self._remembered("profile", REPORT_EVERY_S, name)


def panel(status: Mapping[str, Any], history: RunHistory, run_dir: RunDir) -> str:
    """Of what the run has written last."""
    if not status and not history.step:
        return '<p class="note">Nothing was trained here yet.</p>'
    return "".join([
        _progress(status, history, run_dir), _board(status),
        f'<div class="grid plots">{_plots(history)}</div>', _grades(history),
        _answers(history.curriculum.get("answers", []))])


def _number(status: Mapping[str, Any], key: str) -> float | None:
    value = status.get(key)
    return value if type(value) in (int, float) else None


def _state(status: Mapping[str, Any], run_dir: RunDir) -> str:
    state, time_s = str(status.get("state", "unknown")), _number(status, "time")
    is_old = time_s is None or time.time() - time_s > OLD_S
    return "ended without a word" if state in ACTIVE and is_old and not is_held(
        run_dir.lock) else state


def _progress(status: Mapping[str, Any], history: RunHistory, run_dir: RunDir) -> str:
    step = int(_number(status, "step") or history.step)
    total, left_s = _number(status, "total_steps"), _number(status, "left_s")
    state = _state(status, run_dir)
    rows = [("state", state), ("step", f"{step:,}{f' of {total:,.0f}' if total else ''}")]
    if left_s is not None and state in ACTIVE:
        rows.append(("left", duration(left_s)))
    loss = _number(status, "loss")
    rows += [("loss", "unknown" if loss is None else f"{loss:.2f}"),
             *([("grade", f"{status['grade']}")] if status.get("grade") else [])]
    fraction = min(1.0, step / total) if total else None
    return facts(rows, is_big=True) + (
        bar(fraction) if fraction is not None else "")


def _board(status: Mapping[str, Any]) -> str:
    temp_c, memory_mb, tokens_s, saved = (_number(status, key) for key in (
        "temp_c", "memory_mb", "tokens_per_s", "saved_step"))
    reason = str(status.get("reason") or "")
    return facts([
        ("temperature", "no sensor" if temp_c is None else f"{temp_c:.0f} °C"),
        ("memory", "unknown" if memory_mb is None else f"{memory_mb:,.0f} MB"),
        ("tokens a second", "unknown" if tokens_s is None else f"{tokens_s:,.0f}"),
        ("saved at step", "unknown" if saved is None else f"{saved:,.0f}"),
        ("board", f"{status.get('level', 'unknown')}{f': {reason}' if reason else ''}")])


def _plots(history: RunHistory) -> str:
    return html_report.loss_plot(history) + "".join(
        html_report.return_plots(history)[:MAX_BODIES])


def _grades(history: RunHistory) -> str:
    """Of the last evaluation: each task with its mean accuracy."""
    grades: dict[int, list[tuple[str, float]]] = {}
    for task, levels in history.curriculum.get("accuracy", {}).items():
        grades.setdefault(grade_of(task), []).append((short(task), fmean(levels)))
    cards = ""
    for grade, tasks in sorted(grades.items()):
        mean = fmean(accuracy for _, accuracy in tasks)
        names = "  ".join(f"{name} {100 * accuracy:.0f}" for name, accuracy in tasks[:MAX_TASKS])
        cards += (f'<article class="card"><h4><span>{f"grade {grade}" if grade else "your tasks"}'
                  f'</span><span>{100 * mean:.0f} %</span></h4>{bar(mean)}'
                  f'<div class="note">{text(names)}</div></article>')
    return section("Right answers", "", f'<div class="grid">{cards}</div>' if cards else "")


def _answers(answers: list[Mapping[str, str]]) -> str:
    rows = "".join(f"<li>{example(row)}</li>" for row in answers[:MAX_ANSWERS])
    return section("Last answers", "", f'<ul class="examples">{rows}</ul>' if rows else "")
