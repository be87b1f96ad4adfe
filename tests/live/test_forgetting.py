"""A memory that misleads is begun anew: after two episodes far less expected than usual."""
import math
from types import SimpleNamespace

import pytest

from seed.live.brain_worker import Worker
from seed.live.forgetting import LEAST_EPISODES, Forgetting
from seed.live.frames import Call, Flag

KEEP = SimpleNamespace(number=0, call=Call.BEGIN, flags=Flag.KEEP)


def forgets(*means: float) -> list[int]:
    """Of episodes with that mean surprise, the numbers of those after which it forgets."""
    forgetting, numbers = Forgetting(), []
    for i, mean in enumerate(means):
        for nats in (mean - 0.2, math.nan, mean + 0.2):
            forgetting.count(nats)
        if forgetting.end_episode():
            numbers.append(i)
    return numbers


USUAL = [0.6, 0.7, 0.65] * 4


def test_two_unusual_episodes_in_a_row_and_no_single_one():
    assert forgets(*USUAL, 2.3, 2.1, 0.7, 0.7) == [13]
    assert forgets(*USUAL, 2.3, 0.7, 2.3, 0.7, 2.3) == []
    assert forgets(*USUAL, 0.8, 0.9, 1.0) == []


def test_what_stays_unusual_is_tried_anew_after_some_episodes_and_is_usual_in_the_end():
    numbers = forgets(*USUAL, *[2.0] * 60)
    assert numbers[:2] == [13, 13 + LEAST_EPISODES] and numbers[-1] < 40


@pytest.mark.parametrize("means", [[], [2.0] * 3, [0.1, 0.1, 2.0, 2.0]])
def test_nothing_is_unusual_before_the_usual_is_known(means):
    assert forgets(*means) == []


def test_a_brain_that_cannot_tell_surprise_never_forgets():
    forgetting = Forgetting()
    for _ in range(20):
        forgetting.count(math.nan)
        assert not forgetting.end_episode()


def state_of(worker: Worker) -> bytes:
    assert worker._saves()
    return worker.scratch.read_bytes()


def test_a_brain_begins_an_episode_with_its_memory_unless_that_misleads_it(
        brains, tmp_path, monkeypatch):
    worker = Worker({"brain": str(brains.first), "body": "cartpole", "state": "",
                     "scratch": str(tmp_path / "scratch"), "handover": str(tmp_path / "handover"),
                     "episodes": "", "record_bytes_per_day": 1e12, "cores": [],
                     "should_restore": False})
    worker.brain.begin("cartpole")
    fresh = state_of(worker)
    for is_misled in (False, True):
        for _ in range(3):
            worker.brain.act([0.1] * 4, 1.0)
            worker._after_act()
        assert worker._forgetting._n_ticks
        monkeypatch.setattr(Forgetting, "end_episode", lambda forgetting: is_misled)
        worker._do(KEEP, None)
        assert (state_of(worker) == fresh) == is_misled
    worker._finish()
