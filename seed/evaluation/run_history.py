"""What is known of a run from its metrics, in bounded memory, for pages that show it."""
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from seed.curriculum.state import grade_of
from seed.curriculum.task import PROPOSED_LEVEL
from seed.storage.curves import Curve
from seed.storage.metrics_follower import MetricsFollower
from seed.storage.metrics_reader import is_number
from seed.storage.run_dir import RunDir

MAX_GAP_S = 300.0     # between two lines of one stretch of training
MAX_MARKS = 100       # grades that unlocked, growths
MAX_SERIES = 32       # bodies, tasks of self-play
MAX_TIME_S = 1e11
MAX_VALUE = 1e15      # a larger one was not measured


class Unlock(NamedTuple):
    step: int
    grade: int


class Growth(NamedTuple):
    step: int
    parameters: int   # after it


class Series(NamedTuple):
    """Named as in the last row."""
    name: str
    curve: Curve


@dataclass
class RunHistory:
    """Of the rows that were added, in their order. None: the run did not record it."""
    step: int = 0
    ended_s: float | None = None          # Unix time of the last line
    trained_s: float | None = None        # without the time in which nothing was written
    max_temp_c: float | None = None
    max_memory_mb: float | None = None
    loss: Curve = field(default_factory=Curve)
    temp_c: Curve = field(default_factory=Curve)
    tokens_per_s: Curve = field(default_factory=Curve)
    grades: dict[int, Curve] = field(default_factory=dict)   # accuracy in 0..1 by step
    unlocks: deque[Unlock] = field(default_factory=lambda: deque(maxlen=MAX_MARKS))
    growths: deque[Growth] = field(default_factory=lambda: deque(maxlen=MAX_MARKS))
    selfplay: dict[tuple[str, bool], Series] = field(default_factory=dict)   # accept rate by step
    bodies: dict[str, Curve] = field(default_factory=dict)   # mean return by round
    curriculum: Mapping[str, Any] = field(default_factory=dict)    # the last row of each kind
    teacher: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """A valid row of metrics."""
        self.step = row["step"]
        self._add_time(row.get("time"))
        match row["kind"]:
            case "step":
                self._add_step(row)
            case "curriculum":
                self._add_curriculum(row)
            case "selfplay":
                self._add_selfplay(row)
            case "body":
                self._add_round(row)
            case "grow":
                self.growths.append(Growth(row["step"], row["parameters"][1]))
            case "teacher":
                self.teacher = row
            case "eval":
                self.evaluation = row

    def _add_time(self, time_s: Any) -> None:
        if not is_number(time_s) or not 0 < time_s < MAX_TIME_S:
            return
        if self.ended_s is None:
            self.trained_s = 0.0
        elif 0 < time_s - self.ended_s < MAX_GAP_S:
            self.trained_s = (self.trained_s or 0.0) + time_s - self.ended_s
        self.ended_s = time_s

    def _add_step(self, row: Mapping[str, Any]) -> None:
        step: int = row["step"]
        _add(self.loss, step, row["loss"])
        numbers = {key: row[key] for key in ("tokens_per_s", "temp_c", "memory_mb")
                   if is_number(row.get(key))}
        if "tokens_per_s" in numbers:
            _add(self.tokens_per_s, step, numbers["tokens_per_s"])
        if "temp_c" in numbers:
            _add(self.temp_c, step, numbers["temp_c"])
            self.max_temp_c = max(numbers["temp_c"], self.max_temp_c or numbers["temp_c"])
        if "memory_mb" in numbers:
            self.max_memory_mb = max(numbers["memory_mb"], self.max_memory_mb or 0.0)

    def _add_curriculum(self, row: Mapping[str, Any]) -> None:
        self.curriculum, step, means = row, row["step"], dict[int, list[float]]()
        for task, levels in row["accuracy"].items():
            means.setdefault(grade_of(task), []).append(fmean(levels))
        for grade, tasks in means.items():
            _add(self.grades.setdefault(grade, Curve()), step, fmean(tasks))
        if row.get("evals_since_unlock") == 0:   # this evaluation has unlocked it
            self.unlocks.append(Unlock(step, row.get("unlocked", 1)))

    def _add_selfplay(self, row: Mapping[str, Any]) -> None:
        is_proposed = row["level"] == PROPOSED_LEVEL
        key = row["task"], is_proposed
        if key in self.selfplay or len(self.selfplay) < MAX_SERIES:
            level = "proposed" if is_proposed else f"level {row['level']}"
            curve = self.selfplay[key].curve if key in self.selfplay else Curve()
            _add(curve, row["step"], row["accept_rate"])
            self.selfplay[key] = Series(f"{row['task'][-24:]}, {level}", curve)

    def _add_round(self, row: Mapping[str, Any]) -> None:
        name = row["body"]
        if row["mean_return"] is not None and (
                name in self.bodies or len(self.bodies) < MAX_SERIES):
            _add(self.bodies.setdefault(name, Curve()), row["round"], row["mean_return"])


def _add(curve: Curve, x: int, value: float) -> None:
    if 0 <= x < MAX_VALUE and abs(value) < MAX_VALUE:
        curve.add(x, math.nan, value)


class FollowedRun:
    """The history of a run that may go on: each `read` looks only at what was added."""

    def __init__(self, run_dir: RunDir):
        self._history = RunHistory()
        self._follower = MetricsFollower(run_dir.metrics, self._begin,
                                         lambda row: self._history.add(row))

    def _begin(self) -> None:
        self._history = RunHistory()

    def read(self) -> RunHistory:
        """Raises OSError."""
        self._follower.read()
        return self._history
