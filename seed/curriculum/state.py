"""The school: which grades are open, what has been passed, and so how often each lesson comes.

A task is passed when it is answered well enough on items never trained on, and lost when it falls
below a lower mark. The next grade opens when all that is open is passed, or when patience ends. A
lesson comes the more often the less it is known, so a lost task comes back, and a known one stays
as replay. The state is plain data and goes into the checkpoint: all that the school decides follows
from it and from the profile.
"""
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seed.config import CurriculumConfig
from seed.curriculum.task import Task
from seed.curriculum.tasks import GRADE_OF, GRADES

LAST = len(GRADES)
Accuracy = Mapping[str, Sequence[float]]   # of a task: exact match in 0..1, one for each level


@dataclass(frozen=True)
class CurriculumState:
    """Up to `opened` there are lessons; `grade` is the lowest with a task that is not passed.

    LAST + 1: all grades are passed.
    """
    grade: int = 1
    opened: int = 1
    exams: int = 0         # since the last grade was opened
    examined_at: int = 0   # step of the last one
    passed: tuple[str, ...] = ()
    accuracy: Accuracy = field(default_factory=dict)   # of the last examination

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def is_open(self, task: str) -> bool:
        return grade_of(task) <= self.opened

    def sampling_weight(self, config: CurriculumConfig, task: Task, level: int) -> float:
        """How often a lesson of this task and level comes, beside its share.

        The less is known above chance the more often, and `replay` at the least. In a stepwise task
        this is so as far as the level below is known.
        """
        if not config.eval_every_steps:
            return 1.0
        if not self.is_open(task.name):
            return 0.0
        below = self._known(task, level - 1) if task.stepwise and level > 1 else 1.0
        return config.replay_weight + below * (1 - self._known(task, level))

    def _known(self, task: Task, level: int) -> float:
        """0 at chance or without an examination, 1 if every answer was right."""
        own, chance = self.accuracy.get(task.name, ()), task.chance(level)
        accuracy = own[level - 1] if level <= len(own) else 0.0
        return max(0.0, accuracy - chance) / (1 - chance) if chance < 1 else accuracy


def grade_of(task: str) -> int:
    """Tasks of the user's own belong to no grade: 0, always open and never waited for."""
    return GRADE_OF.get(task, 0)


def enter(config: CurriculumConfig, tasks: Collection[str]) -> CurriculumState:
    """The school before the first step: in the lowest grade that is taught, or all open at once."""
    taught = [grade_of(task) for task in tasks if grade_of(task)]
    first = min(taught) if config.eval_every_steps and taught else LAST
    return CurriculumState(first, first)


def highest(config: CurriculumConfig) -> int:
    """The grade that is opened last, of the tasks that have a share."""
    taught = [grade_of(task) for task, share in config.tasks.items() if share and grade_of(task)]
    return max(taught) if config.eval_every_steps and taught else LAST


def is_due(school: CurriculumState, config: CurriculumConfig, step: int) -> bool:
    """Whether an examination belongs to this step and has not been held."""
    return bool(config.eval_every_steps) and step % config.eval_every_steps == 0 and step > school.examined_at


def describe(school: CurriculumState) -> str:
    """The grade, and the mean accuracy of the tasks of each grade that was examined."""
    means: dict[int, list[float]] = {}
    for task, own in school.accuracy.items():
        means.setdefault(grade_of(task), []).append(sum(own) / len(own))
    name = f"grade {school.grade}" if school.grade <= LAST else "all grades passed"
    found = ", ".join(f"{grade}: {100 * sum(own) / len(own):.0f}"
                      for grade, own in sorted(means.items()) if grade)
    return f"{name}; exact % of grade {found}" if found else name


def update(school: CurriculumState, config: CurriculumConfig, tasks: Collection[str],
           accuracy: Accuracy, step: int) -> tuple[CurriculumState, str]:
    """The school after an examination at `step`, and a line if a grade was opened or a task lost.

    `tasks` are all that are taught, `accuracy` is of those that are open. The next grade opens when
    each open task has reached `pass_mark`, or after `patience` examinations: one hard task does not
    keep others from being begun. A passed task below `keep_mark` is passed no longer.
    """
    means = {task: sum(own) / len(own) for task, own in accuracy.items()}
    passed = {task for task, mean in means.items()
              if mean >= (config.keep_mark if task in school.passed else config.pass_mark)}
    taught = {grade_of(task) for task in tasks} - {0}
    wanting = {grade_of(task) for task in tasks if task not in passed} & taught
    unopened = {grade for grade in taught if grade > school.opened}
    opened, exams = school.opened, school.exams + 1
    said = [f"{task} is lost: {100 * means.get(task, 0):.0f} %" for task in school.passed
            if task not in passed]
    if unopened and (exams >= config.patience_evals or not any(g <= opened for g in wanting)):
        opened, exams = min(unopened), 0
        said.append(f"grade {opened} opens")
    grade = min(wanting, default=LAST + 1)
    after = CurriculumState(grade, opened, exams, step, tuple(sorted(passed)), dict(accuracy))
    return after, "; ".join(said)


def from_dict(data: Any) -> CurriculumState:
    """The inverse of `to_dict`. Raises ValueError for anything that it did not write."""
    try:
        if data.keys() != CurriculumState().to_dict().keys() or type(data["passed"]) not in (list, tuple):
            raise TypeError
        school = CurriculumState(**data)
        counts = (school.grade, school.opened, school.exams, school.examined_at)
        known = {task: tuple(own) for task, own in school.accuracy.items()}
        good = (all(type(x) is int and x >= 0 for x in counts)
                and 1 <= school.opened <= LAST and 1 <= school.grade <= LAST + 1
                and (school.grade <= school.opened or school.grade == LAST + 1)
                and set(school.passed) <= known.keys() and all(known.values())
                and all(type(x) in (int, float) and 0 <= x <= 1
                        for own in known.values() for x in own))
    except (TypeError, AttributeError):
        good = False
    if not good:
        raise ValueError("its school is not one of seed's")
    return CurriculumState(*counts, tuple(school.passed), known)
