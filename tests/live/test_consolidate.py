"""The slow loop: real trainings of a few steps, on the copy of a brain that acts."""
import shutil
from functools import partial

import numpy as np
import pytest

from seed.body import dynamics, open_body
from seed.config import from_dict
from seed.curriculum.task import Item
from seed.errors import StopReason
from seed.live import consolidate as module
from seed.live.brains import FIRST, Brains
from seed.live.learn import BASE, SLOW, Plan, forget, has_begun, prepare, work_of
from seed.live.lived import Memory
from seed.live.plane import carried
from seed.storage import RunDir, checkpoint, replay
from seed.training import adapt_to_body, pipeline
from seed.training.adapt_body import BodyAdaptResult
from seed.training.loop import TrainResult
from tests.support.changed_point import Point, Reversed, adapt, brain, recorded


def add(brains: Brains, source: RunDir, exported) -> str:
    source.exported_brain.write_bytes(exported.read_bytes())
    return brains.add(source)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A brain, one that the mid loop has adapted, and the episodes of the body."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_body.BODIES, "point", Point)
        patch.setitem(open_body.BODIES, "worn", Reversed)
        patch.setattr(dynamics, "FIT_TICKS", 64 * 20)
        folder = tmp_path_factory.mktemp("trained")
        first = brain(folder / "first", 4, "body.curriculum_steps=1", 'teacher.kind="mock"',
                      "teacher.tasks={copy = 1.0}")
        data = recorded(first, folder / "data", "point")
        shutil.copytree(first.path, folder / "second")
        adapt(RunDir(folder / "second"), data, 4)
        yield first, RunDir(folder / "second"), data


@pytest.fixture
def lived(trained, tmp_path, monkeypatch, brains):
    """The brains of a live directory, of which the first acts; trainings have a few steps."""
    *runs, data = trained
    stored = Brains(tmp_path / "live")
    names = [add(stored, run_dir, file) for run_dir, file in zip(runs, (brains.first,
                                                                        brains.second))]
    stored.promote(names[0], FIRST)
    monkeypatch.setattr(module, "adapt_to_body", lambda run_dir, minutes, **options: adapt_to_body(
        run_dir, steps=4, minutes=0.0, **options))
    return stored, names, data, tmp_path / "live"


def begin(lived, **plan) -> tuple:
    stored, (first, _), data, live_dir = lived
    prepare(live_dir, SLOW, Plan(first, 1.0, 10 ** 6, 0.03, **plan), Memory(data, 1e9))
    return work_of(live_dir, SLOW), Plan(first, 1.0, 10 ** 6, 0.03, **plan)


def test_what_a_brain_was_taught_goes_with_its_copies(lived, tmp_path):
    stored, (first, _), *_ = lived
    source = RunDir(tmp_path / "source")
    source.path.mkdir()
    newest = checkpoint.read(stored.run_dir(first).checkpoint)
    digest = replay.write(source, {"a.jsonl": [Item("a", 1, b"1?", b"x")]})
    source.save(newest.tensors, {**newest.meta, replay.KEY: digest})
    source.exported_brain.write_bytes(stored.file(first).read_bytes())
    assert stored.add(source) == first
    work, _ = begin(lived)
    _, new = carried(work, stored, SLOW, print)
    for run_dir in (stored.run_dir(first), work, new):
        meta = checkpoint.read_meta(run_dir.checkpoint)
        assert replay.Replay.read(run_dir, meta, pytest.fail).rules


def test_all_weights_learn_and_what_the_mid_loop_has_learnt_meanwhile_is_carried_over(lived):
    stored, (first, second), _, live_dir = lived
    work, plan = begin(lived)
    run = partial(module.consolidate, work, stored, plan, 1, lambda line: None)
    candidate, new = run()
    assert (candidate.parent, candidate.loop, candidate.plane, new) == (first, SLOW, "", work)
    base, trained = (checkpoint.read(path).tensors for path in (work.path / BASE, new.checkpoint))
    changed = {key.split(".")[0] for key in base if not np.array_equal(base[key], trained[key])}
    assert {"layers", "bodies", "embedding"} <= changed   # the curriculum learns too
    stored.promote(second)
    candidate, new = run()   # the training is in place already
    assert candidate.parent == second and candidate.plane.endswith("is carried over")
    acting = checkpoint.read(stored.run_dir(second).checkpoint).tensors
    carried, key = checkpoint.read(new.checkpoint).tensors, "bodies.point.input"
    np.testing.assert_allclose(carried[key], trained[key] + acting[key] - base[key], atol=1e-6)
    assert np.array_equal(checkpoint.read(work.checkpoint).tensors[key], trained[key])


def test_no_teacher_is_asked(lived, monkeypatch):
    """One that does not answer holds up no life."""
    asked = []
    monkeypatch.setattr(pipeline, "open_teacher",
                        lambda profile, *_: asked.append(profile.teacher.kind))
    stored, *_ = lived
    work, plan = begin(lived)
    assert from_dict(checkpoint.read_meta(work.checkpoint)["profile"]).teacher.kind == "mock"
    module.consolidate(work, stored, plan, 1, lambda line: None)
    assert asked == [""]


def test_it_grows_once_before_it_learns(lived):
    stored, *_ = lived
    work, plan = begin(lived, grow_to="control")
    for _ in range(2):
        module.consolidate(work, stored, plan, 1, lambda line: None)
        model = from_dict(checkpoint.read_meta(work.checkpoint)["profile"]).model
        assert (model.d_model, model.n_layers, model.d_ff) == (64, 3, 128)
    assert from_dict(checkpoint.read_meta(work.path / BASE)["profile"]).model.d_model == 32


def test_one_that_was_stopped_continues_with_what_it_began_with(lived, monkeypatch):
    stored, (first, second), data, live_dir = lived
    work, plan = begin(lived)
    monkeypatch.setattr(module, "adapt_to_body", lambda run_dir, **options: BodyAdaptResult(
        TrainResult(1, StopReason.STOPPED)))
    candidate, _ = module.consolidate(work, stored, plan, 1, print)
    assert not candidate.is_finished and has_begun(live_dir, SLOW)
    (work.path / "adapting").mkdir()
    prepare(live_dir, SLOW, plan._replace(parent=second), Memory(data, 1e9))
    assert (work.path / "adapting").exists()   # though another brain acts now
    forget(live_dir, SLOW)
    prepare(live_dir, SLOW, plan._replace(parent=second), Memory(data, 1e9))
    assert not (work.path / "adapting").exists()
