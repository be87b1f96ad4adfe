"""All tasks, in the six grades of the curriculum. task.py says how to add one."""
from seed.curriculum.arithmetic import Add, AddLong, Compare, Multiply, Sort, Subtract
from seed.curriculum.asked import Asked
from seed.curriculum.memory import Assign, Recall
from seed.curriculum.problems import Brackets, Grid, Nested, Story
from seed.curriculum.sequences import Count, Missing, Next
from seed.curriculum.task import Task
from seed.curriculum.tracking import Boolean, Cycle, Modular, Parity
from seed.curriculum.unknown import Unknown
from seed.curriculum.words import Copy, Identity, Repeat

GRADES: tuple[tuple[type[Task], ...], ...] = (
    (Copy, Repeat, Identity),
    (Count, Next, Missing),
    (Add, Subtract, Compare, Sort),
    (Parity, Modular, Cycle, Boolean),
    (AddLong, Multiply, Assign, Recall),
    (Story, Brackets, Nested, Grid, Asked, Unknown),
)
GRADE_OF = {task.name: number for number, grade in enumerate(GRADES, 1) for task in grade}
TASKS = {task.name: task for grade in GRADES for task in grade}
NAMES = tuple(TASKS)
