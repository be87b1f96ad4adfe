"""What a learner makes of a candidate that must not act: the reason, and no brain that is added."""
import shutil

import numpy as np
import pytest

from seed.body import dynamics, open_body
from seed.live import learn as module
from seed.live.brains import FIRST, Brains
from seed.live.learn import EPISODES, MID, Plan, forget, learn, prepare
from seed.live.lived import Memory
from seed.runtime import rate
from seed.storage import checkpoint
from tests.support.changed_point import (
    Point, Reversed, adapt, brain, export, recorded, shuffle_rewards)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A brain of the point, and what it has lived in that and in the reversed one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_body.BODIES, "point", Point)
        patch.setattr(dynamics, "FIT_TICKS", 64 * 300)
        folder = tmp_path_factory.mktemp("trained")
        first = export(brain(folder / "first", 60))
        yield first, *(recorded(first, folder / body.__name__, "point", body)
                       for body in (Reversed, Point))


@pytest.fixture
def life(trained, tmp_path, monkeypatch):
    """A live directory whose mid loop is about to learn of a changed body, 60 rounds long."""
    first, data, _ = trained
    brains = Brains(tmp_path / "live")
    brains.promote(brains.add(first), FIRST)
    begin(brains, data)
    monkeypatch.setattr(module, "_adapt", lambda work, plan, threads, log: bool(
        adapt(work, work.path / EPISODES, 60)))
    return brains


def begin(brains: Brains, data) -> None:
    prepare(brains.path, MID, Plan(brains.promoted.brain, 1.0, 10 ** 6, 0.03), Memory(data, 1e9))


def is_refused(brains: Brains, reason: str) -> bool:
    candidate = learn(brains.path)
    return reason in candidate.reason and not candidate.brain and n_brains(brains) == 1


def n_brains(brains: Brains) -> int:
    return len(list((brains.path / "brains").iterdir()))


def test_what_has_learnt_what_was_lived_passes(life):
    candidate = learn(life.path)
    assert not candidate.reason and candidate.brain and n_brains(life) == 2


def test_what_has_learnt_of_shuffled_rewards_is_refused(life, trained, monkeypatch):
    """Where the parent acts well: beside one that does the reverse of what it should, whatever acts
    by chance is better."""
    forget(life.path, MID)
    begin(life, trained[2])

    def poisoned(work, plan, threads, log) -> bool:
        data, path = work.path / EPISODES, work.path / "true"
        shutil.copytree(data, path)
        shuffle_rewards(data)
        adapt(work, data, 60)
        shutil.rmtree(data)
        path.rename(data)
        return True
    monkeypatch.setattr(module, "_adapt", poisoned)
    assert is_refused(life, "it is not better")


def test_weights_that_are_not_finite_are_refused(life, monkeypatch):
    def broken(work, plan, threads, log) -> bool:
        tensors, meta = checkpoint.read(work.checkpoint)[:2]
        tensors["norm_f"][0] = np.nan
        work.save(tensors, meta)
        return True
    monkeypatch.setattr(module, "_adapt", broken)
    assert is_refused(life, "norm_f is not finite")


def test_what_cannot_keep_the_rate_of_the_body_is_refused(life, monkeypatch):
    monkeypatch.setattr(rate, "BRAIN_FRACTION", 1e-6)
    assert is_refused(life, "Hz allows")
