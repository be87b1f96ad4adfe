"""Scores for a page: a card for each task, with its examples, and its levels folded."""
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from seed.curriculum.state import grade_of
from seed.evaluation.exact_match import Score, mean_of_levels
from seed.evaluation.html_page import code, folded, table, text
from seed.evaluation.svg_plot import bar
from seed.task_names import short

MAX_TASKS, MAX_LEVELS = 100, 30   # that are shown


def cards(scores: Sequence[Score], examples: Sequence[dict[str, Any]] = ()) -> str:
    """By grade."""
    grades: dict[int, dict[str, list[Score]]] = {}
    for score in scores:
        grades.setdefault(grade_of(score.task), {}).setdefault(score.task, []).append(score)
    content, left = "", MAX_TASKS
    for grade, tasks in sorted(grades.items()):
        shown, left = list(tasks.items())[:left], max(0, left - len(tasks))
        name = f"Grade {grade}" if grade else "Your tasks"
        if shown:
            right = fmean(mean_of_levels(levels).accuracy for _, levels in shown)
            content += f"<h3>{name}: {percent(right)}</h3><div class=grid>" + "".join(
                _card(task, levels, [row for row in examples if row["task"] == task])
                for task, levels in shown) + "</div>"
    n_tasks = sum(map(len, grades.values()))
    return content + (f"<p class=note>and {n_tasks - MAX_TASKS} more tasks</p>"
                      if n_tasks > MAX_TASKS else "")


def _card(task: str, levels: Sequence[Score], examples: Sequence[dict[str, Any]]) -> str:
    whole, n_questions = mean_of_levels(levels), sum(score.count for score in levels)
    rows = [(score.level, percent(score.accuracy),
             "–".join(f"{100 * end:.1f}" for end in score.interval),
             percent(score.chance), f"{score.correct}/{score.count}")
            for score in levels[:MAX_LEVELS]]
    answers = "".join(f"<li>{example(row)}</li>" for row in examples)
    return (f'<article class="card"><h4><span>{text(short(task))}</span>'
            f'<span>{percent(whole.accuracy)}</span></h4>'
            f'{bar(whole.accuracy, whole.interval, whole.chance)}'
            f'<div class="note">guessing {percent(whole.chance)}, {n_questions} questions</div>'
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
