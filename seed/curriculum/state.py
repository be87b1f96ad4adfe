"""The curriculum: which grades are unlocked, which tasks are passed, and how often each is trained.

A task is passed when its accuracy on items that are never trained on reaches `pass_mark`, and has
regressed when it then falls below `keep_mark`. The next grade unlocks when every unlocked task is
passed, or when patience ends. Tasks are sampled more often the less they are known, so a regressed
task returns and a known one stays as replay. All that is decided follows from state and profile.
"""
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from seed.config import CurriculumConfig
from seed.curriculum.task import Task
from seed.curriculum.tasks import GRADE_OF, GRADES

LAST = len(GRADES)
Accuracy = Mapping[str, Sequence[float]]   # by task: exact match in 0..1 of each level


def grade_of(task: str) -> int:
    """User tasks belong to no grade: 0, which is always unlocked and never waited for."""
    return GRADE_OF.get(task, 0)


def highest_grade(config: CurriculumConfig) -> int:
    """The grade that unlocks last, of the tasks with a weight."""
    grades = [grade_of(task) for task, weight in config.tasks.items() if weight and grade_of(task)]
    return max(grades) if config.eval_every_steps and grades else LAST


@dataclass(frozen=True)
class CurriculumState:
    """Plain data in the checkpoint."""
    grade: int = 1      # the lowest that is not passed; LAST + 1 when all are
    unlocked: int = 1   # tasks of grades up to it are trained
    evals_since_unlock: int = 0
    evaluated_at: int = 0   # step of the last evaluation
    passed: tuple[str, ...] = ()
    accuracy: Accuracy = field(default_factory=dict)   # of the last evaluation

    @classmethod
    def initial(cls, config: CurriculumConfig, tasks: Collection[str]) -> "CurriculumState":
        """Before the first step: the lowest grade with a task; all grades without evaluations."""
        grades = [grade_of(task) for task in tasks if grade_of(task)]
        first = min(grades) if config.eval_every_steps and grades else LAST
        return cls(first, first)

    @classmethod
    def from_dict(cls, data: Any) -> "CurriculumState":
        """The inverse of `to_dict`. Raises ValueError for anything that it did not write."""
        try:
            if data.keys() != cls().to_dict().keys() or type(data["passed"]) not in (list, tuple):
                raise TypeError
            state = cls(**data)
            counts = (state.grade, state.unlocked, state.evals_since_unlock, state.evaluated_at)
            accuracy = {task: tuple(levels) for task, levels in state.accuracy.items()}
            valid = (all(type(x) is int and x >= 0 for x in counts)
                     and 1 <= state.unlocked <= LAST and 1 <= state.grade <= LAST + 1
                     and (state.grade <= state.unlocked or state.grade == LAST + 1)
                     and set(state.passed) <= accuracy.keys() and all(accuracy.values())
                     and all(type(x) in (int, float) and 0 <= x <= 1
                             for levels in accuracy.values() for x in levels))
        except (TypeError, AttributeError):
            valid = False
        if not valid:
            raise ValueError("the curriculum state is invalid")
        return cls(*counts, tuple(state.passed), accuracy)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def renamed(self, names: Mapping[str, str]) -> "CurriculumState":
        """With other names of user tasks."""
        return replace(self, passed=tuple(names.get(task, task) for task in self.passed),
                       accuracy={names.get(task, task): levels
                                 for task, levels in self.accuracy.items()})

    def is_unlocked(self, task: str) -> bool:
        return grade_of(task) <= self.unlocked

    def is_due(self, config: CurriculumConfig, step: int) -> bool:
        """Whether an evaluation belongs to this step and has not been done."""
        return (config.eval_every_steps > 0 and step % config.eval_every_steps == 0
                and step > self.evaluated_at)

    def sampling_weight(self, config: CurriculumConfig, task: Task, level: int) -> float:
        """How often items of this task and level are drawn, beside the weight in the profile.

        `replay_weight` plus what is not yet known above chance. A level of a stepwise task counts
        as far as the level below it is known.
        """
        if not config.eval_every_steps:
            return 1.0
        if not self.is_unlocked(task.name):
            return 0.0
        below = self._known(task, level - 1) if task.stepwise and level > 1 else 1.0
        return config.replay_weight + below * (1 - self._known(task, level))

    def _known(self, task: Task, level: int) -> float:
        """0 at chance or before an evaluation, 1 if every answer was right."""
        levels, chance = self.accuracy.get(task.name, ()), task.chance(level)
        accuracy = levels[level - 1] if level <= len(levels) else 0.0
        return max(0.0, accuracy - chance) / (1 - chance) if chance < 1 else accuracy

    def update(self, config: CurriculumConfig, tasks: Collection[str], accuracy: Accuracy,
               step: int) -> tuple["CurriculumState", str]:
        """The state after an evaluation at `step`; a line if a grade unlocked or a task regressed.

        `tasks` are all in the dataset, `accuracy` has the unlocked ones. Patience ends after
        `patience_evals` evaluations, so that one hard task does not keep the others locked.
        """
        means = {task: _mean(levels) for task, levels in accuracy.items()}
        passed = {task for task, mean in means.items()
                  if mean >= (config.keep_mark if task in self.passed else config.pass_mark)}
        grades = {grade_of(task) for task in tasks} - {0}
        not_passed = {grade_of(task) for task in tasks if task not in passed} & grades
        locked = {grade for grade in grades if grade > self.unlocked}
        unlocked, evals = self.unlocked, self.evals_since_unlock + 1
        events = [f"{task} regressed to {100 * means.get(task, 0):.0f} %" for task in self.passed
                  if task not in passed]
        if locked and (evals >= config.patience_evals
                       or all(grade > unlocked for grade in not_passed)):
            unlocked, evals = min(locked), 0
            events.append(f"grade {unlocked} unlocked")
        grade = min(not_passed, default=LAST + 1)
        after = CurriculumState(grade, unlocked, evals, step, tuple(sorted(passed)), dict(accuracy))
        return after, "; ".join(events)

    def describe(self) -> str:
        """The grade, and the mean accuracy of each grade that was evaluated."""
        means: dict[int, list[float]] = {}
        for task, levels in self.accuracy.items():
            means.setdefault(grade_of(task), []).append(_mean(levels))
        name = f"in grade {self.grade}" if self.grade <= LAST else "all grades passed"
        rows = [f"grade {grade} accuracy {100 * _mean(tasks):.0f} %"
                for grade, tasks in sorted(means.items()) if grade]
        return f"{name}; {', '.join(rows)}" if rows else name


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
