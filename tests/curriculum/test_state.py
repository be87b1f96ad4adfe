"""The curriculum unlocks the next grade when one is passed and returns to a task that regressed."""
import json

import pytest

from seed.config import CurriculumConfig
from seed.curriculum.dataset import Dataset
from seed.curriculum.state import LAST, CurriculumState, grade_of, highest_grade
from seed.curriculum.tasks import NAMES

CONFIG = CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), pass_mark=0.95, keep_mark=0.85,
                          patience_evals=3, replay_weight=0.1)
DATASET = Dataset(CONFIG, {"who": "me", "where": "here"}, 0)
TASKS = DATASET.tasks


def accuracy_of(unlocked: int, **means: float) -> dict[str, tuple[float, ...]]:
    """Accuracies of 1.0 for each unlocked task, but for those that are named."""
    return {name: (means.get(name, 1.0),) * len(TASKS[name].levels)
            for name in NAMES if grade_of(name) <= unlocked}


def evaluated(state: CurriculumState, **means: float) -> tuple[CurriculumState, str]:
    return state.update(CONFIG, NAMES, accuracy_of(state.unlocked, **means),
                        state.evaluated_at + 250)


def test_a_brain_that_knows_everything_passes_a_grade_at_each_evaluation():
    state, grades = CurriculumState.initial(CONFIG, NAMES), []
    while state.grade <= LAST:
        grades.append((state.grade, state.unlocked))
        state, event = evaluated(state)
        assert event == (f"grade {state.unlocked} unlocked" if grades[-1][1] < LAST else "")
    assert grades == [(n, n) for n in range(1, LAST + 1)]
    assert state.unlocked == LAST and set(state.passed) == set(NAMES)
    assert evaluated(state) == (CurriculumState(LAST + 1, LAST, 2, state.evaluated_at + 250,
                                                state.passed, state.accuracy), "")


def test_one_task_below_the_pass_mark_keeps_the_next_grade_locked_until_patience_ends():
    state = CurriculumState.initial(CONFIG, NAMES)
    for evaluation in range(1, CONFIG.patience_evals):
        state, event = evaluated(state, repeat=0.94)
        assert (state.unlocked, state.evals_since_unlock, event) == (1, evaluation, "")
    state, event = evaluated(state, repeat=0.94)
    assert (state.grade, state.unlocked, state.evals_since_unlock) == (1, 2, 0)
    assert event == "grade 2 unlocked" and "repeat" not in state.passed
    assert state.sampling_weight(CONFIG, TASKS["repeat"], 1) == pytest.approx(0.1 + 0.06, abs=1e-3)
    state, event = evaluated(state)
    assert (state.grade, state.unlocked, event) == (3, 3, "grade 3 unlocked")


def test_a_task_that_regressed_brings_its_grade_and_its_items_back():
    passed = tuple(sorted(name for name in NAMES if grade_of(name) < 4))
    state = CurriculumState(4, 4, 0, 1000, passed, accuracy_of(4, parity=0.5))
    above_keep_mark, event = evaluated(state, count=0.86, parity=0.5)
    assert above_keep_mark.grade == 4 and not event    # replay is enough
    regressed, event = evaluated(state, count=0.84, parity=0.5)
    assert (regressed.grade, regressed.unlocked) == (2, 4)
    assert event == "count regressed to 84 %" and "count" not in regressed.passed
    for task, weight in (("count", 0.1 + 0.16), ("copy", 0.1), ("parity", 1.1), ("assign", 0.0)):
        assert regressed.sampling_weight(CONFIG, TASKS[task], 1) == pytest.approx(weight, abs=0.01)
    below_pass_mark, _ = evaluated(regressed, count=0.94, parity=0.5)
    assert below_pass_mark.grade == 2    # a regressed task has to reach the pass mark again
    passed_again, _ = evaluated(below_pass_mark, parity=0.5)
    assert passed_again.grade == 4 and "count" in passed_again.passed


def test_the_grade_is_the_lowest_with_a_task_that_is_not_passed():
    state, _ = evaluated(CurriculumState(LAST, LAST), parity=0.5, grid=0.5)
    assert state.grade == 4
    assert evaluated(state, grid=0.5)[0].grade == LAST
    assert evaluated(state)[0].grade == LAST + 1


def test_a_task_that_was_never_passed_cannot_regress():
    state, event = evaluated(CurriculumState(3, 3, 0, 750, ("copy", "identity"), {}),
                             repeat=0.2, add=0.1)
    assert state.grade == 1 and not event


def test_grades_without_tasks_are_skipped_and_a_user_task_is_never_waited_for():
    assert CurriculumState.initial(CONFIG, ["parity", "a.py:Mine"]) == CurriculumState(4, 4)
    tasks, accuracy = ["copy", "grid", "a.py:Mine"], {"copy": (1.0,), "a.py:Mine": (0.0,)}
    state, event = CurriculumState.initial(CONFIG, tasks).update(CONFIG, tasks, accuracy, 250)
    assert (state.grade, state.unlocked, event) == (LAST, LAST, f"grade {LAST} unlocked")
    assert state.is_unlocked("a.py:Mine")
    state, event = state.update(CONFIG, tasks, {**accuracy, "grid": (1.0,)}, 500)
    assert (state.grade, event) == (LAST + 1, "")


def test_the_highest_grade_has_a_task_with_a_weight():
    weights = {"copy": 1.0, "parity": 1.0, "grid": 0.0, "a.py:Mine": 1.0}
    assert highest_grade(CurriculumConfig(tasks=weights)) == 4
    assert highest_grade(CurriculumConfig(tasks={**weights, "grid": 0.1})) == LAST
    assert highest_grade(CurriculumConfig(tasks=weights, eval_every_steps=0)) == LAST


@pytest.mark.parametrize("accuracy, weights", [((0.5, 0.5, 0.5), (1.1, 0.1, 0.1)),
                                               ((0.75, 0.5, 0.5), (0.6, 0.6, 0.1)),
                                               ((1.0, 0.75, 0.5), (0.1, 0.6, 0.6)),
                                               ((), (1.1, 0.1, 0.1))])
def test_a_level_of_a_stepwise_task_is_sampled_as_far_as_the_level_below_is_known(
        accuracy, weights):
    state = CurriculumState(4, 4, accuracy={"parity": accuracy} if accuracy else {})
    assert [state.sampling_weight(CONFIG, TASKS["parity"], level)
            for level in (1, 2, 3)] == pytest.approx(weights)


def test_levels_of_other_tasks_do_not_wait_for_each_other():
    assert [CurriculumState(2, 2).sampling_weight(CONFIG, TASKS["count"], level)
            for level in (1, 2)] == pytest.approx([1.1, 1.1])


def weights_by_task(dataset: Dataset, state: CurriculumState) -> dict[str, float]:
    weights = dict.fromkeys(NAMES, 0.0)
    for (task, _), weight in zip(dataset.levels, dataset.mixture(state), strict=True):
        weights[task.name] += weight
    return weights


def test_without_evaluations_all_is_unlocked_and_the_profile_s_weights_alone_decide():
    config = CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), eval_every_steps=0)
    state = CurriculumState.initial(config, NAMES)
    assert not state.is_due(config, 250)
    assert weights_by_task(Dataset(config, {"who": "me"}, 0), state) == pytest.approx(
        dict.fromkeys(NAMES, 1.0))


def test_items_are_of_unlocked_grades_and_more_often_of_what_is_less_known():
    weights = weights_by_task(DATASET, CurriculumState(
        2, 2, 0, 250, ("copy",), accuracy_of(2, count=0.0, next=0.5)))
    assert weights["copy"] == pytest.approx(0.1) and weights["repeat"] == pytest.approx(0.1)
    assert [weights[name] for name in ("count", "next", "missing")] == pytest.approx(
        [1.1, 0.6, 0.1], abs=0.02)
    assert all(weight == 0 for name, weight in weights.items() if grade_of(name) > 2)


def test_an_evaluation_covers_all_that_is_unlocked_and_nothing_else():
    items = DATASET.evaluation_items(CurriculumState(2, 3))
    assert {item.task for item in items} == {name for name in NAMES if grade_of(name) <= 3}
    assert items == DATASET.evaluation_items(CurriculumState(2, 3))
    assert items != DATASET.holdout(CONFIG.eval_items)


def test_a_line_states_the_accuracy_of_each_grade():
    assert CurriculumState().describe() == "in grade 1"
    state, _ = evaluated(CurriculumState(2, 2), copy=0.4, count=0.25, next=0.5)
    assert state.describe() == "in grade 1; grade 1 accuracy 80 %, grade 2 accuracy 58 %"
    assert evaluated(CurriculumState(LAST, LAST))[0].describe().startswith(
        "all grades passed; grade 1 accuracy 100 %")


def test_an_evaluation_is_due_once_at_its_step():
    state = CurriculumState(evaluated_at=250)
    assert [step for step in range(1001) if state.is_due(CONFIG, step)] == [500, 750, 1000]


def test_the_state_survives_json_and_anything_else_is_rejected():
    state = CurriculumState(2, 3, 1, 500, ("copy",), {"copy": (1.0, 0.5, 1 / 3)})
    assert CurriculumState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    good = state.to_dict()
    for key, value in (("grade", 0), ("grade", LAST + 2), ("unlocked", True),
                       ("evals_since_unlock", -1), ("passed", [1]), ("passed", None),
                       ("accuracy", {"copy": [1.5]}), ("accuracy", {"copy": ["1"]}),
                       ("accuracy", []), ("evaluated_at", 0.5), ("passed", "copy"),
                       ("passed", ["nosuch"]), ("accuracy", {"copy": []}), ("grade", 4)):
        with pytest.raises(ValueError, match="curriculum state"):
            CurriculumState.from_dict({**good, key: value})
    for junk in (None, [], {}, {"grade": 1}, {**good, "more": 1}):
        with pytest.raises(ValueError, match="curriculum state"):
            CurriculumState.from_dict(junk)
