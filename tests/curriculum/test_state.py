"""The school moves on when a grade is passed, goes back when it is lost, and forgets no lesson."""
import json

import pytest

from seed.config import CurriculumConfig
from seed.curriculum import state
from seed.curriculum.dataset import Dataset
from seed.curriculum.state import LAST, CurriculumState, update, enter, from_dict
from seed.curriculum.tasks import GRADES, NAMES
from seed.curriculum.words import Identity

CONFIG = CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), pass_mark=0.95, keep_mark=0.85,
                          patience_evals=3, replay_weight=0.1)
TASKS = Dataset(CONFIG, {"who": "me", "where": "here"}, 0).tasks
LEVELS = {task.name: 1 if task is Identity else len(task.chances)
          for grade in GRADES for task in grade}


def marks(opened: int, **means: float) -> dict[str, tuple[float, ...]]:
    """What an examination of the opened grades finds: 1.0, but for the tasks that are named."""
    return {name: (means.get(name, 1.0),) * LEVELS[name]
            for name in NAMES if state.grade_of(name) <= opened}


def sit(school: CurriculumState, **means: float) -> tuple[CurriculumState, str]:
    return update(school, CONFIG, NAMES, marks(school.opened, **means),
                  school.examined_at + 250)


def test_a_pupil_who_knows_everything_passes_a_grade_at_each_examination():
    school, grades = enter(CONFIG, NAMES), []
    while school.grade <= LAST:
        grades.append((school.grade, school.opened))
        school, said = sit(school)
        assert said == (f"grade {school.opened} opens" if grades[-1][1] < LAST else "")
    assert grades == [(n, n) for n in range(1, LAST + 1)]
    assert school.opened == LAST and set(school.passed) == set(NAMES)
    assert sit(school) == (CurriculumState(LAST + 1, LAST, 2, school.examined_at + 250, school.passed,
                                           school.accuracy), "")


def test_one_task_below_the_mark_keeps_the_next_grade_closed_until_patience_ends():
    school = enter(CONFIG, NAMES)
    for exam in range(1, CONFIG.patience_evals):
        school, said = sit(school, repeat=0.94)
        assert (school.opened, school.exams, said) == (1, exam, "")
    school, said = sit(school, repeat=0.94)
    assert (school.grade, school.opened, school.exams, said) == (1, 2, 0, "grade 2 opens")
    assert "repeat" not in school.passed
    assert school.sampling_weight(CONFIG, TASKS["repeat"], 1) == pytest.approx(0.1 + 0.06, abs=1e-3)
    school, said = sit(school)
    assert (school.grade, school.opened, said) == (3, 3, "grade 3 opens")


def test_a_lost_task_brings_its_grade_and_its_lessons_back():
    school = CurriculumState(4, 4, 0, 1000, tuple(sorted(n for n in NAMES if state.grade_of(n) < 4)),
                             marks(4, parity=0.5))
    held, said = sit(school, count=0.86, parity=0.5)
    assert held.grade == 4 and not said    # above the keep mark: replay is enough
    back, said = sit(school, count=0.84, parity=0.5)
    assert (back.grade, back.opened, said) == (2, 4, "count is lost: 84 %")
    assert "count" not in back.passed
    for lesson, weight in (("count", 0.1 + 0.16), ("copy", 0.1), ("parity", 1.1), ("assign", 0.0)):
        assert back.sampling_weight(CONFIG, TASKS[lesson], 1) == pytest.approx(weight, abs=0.01)
    still, _ = sit(back, count=0.94, parity=0.5)
    assert still.grade == 2    # what is lost has to reach the pass mark again
    again, _ = sit(still, parity=0.5)
    assert again.grade == 4 and "count" in again.passed


def test_the_grade_is_the_lowest_with_a_task_that_is_not_passed():
    school, _ = sit(CurriculumState(LAST, LAST), parity=0.5, grid=0.5)
    assert school.grade == 4
    assert sit(school, grid=0.5)[0].grade == LAST
    assert sit(school)[0].grade == LAST + 1


def test_a_task_that_was_never_passed_cannot_be_lost():
    school = CurriculumState(3, 3, 0, 750, ("copy", "identity"), {})
    school, said = sit(school, repeat=0.2, add=0.1)
    assert school.grade == 1 and not said


def test_grades_without_lessons_are_skipped_and_a_task_of_ones_own_is_never_waited_for():
    assert enter(CONFIG, ["parity", "a.py:Own"]) == CurriculumState(4, 4)
    tasks = ["copy", "grid", "a.py:Own"]
    school = enter(CONFIG, tasks)
    own = {"copy": (1.0,), "a.py:Own": (0.0,)}
    school, said = update(school, CONFIG, tasks, own, 250)
    assert (school.grade, school.opened, said) == (LAST, LAST, f"grade {LAST} opens")
    assert school.is_open("a.py:Own")
    school, said = update(school, CONFIG, tasks, {**own, "grid": (1.0,)}, 500)
    assert (school.grade, said) == (LAST + 1, "")


def test_the_grade_opened_last_has_a_task_with_a_share():
    shares = {"copy": 1.0, "parity": 1.0, "grid": 0.0, "a.py:Own": 1.0}
    assert state.highest(CurriculumConfig(tasks=shares)) == 4
    assert state.highest(CurriculumConfig(tasks={**shares, "grid": 0.1})) == LAST
    assert state.highest(CurriculumConfig(tasks=shares, eval_every_steps=0)) == LAST


def test_a_longer_level_of_a_stepwise_task_is_studied_as_far_as_the_one_below_is_known():
    parity = TASKS["parity"]
    for first, second, needs in (((0.5, 0.5, 0.5), 0.1, (1.1, 0.1, 0.1)),
                                 ((0.75, 0.5, 0.5), 0.6, (0.6, 0.6, 0.1)),
                                 ((1.0, 0.75, 0.5), 0.6, (0.1, 0.6, 0.6))):
        school = CurriculumState(4, 4, accuracy={"parity": first})
        found = [school.sampling_weight(CONFIG, parity, level) for level in (1, 2, 3)]
        assert found == pytest.approx(needs) and found[1] == pytest.approx(second)
    fresh = CurriculumState(4, 4)
    assert [fresh.sampling_weight(CONFIG, parity, n) for n in (1, 2)] == pytest.approx([1.1, 0.1])
    runs = [CurriculumState(2, 2).sampling_weight(CONFIG, TASKS["count"], level)
            for level in (1, 2)]
    assert runs == pytest.approx([1.1, 1.1])


def test_without_examinations_all_is_open_and_shares_alone_decide():
    config = CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), eval_every_steps=0)
    school = enter(config, NAMES)
    lessons = Dataset(config, {"who": "me"}, 0)
    weights = lessons.mixture(school)
    assert len(weights) == sum(LEVELS.values())
    assert not state.is_due(school, config, 250)
    assert {round(w * LEVELS[task.name], 9) for w, (task, _) in zip(weights, lessons._lessons)} == {
        1.0}


def shares_of(school: CurriculumState) -> dict[str, float]:
    """Weight of each task in the lessons."""
    lessons = Dataset(CONFIG, {"who": "me"}, 0)
    shares = dict.fromkeys(NAMES, 0.0)
    for (task, _), weight in zip(lessons._lessons, lessons.mixture(school)):
        shares[task.name] += weight
    return shares


def test_lessons_come_only_from_open_grades_and_more_often_where_they_are_needed():
    shares = shares_of(CurriculumState(2, 2, 0, 250, ("copy",), marks(2, count=0.0, next=0.5)))
    assert shares["copy"] == pytest.approx(0.1) and shares["repeat"] == pytest.approx(0.1)
    assert [shares[name] for name in ("count", "next", "missing")] == pytest.approx(
        [1.1, 0.6, 0.1], abs=0.02)
    assert all(not share for name, share in shares.items() if state.grade_of(name) > 2)


def test_an_examination_asks_all_that_is_open_and_nothing_else():
    lessons = Dataset(CONFIG, {"who": "me"}, 0)
    items = lessons.exam(CurriculumState(2, 3))
    assert {item.task for item in items} == {n for n in NAMES if state.grade_of(n) <= 3}
    assert items == lessons.exam(CurriculumState(2, 3)) != lessons.holdout(CONFIG.eval_items)


def test_a_line_says_how_much_of_each_grade_is_known():
    assert state.describe(CurriculumState()) == "grade 1"
    school, _ = sit(CurriculumState(2, 2), copy=0.4, count=0.25, next=0.5)
    assert state.describe(school) == "grade 1; exact % of grade 1: 80, 2: 58"
    assert state.describe(sit(CurriculumState(LAST, LAST))[
                          0]).startswith("all grades passed; exact % of")


def test_an_examination_is_due_once_at_its_step():
    school = CurriculumState(examined_at=250)
    assert [step for step in range(1001) if state.is_due(school, CONFIG, step)] == [
        500, 750, 1000]


def test_the_state_survives_json_and_anything_else_is_refused():
    school = CurriculumState(2, 3, 1, 500, ("copy",), {"copy": (1.0, 0.5, 1 / 3)})
    assert from_dict(json.loads(json.dumps(school.to_dict()))) == school
    good = school.to_dict()
    for key, value in (("grade", 0), ("grade", LAST + 2), ("opened", True), ("exams", -1),
                       ("passed", [1]), ("passed", None), ("accuracy", {"copy": [1.5]}),
                       ("accuracy", {"copy": ["1"]}), ("accuracy", []), ("examined_at", 0.5),
                       ("passed", "copy"), ("passed", ["nosuch"]), ("accuracy", {"copy": []}),
                       ("grade", 4)):
        with pytest.raises(ValueError, match="school"):
            from_dict({**good, key: value})
    for junk in (None, [], {}, {"grade": 1}, {**good, "more": 1}):
        with pytest.raises(ValueError, match="school"):
            from_dict(junk)
