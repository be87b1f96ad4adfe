"""What changed during a run, quantity by quantity, in bounded memory: from its metrics.jsonl."""
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from seed.storage import metrics_reader

MAX_POINTS = 2 ** 14   # of a curve; then each is the mean of 2, 4, 8, ... lines
MAX_CURVES = 200       # of a run; a file may name any tasks and bodies
MAX_NAME_CHARS = 100
MAX_VALUE = 1e30       # nothing that is larger was measured
UNITS = {"loss": "nats a byte", "tokens_per_s": "1/s", "temp_c": "C", "memory_mb": "MB",
         "duty": "0 to 1", "accuracy": "0 to 1", "task": "0 to 1", "accept_rate": "0 to 1",
         "entropy": "nats"}


class Point(NamedTuple):
    """One point of a curve."""
    step: int
    time: float    # Unix; NaN if it is not known
    value: float


class Curve:
    """The points of one quantity, in their order. One that stands for several lines has their mean,
    and the step and time of the last."""

    def __init__(self) -> None:
        self._steps, self._times, self._values = array("q"), array("d"), array("d")
        self._lines_per_point, self._sum, self._count = 1, 0.0, 0   # of the point to come
        self._last = 0, math.nan

    def add(self, step: int, time: float, value: float) -> None:
        """The value of one more line."""
        self._sum, self._count, self._last = self._sum + value, self._count + 1, (step, time)
        if self._count == self._lines_per_point:
            self._append()
            if len(self._values) == MAX_POINTS:
                self._merge_pairs()

    def _append(self) -> None:
        self._steps.append(self._last[0])
        self._times.append(self._last[1])
        self._values.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0

    def _merge_pairs(self) -> None:
        self._values = array("d", map(_mean, self._values[::2], self._values[1::2]))
        self._steps, self._times = self._steps[1::2], self._times[1::2]
        self._lines_per_point *= 2

    def reduced(self, most: int) -> list[tuple[int, float]]:
        """At most so many (last step, mean) of equally many points each."""
        points = list(self)
        size = max(1, -(-len(points) // most))
        parts = [points[i:i + size] for i in range(0, len(points), size)]
        return [(part[-1].step, fmean(point.value for point in part)) for part in parts]

    def __len__(self) -> int:
        return len(self._values) + (self._count > 0)

    def __iter__(self) -> Iterator[Point]:
        yield from map(Point, self._steps, self._times, self._values)
        if self._count:
            yield Point(*self._last, self._sum / self._count)


def _mean(a: float, b: float) -> float:
    return a / 2 + b / 2


def read(path: Path) -> dict[str, Curve]:
    """All curves of a metrics file, by name, in the order in which they begin; of a name with a
    slash, what is before it is a group. Raises OSError."""
    curves: dict[str, Curve] = {}
    for row in metrics_reader.rows(path):
        time = row["time"] if _is_number(row.get("time")) else math.nan
        for name, value in _values(row):
            if name not in curves and len(curves) < MAX_CURVES:
                curves[name] = Curve()
            if name in curves:
                curves[name].add(row["step"], time, value)
    return curves


def _values(row: dict[str, Any]) -> list[tuple[str, float]]:
    """What a line adds to which curves; nothing if it has not the form of its kind."""
    try:
        pairs = _VALUES[row["kind"]](row) if row["kind"] in _VALUES else []
        return [(name[:MAX_NAME_CHARS], float(value)) for name, value in pairs
                if isinstance(name, str) and _is_number(value)]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return []


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_VALUE


def _of_step(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in row.items() if key not in ("kind", "step", "time")]


def _of_eval(row: dict[str, Any]) -> list[tuple[str, Any]]:
    scores = [score["accuracy"] for score in row["scores"]]
    return [*([("accuracy/holdout", fmean(scores))] if scores else []),
            *((f"accuracy/{choice['body']}", choice["accuracy"]) for choice in row["choices"]),
            *((f"unseen_return/{acting['body']}", acting["mean"]) for acting in row["returns"])]


def _of_curriculum(row: dict[str, Any]) -> list[tuple[str, Any]]:
    means = {task: fmean(levels) for task, levels in row["accuracy"].items()}
    return [*([("accuracy/unlocked", fmean(means.values()))] if means else []),
            *((f"task/{task}", mean) for task, mean in means.items())]


def _of_body(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"return/{row['body']}", row["mean_return"]),
            (f"entropy/{row['body']}", row["entropy"])]


def _of_selfplay(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"accept_rate/{row['task']}", row["accept_rate"])]


_VALUES = {"step": _of_step, "eval": _of_eval, "curriculum": _of_curriculum, "body": _of_body,
           "selfplay": _of_selfplay}


def matching(names: Sequence[str], what: str) -> list[str]:
    """The curves that `what` names: one, all of a group, or one by its name in the first group that
    has it."""
    matches = [name for name in names if what in (name, name.partition("/")[0])]
    return matches or [name for name in names if name.partition("/")[2] == what][:1]


def title(what: str) -> str:
    """A quantity with its unit, if it has one."""
    unit = UNITS.get(what) or UNITS.get(what.partition("/")[0])
    return f"{what} ({unit})" if unit else what
