"""A brain that was trained on in the run directory, beside the one that acts."""
import shutil

import numpy as np
import pytest

from seed.body import dynamics, open_body
from seed.live import gate
from seed.live.brains import FIRST, Brains
from seed.live.learn import RENEWED, Plan, learn, prepare
from seed.live.lived import Memory
from seed.storage import RunDir, checkpoint
from tests.support.changed_point import Point, Reversed, adapt, brain, export, recorded


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A brain that has learnt little, the same after more rounds, what the first has lived, what it
    has learnt of that, and a brain of another body."""
    with pytest.MonkeyPatch.context() as patch:
        for name, body in (("point", Point), ("other", Reversed)):
            patch.setitem(open_body.BODIES, name, body)
        patch.setattr(dynamics, "FIT_TICKS", 64 * 300)
        folder = tmp_path_factory.mktemp("trained")
        first, newer = brain(folder / "first", 2), brain(folder / "newer", 60)
        data = recorded(first, folder / "data", "point", Point)
        shutil.copytree(first.path, folder / "adapted")
        adapt(RunDir(folder / "adapted"), data, 2)
        yield first, newer, RunDir(folder / "adapted"), data, brain(
            folder / "other", 2, "body.rounds={other = 1}")


def renewed(base: RunDir, acting: RunDir, newer: RunDir, data, live_dir):
    """What a learner makes of it."""
    brains = Brains(live_dir)
    brains.promote(brains.add(export(acting)), FIRST)
    brains.rest_on(base.checkpoint)
    assert brains.is_renewed(newer) and not brains.is_renewed(base)
    for _ in range(2):   # always with the newest episodes
        prepare(live_dir, RENEWED, Plan(brains.promoted.brain, 1.0, 10 ** 6, 0.03, base=str(
            newer.checkpoint)), Memory(data, 1e9))
    return learn(live_dir, RENEWED), brains


def test_one_that_is_better_passes(trained, tmp_path):
    first, newer, _, data, _ = trained
    candidate, brains = renewed(first, first, newer, data, tmp_path / "live")
    assert not candidate.reason and candidate.loop == RENEWED
    assert candidate.plane == "what was learnt of point is carried over"
    tables = [checkpoint.read(path).tensors["bodies.point.input"] for path in (
        newer.checkpoint, brains.run_dir(candidate.brain).checkpoint)]
    assert np.array_equal(*tables)   # as nothing had been learnt


def test_what_was_learnt_is_added_and_one_that_is_worse_is_refused(trained, tmp_path):
    first, newer, adapted, data, _ = trained
    lived = recorded(newer, tmp_path / "data", "point", Point)
    candidate, brains = renewed(newer, newer, first, lived, tmp_path / "worse")
    assert "falls from" in candidate.reason and not candidate.brain
    _, brains = renewed(first, adapted, newer, data, tmp_path / "live")
    base, acting, last, made = (checkpoint.read(path).tensors["bodies.point.input"] for path in (
        first.checkpoint, adapted.checkpoint, newer.checkpoint,
        tmp_path / "live" / "renewal" / "carried" / "checkpoint.safetensors"))
    np.testing.assert_allclose(made, last + acting - base, atol=1e-6)
    assert not np.array_equal(acting, base)


def test_one_that_is_as_good_passes(trained, tmp_path, monkeypatch):
    first, newer, _, data, _ = trained
    monkeypatch.setattr(gate, "has_gained", lambda row: False)
    candidate, _ = renewed(first, first, newer, data, tmp_path / "live")
    assert not candidate.reason and candidate.brain


def test_one_that_does_not_know_the_body_is_refused(trained, tmp_path):
    first, _, _, data, other = trained
    candidate, _ = renewed(first, first, other, data, tmp_path / "live")
    assert candidate.reason == "it does not know point"
    assert "is dropped: a brain does not know it" in candidate.plane
