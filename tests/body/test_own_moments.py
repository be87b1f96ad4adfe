"""Bodies and the curriculum that learn in turn: moments of their own, and the value comes first."""
import numpy as np
import pytest

from seed.body import open_body, round as rounds
from seed.body.tensor_names import is_moment
from seed.storage import RunDir, checkpoint
from tests.support.simple_bodies import Target
from tests.support.small_body_runs import run


@pytest.fixture(autouse=True)
def target(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "target", Target)


def test_what_learns_in_turn_has_moments_of_its_own(tmp_path, monkeypatch):
    """Those of a play change in its rounds alone, those of the curriculum in its steps alone."""
    monkeypatch.setitem(open_body.BODIES, "other", Target)
    saved = []
    for n in (3, 4, 5, 6):   # a cycle: other, target, a step of the curriculum
        run(tmp_path / "run", n, "body.rounds={other = 1, target = 1}", "body.curriculum_steps=1")
        saved.append(checkpoint.read(RunDir(tmp_path / "run").checkpoint).tensors)
    owners = {"other": "play.other.m", "target": "play.target.m", "": "m.layers.0.mixer.in_proj"}
    for then, now, learns in zip(saved, saved[1:], owners):
        assert {owner for owner, key in owners.items()
                if not np.array_equal(then[key], now[key])} == {learns}
    run(tmp_path / "alone", 1, "body.rounds={target = 1}")
    assert not any(key.startswith("play.target.m")
                   for key in checkpoint.read(RunDir(tmp_path / "alone").checkpoint).tensors)


def test_a_run_from_before_bodies_had_moments_of_their_own_resumes(tmp_path):
    overrides = ["body.curriculum_steps=1"]
    run(tmp_path / "run", 2, *overrides)
    newest = checkpoint.read(RunDir(tmp_path / "run").checkpoint)
    for path in (tmp_path / "run").glob("checkpoint*"):
        path.unlink()
    with RunDir(tmp_path / "run").locked() as run_dir:
        run_dir.save({key: array for key, array in newest.tensors.items()
                      if not is_moment(key)}, newest.meta)
    assert run(tmp_path / "run", 4, *overrides).finished


@pytest.mark.parametrize("overrides, etas", [
    (["body.rounds={target = 2}", "body.curriculum_steps=1"], [0, 1, 0, 1]),
    (["body.rounds={target = 2}"], [1, 1, 1, 1, 1, 1]),
    (["body.rounds={target = 1}", "body.curriculum_steps=2"], [1, 1]),
    (["body.rounds={target = 2}", "body.curriculum_steps=1", "body.value_rounds=1"], [0, 1, 1, 1]),
])
def test_in_the_first_of_several_rounds_in_a_turn_the_policy_stays(tmp_path, monkeypatch, overrides,
                                                                   etas):
    seen, targets = [], rounds.control_targets

    def recorded(codec, played, values, discount, eta):
        seen.append(eta)
        return targets(codec, played, values, discount, eta)
    monkeypatch.setattr(rounds, "control_targets", recorded)
    run(tmp_path / "run", 6, *overrides)
    assert seen == etas
