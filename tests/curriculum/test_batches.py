"""Batches that are drawn ahead are those that would be drawn now, and only where nothing in between
decides about them."""
import itertools
import sys
import threading

import numpy as np
import pytest

from seed.curriculum.batches import SWITCH_INTERVAL_S, Batches, Request
from seed.curriculum.dataset import Dataset, Pool
from seed.curriculum.state import CurriculumState
from seed.curriculum.user_tasks import UserTask
from seed.errors import ConfigError
from seed.storage import RunDir, checkpoint
from seed.training import loop
from seed.training.session import Hooks
from seed.training.stop_signals import StopSignals
from tests.support.counting_learner import CountingLearner, small_profile
from tests.support.items import UNLOCKED, dataset_of


def request(step: int = 3, **changes) -> Request:
    return Request(UNLOCKED, step, 2, 128, (), sum)._replace(**changes)


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[int, str]]:
    """The step and the thread of each batch that is drawn."""
    calls, batch = [], Dataset.batch

    def counted(dataset, curriculum, step, *others):
        calls.append((step, threading.current_thread().name))
        return batch(dataset, curriculum, step, *others)
    monkeypatch.setattr(Dataset, "batch", counted)
    return calls


def test_a_batch_that_was_begun_is_that_of_its_step_and_drawn_in_another_thread(drawn):
    batches, interval_s = Batches(dataset_of()), sys.getswitchinterval()
    asked = request(learn_prompt_fn=lambda item: False)
    expected = dataset_of().batch(*asked)
    drawn.clear()
    for _ in range(2):
        batches.begin(asked)
        batches.begin(asked._replace(step=9))   # one at a time
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
        assert all(map(np.array_equal, batches.take(asked), expected))
    assert drawn == [(3, "batches")] * 2
    batches.close()
    assert sys.getswitchinterval() == pytest.approx(interval_s)
    assert "batches" not in [thread.name for thread in threading.enumerate()]
    batches.close()


@pytest.mark.parametrize("changes", [
    {"step": 4}, {"curriculum": CurriculumState(2, 2)}, {"batch_size": 3},
    {"pools": [Pool(0.5, dataset_of().holdout(1))]}, {"learn_prompt_fn": lambda item: True}])
def test_another_batch_than_was_begun_is_drawn_anew(drawn, changes):
    batches, asked = Batches(dataset_of()), request(learn_prompt_fn=lambda item: False)
    batches.begin(asked)
    taken = batches.take(asked._replace(**changes))
    batches.close()
    assert [thread for _, thread in drawn] == ["batches", "MainThread"]
    assert all(map(np.array_equal, taken, dataset_of().batch(*asked._replace(**changes))))
    assert not all(map(np.array_equal, taken, dataset_of().batch(*asked)))


def test_an_error_ahead_is_raised_where_the_batch_is_taken():
    batches, asked = Batches(dataset_of(recall=1.0)), request(curriculum=CurriculumState(4, 4))
    batches.begin(asked)
    with pytest.raises(ConfigError, match="no task of grade 4 or below"):
        batches.take(asked)
    batches.close()


def test_a_users_class_is_called_in_the_main_thread_alone(drawn, monkeypatch):
    dataset = dataset_of()
    monkeypatch.setitem(dataset.tasks, "mine", UserTask.__new__(UserTask))
    batches, asked = Batches(dataset), request(learn_prompt_fn=lambda item: False)
    batches.begin(asked)
    batches.take(asked)
    assert drawn == [(3, "MainThread")]


def run(folder, steps: int, learner: CountingLearner):
    folder.mkdir(exist_ok=True)
    return loop.run(small_profile(f"train.steps={steps}", "curriculum.eval_every_steps=10"),
                    RunDir(folder), learner, StopSignals(), Hooks(learner.clock))


class KeepsBatches(CountingLearner):
    def __init__(self, **options):
        super().__init__(**options)
        self.batches = []

    def step(self, batch, lr):
        self.batches.append(batch)
        return super().step(batch, lr)


def test_a_run_draws_each_batch_once_and_ahead_unless_an_evaluation_comes_before_it(
        tmp_path, drawn):
    """And what is drawn ahead of a run's end leaves nothing: the next run has the same batches."""
    whole, parts = KeepsBatches(), [KeepsBatches(), KeepsBatches()]
    run(tmp_path / "whole", 24, whole)
    in_main = [step for step, thread in drawn if thread == "MainThread"]
    assert in_main == [0, 10, 20] and sorted({step for step, _ in drawn}) == list(range(24))
    run(tmp_path / "parts", 13, parts[0])
    assert checkpoint.read(RunDir(tmp_path / "parts").checkpoint).meta["step"] == 13
    run(tmp_path / "parts", 24, parts[1])
    both = itertools.chain(parts[0].batches, parts[1].batches)
    assert len(whole.batches) == 24
    for batch, again in zip(whole.batches, both, strict=True):
        assert all(map(np.array_equal, batch, again))
