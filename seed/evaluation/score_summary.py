"""Three scores, none of which stands for another: the mean of levels, the hardest level, and a
uniform draw from all that a task states.

Levels overlap, so the mean of levels flatters: what is short is in each of them. A task counts once
in the second and the third, each of its levels in the first.
"""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import printable
from seed.evaluation.exact_match import LevelMean, Score, mean_of_levels
from seed.interpreter import near

TITLES = "mean of levels", "hardest level", "uniform draw"
NAME_COLUMNS, COLUMNS = 28, 15   # of a task, of each of the three


class Summary(NamedTuple):
    """Of one task or of several."""
    mean_of_levels: LevelMean
    hardest_level: LevelMean
    uniform_draw: LevelMean | None   # None: not measured

    def to_dict(self) -> dict[str, Any]:
        return {name: mean and mean._asdict() for name, mean in self._asdict().items()}


class Measured(NamedTuple):
    """What was measured of one brain."""
    levels: Sequence[Score]
    uniform: Sequence[Score] = ()   # of uniform draws

    @classmethod
    def from_dicts(cls, levels: Sequence[Mapping[str, Any]],
                   uniform: Sequence[Mapping[str, Any]] = ()) -> "Measured":
        return cls(*([Score.from_dict(row) for row in rows] for rows in (levels, uniform)))

    @property
    def by_task(self) -> dict[str, "Measured"]:
        """In the order of their levels; without those that have none."""
        groups = {score.task: (list[Score](), list[Score]()) for score in self.levels}
        for i, scores in enumerate(self):
            for score in scores:
                if score.task in groups:
                    groups[score.task][i].append(score)
        return {task: Measured(*group) for task, group in groups.items()}

    @property
    def summary(self) -> Summary | None:
        """None without any level."""
        if not self.levels:
            return None
        hardest = {score.task: score for score in sorted(self.levels, key=lambda s: s.level)}
        return Summary(mean_of_levels(self.levels), mean_of_levels(list(hardest.values())),
                       mean_of_levels(self.uniform) if self.uniform else None)

    @property
    def task_summaries(self) -> dict[str, Summary]:
        return {task: measured.summary for task, measured in self.by_task.items()
                if measured.summary}

    def to_dict(self) -> dict[str, Any] | None:
        """The summary of all tasks, and of each, for JSON; None if there is none."""
        return self.summary and {**self.summary.to_dict(), "tasks": {
            task: summary.to_dict() for task, summary in self.task_summaries.items()}}


def table(measured: Measured) -> str:
    """A line for each task, and one for all: exact match beside guessing."""
    lines = [f"{'exact % (guessing %)':<{NAME_COLUMNS}}" + "".join(
        f"{title:>{COLUMNS}}" for title in TITLES)]
    for name, (row,) in _rows(measured):
        cells = [f"{_percent(mean)} ({100 * mean.chance:4.1f})" if mean else "-"
                 for mean in row.summary or ()]
        lines.append(f"{name:<{NAME_COLUMNS}}" + "".join(f"{cell:>{COLUMNS}}" for cell in cells))
    return "\n".join(lines)


def comparison(names: tuple[str, str], before: Measured, after: Measured) -> str:
    """As `table`, of two brains side by side, without guessing; a line for each task of `after`."""
    lines = [" " * NAME_COLUMNS + "".join(f"{title:>{COLUMNS}}" for title in TITLES),
             f"{'exact %':<{NAME_COLUMNS}}" + len(TITLES) * f"{names[0]:>8}{names[1]:>7}"
             + f"{'n':>6}"]
    for name, rows in _rows(after, before):
        second, first = (row.summary or (None,) * len(TITLES) for row in rows)
        lines.append(f"{name:<{NAME_COLUMNS}}" + "".join(
            f"{_percent(mean):>8}{_percent(later):>7}" for mean, later in zip(first, second))
            + f"{sum(score.count for score in rows[0].levels):>6}")
    return "\n".join(lines)


def _rows(first: Measured, *others: Measured) -> Iterator[tuple[str, list[Measured]]]:
    """Of each task of the first, and of all."""
    brains = [first, *others]
    groups = [brain.by_task for brain in brains]
    for task in groups[0]:
        yield _shown(task), [group.get(task, Measured(())) for group in groups]
    if first.levels:
        yield "all", brains


def _percent(mean: LevelMean | None) -> str:
    return f"{100 * mean.accuracy:.1f}" if mean else "-"


def _shown(task: str) -> str:
    """In its column: a file from the current folder; what is cut off shows."""
    name = printable(near(Path(task)) if task.startswith("/") else task)
    return name if len(name) <= NAME_COLUMNS else "..." + name[3 - NAME_COLUMNS:]
