"""The school: which grade is studied, what has been passed, and so how often each lesson comes.

A grade is passed when every task in it is answered well enough on items never trained on; then the
next one opens. What the grade has not passed yet takes a fixed part of the lessons, because a rule
of many steps is not found at all while it comes rarely. What was passed stays in the lessons,
rarely while it holds, and a passed task that is forgotten brings its grade back. The state is plain
data and goes into the checkpoint: all that the school decides follows from it and from the profile.
"""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seed.config import CurriculumConfig
from seed.curriculum.tasks import GRADE_OF, GRADES

LAST = len(GRADES)
Accuracy = Mapping[str, Sequence[float]]   # of a task: exact match in 0..1, one for each level


@dataclass(frozen=True)
class School:
    """`grade` is studied; up to `opened` there are lessons. LAST + 1: all grades are behind."""
    grade: int = 1
    opened: int = 1
    exams: int = 0         # since this grade was begun
    examined_at: int = 0   # step of the last one
    passed: tuple[str, ...] = ()
    accuracy: Accuracy = field(default_factory=dict)   # of the last examination

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def is_open(self, task: str) -> bool:
        return grade_of(task) <= self.opened

    def in_focus(self, task: str) -> bool:
        """Whether it belongs to the studied grade and is not passed yet."""
        return grade_of(task) == self.grade and task not in self.passed

    def need(self, config: CurriculumConfig, task: str, level: int) -> float:
        """How often a lesson of this task and level comes, beside its share.

        The less is known the more often, and `replay` at the least; a grade that was open before
        the school went back below it has only that.
        """
        if not self.is_open(task):
            return 0.0
        if grade_of(task) > self.grade:
            return config.replay
        known = self.accuracy.get(task)
        return config.replay + 1 - (known[min(level, len(known)) - 1] if known else 0.0)


def grade_of(task: str) -> int:
    """A task of the user's own belongs to the first grade."""
    return GRADE_OF.get(task, 1)


def enter(config: CurriculumConfig, tasks: Iterable[str]) -> School:
    """The school before the first step: in the lowest grade that is taught, or all open at once."""
    first = min(map(grade_of, tasks)) if config.exam_every else LAST
    return School(first, first)


def is_due(school: School, config: CurriculumConfig, step: int) -> bool:
    """Whether an examination belongs to this step and has not been held."""
    return bool(config.exam_every) and step % config.exam_every == 0 and step > school.examined_at


def describe(school: School) -> str:
    """The grade, and what is open but not passed, with its mean accuracy."""
    left = [f"{task} {100 * sum(own) / len(own):.0f}" for task, own in school.accuracy.items()
            if task not in school.passed]
    name = f"grade {school.grade}" if school.grade <= LAST else "all grades passed"
    return f"{name}; exact %: {', '.join(left)}" if left else name


def after_exam(school: School, config: CurriculumConfig, accuracy: Accuracy,
               step: int) -> tuple[School, str]:
    """The school after an examination of all open tasks at `step`, and a line if it has moved.

    A grade ends when each of its tasks has reached `pass_mark`, or after `patience` examinations:
    one hard task does not keep others from being begun. After the last grade the school returns to
    those that are not passed, one after the other. A passed task below `keep_mark` is passed no
    longer, and the school goes back to its grade.
    """
    means = {task: sum(own) / len(own) for task, own in accuracy.items()}
    passed = {task for task, mean in means.items()
              if mean >= (config.keep_mark if task in school.passed else config.pass_mark)}
    grade, opened, exams, said = school.grade, school.opened, school.exams + 1, ""
    lost = [task for task in school.passed if task not in passed and grade_of(task) < grade]
    left = [task for task in means if task not in passed]
    if lost:
        task = min(lost, key=grade_of)
        grade, exams = grade_of(task), 0
        said = f"back to grade {grade}: {task} has fallen to {100 * means[task]:.0f} %"
    elif exams >= config.patience or not any(grade_of(task) == grade for task in left):
        behind = [task for task in left if grade_of(task) == grade]
        said = (f"grade {grade} left for now: {', '.join(behind)} not passed" if behind else
                f"grade {grade} passed")
        wanting = [grade_of(task) for task in left]
        later = [g for g in range(grade + 1, LAST + 1) if g > opened or g in wanting]
        grade = min(later or wanting or [LAST + 1])
        opened, exams = max(opened, min(grade, LAST)), 0
    return School(grade, opened, exams, step, tuple(sorted(passed)), dict(accuracy)), said


def from_dict(data: Any) -> School:
    """The inverse of `to_dict`. Raises ValueError for anything that it did not write."""
    try:
        if data.keys() != School().to_dict().keys():
            raise TypeError
        school = School(**data)
        counts = (school.grade, school.opened, school.exams, school.examined_at)
        known = {task: tuple(own) for task, own in school.accuracy.items()}
        good = (all(type(x) is int and x >= 0 for x in counts)
                and 1 <= school.grade <= LAST + 1 and 1 <= school.opened <= LAST
                and all(type(task) is str for task in school.passed)
                and all(type(x) in (int, float) and 0 <= x <= 1
                        for own in known.values() for x in own))
    except (TypeError, AttributeError):
        good = False
    if not good:
        raise ValueError("its school is not one of seed's")
    return School(*counts, tuple(school.passed), known)
