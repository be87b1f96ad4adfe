"""Scores for a page: a card for each task, with its examples, and its levels folded."""
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from seed.curriculum.state import grade_of
from seed.evaluation.exact_match import mean_of_levels
from seed.evaluation.html_page import code, folded, table, text
from seed.evaluation.score_summary import TITLES, Measured
from seed.evaluation.svg_plot import bar
from seed.task_names import short

MAX_TASKS, MAX_LEVELS = 100, 30   # that are shown


def cards(measured: Measured, examples: Sequence[dict[str, Any]] = ()) -> str:
    """By grade, whose percent is the mean of its tasks' means of levels."""
    grades: dict[int, dict[str, Measured]] = {}
    for task, of_task in measured.by_task.items():
        grades.setdefault(grade_of(task), {})[task] = of_task
    content, left = "", MAX_TASKS
    for grade, tasks in sorted(grades.items()):
        shown, left = list(tasks.items())[:left], max(0, left - len(tasks))
        name = f"Grade {grade}" if grade else "Your tasks"
        if shown:
            right = fmean(mean_of_levels(of_task.levels).accuracy for _, of_task in shown)
            content += f"<h3>{name}: {percent(right)}</h3><div class=grid>" + "".join(
                _card(task, of_task, [row for row in examples if row["task"] == task])
                for task, of_task in shown) + "</div>"
    n_tasks = sum(map(len, grades.values()))
    return content + (f"<p class=note>and {n_tasks - MAX_TASKS} more tasks</p>"
                      if n_tasks > MAX_TASKS else "")


def _card(task: str, of_task: Measured, examples: Sequence[dict[str, Any]]) -> str:
    summary, levels = of_task.summary, of_task.levels
    assert summary, "it has levels"
    whole = summary.mean_of_levels
    notes = [f"guessing {percent(whole.chance)}",
             f"{sum(score.count for score in levels)} questions"]
    notes += [f"{title} {percent(mean.accuracy)}" for title, mean in zip(TITLES[1:], summary[1:])
              if mean and (of_task.uniform or len(levels) > 1)]
    if any(score.is_taught for score in levels):
        notes.append("all of them taught")
    rows = [(score.level, percent(score.accuracy),
             "–".join(f"{100 * end:.1f}" for end in score.interval),
             percent(score.chance), f"{score.correct}/{score.count}")
            for score in levels[:MAX_LEVELS]]
    answers = "".join(f"<li>{example(row)}</li>" for row in examples)
    return (f'<article class="card"><h4><span>{text(short(task))}</span>'
            f'<span>{percent(whole.accuracy)}</span></h4>'
            f'{bar(whole.accuracy, whole.interval, whole.chance)}'
            f'<div class="note">{", ".join(notes)}</div>'
            f'{f"<ul class=examples>{answers}</ul>" if answers else ""}'
            + folded("1 level" if len(levels) == 1 else f"{len(levels)} levels", table(
                ("level", "right", "95 % interval", "guessing", "count"), rows)) + "</article>")


def example(row: Mapping[str, Any]) -> str:
    """A question, what was answered, and what was right."""
    is_right = row["answer"] == row["right"]
    after = ('<span class="good">✓</span>' if is_right else
             f'<span class="bad">✗</span> <span class="note">({code(row["right"])})</span>')
    return f'{code(row["prompt"])} → {code(row["answer"], "good" if is_right else "bad")} {after}'


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}\u00a0%"   # never in two lines
