"""How a training ended, for a person: what the brain can do, and what to do with it next."""
import shutil
import textwrap
from collections.abc import Mapping, Sequence

from seed.body.results import ChoiceAccuracy, Returns, shown
from seed.evaluation.score_summary import Measured
from seed.task_names import short
from seed.terminal_text import duration

SOLID, SO_SO = 0.9, 0.5     # least accuracy of a task
MAX_COLUMNS = 100
INDENT = 16   # characters


def ending(step: int, elapsed_s: float | None, measured: Measured, returns: Sequence[Returns],
           choices: Sequence[ChoiceAccuracy], next_commands: Mapping[str, str]) -> str:
    """Of a training that finished. `next_commands`: what for, and the command."""
    width = min(MAX_COLUMNS, shutil.get_terminal_size().columns)
    steps = f"{step:,} step{'s' if step > 1 else ''}"
    words = [f"Done: {steps}{f' in {duration(elapsed_s)}' if elapsed_s else ''}."]
    if measured.levels:
        words.append(f"{_summary(measured)} By task, mean of levels:")
    rows = [*_row("", " ".join(words), width, 1), *_by_strength(measured, width)]
    for row in returns:
        success = f", {100 * row.success:.0f} % succeed" if row.success is not None else ""
        rows += _row("acts", f"{short(row.body)}: return {shown(row.mean)} in {row.episodes} "
                             f"unseen episodes{success}", width)
    for choice in choices:
        rows += _row("as recorded", f"{short(choice.body)}: {100 * choice.accuracy:.0f} % of "
                                    f"{choice.ticks:,} held-out choices", width)
    rows += [f"   {what:<{INDENT - 3}}{command}" for what, command in next_commands.items()]
    return "\n".join(rows)


def _summary(measured: Measured) -> str:
    """Below guessing the mean of all tasks is a riddle: then what is learnt already."""
    summary = measured.summary
    assert summary, "there are scores"
    whole = summary.mean_of_levels
    if whole.accuracy > whole.chance:
        uniform = (f", {100 * summary.uniform_draw.accuracy:.0f} % of uniform draws"
                   if summary.uniform_draw else "")
        return (f"Held-out questions right: {100 * whole.accuracy:.0f} % as the mean of levels "
                f"(guessing: {100 * whole.chance:.0f} %), "
                f"{100 * summary.hardest_level.accuracy:.0f} % at the hardest levels{uniform}.")
    means = {task: each.mean_of_levels for task, each in measured.task_summaries.items()}
    learnt = {task: mean.accuracy for task, mean in means.items() if mean.interval[0] > mean.chance}
    if not learnt:
        return f"No task of {len(means)} is done better than by guessing yet: train on."
    best = max(learnt, key=lambda name: learnt[name])
    return (f"Better than guessing in {len(learnt)} of {len(means)} tasks so far, best in "
            f"{short(best)}: {100 * learnt[best]:.0f} % of held-out questions right.")


def _by_strength(measured: Measured, width: int) -> list[str]:
    """The tasks that are solid, so-so and weak, each with its percent."""
    means = sorted(((each.mean_of_levels.accuracy, short(task))
                    for task, each in measured.task_summaries.items()), key=lambda pair: -pair[0])
    rows: list[str] = []
    for label, least, below in (("solid", SOLID, 2.0), ("so-so", SO_SO, SOLID),
                                ("weak", -1.0, SO_SO)):
        names = [f"{name}\N{NO-BREAK SPACE}{100 * mean:.0f}" for mean, name in means
                 if least <= mean < below]
        if names:
            rows += _row(label, "  ".join(names), width)
    return rows


def _row(label: str, text: str, width: int, indent: int = INDENT) -> list[str]:
    """Wrapped, under a label on its left."""
    first = f"   {label}".ljust(indent) if label else " " * indent
    lines = textwrap.wrap(text, max(20, width - 1), initial_indent=first,
                          subsequent_indent=" " * indent, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
