"""A body that has changed, from recorded rewards: the brain practises in a model of it."""
import numpy as np
import pytest

from seed.__main__ import main
from seed.body import dynamics, model_play, open_body
from seed.errors import ConfigError, StopReason
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.training import adapt_body, adapt_to_body, train, undo_adaptation
from seed.training.stop_signals import StopSignals
from tests.support.changed_point import SMALL, Point, Reversed, adapt, brain, recorded


@pytest.fixture(autouse=True)
def bodies(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "point", Point)
    monkeypatch.setitem(open_body.BODIES, "worn", Reversed)
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 300)


def test_the_changed_body_is_learnt_and_all_else_keeps_every_bit(tmp_path):
    run_dir = brain(tmp_path / "run", 60)
    bits = run_dir.checkpoint.read_bytes()
    data = recorded(run_dir, tmp_path / "data")
    result = adapt(run_dir, data, 60)
    (before,), (after,) = result.before.returns, result.after.returns
    assert before.body == after.body == "worn"
    assert before.mean < 2 and after.mean > before.mean + 4   # of 10
    old, new = (checkpoint.read(path) for path in (run_dir.checkpoint_before_adaptation,
                                                   run_dir.checkpoint))
    assert all(np.array_equal(new.tensors[key], array) for key, array in old.tensors.items())
    assert set(new.meta["bodies"]) == {"point", "worn"}
    assert new.meta["bodies"]["point"] == old.meta["bodies"]["point"]
    assert new.meta["bodies"]["worn"]["rate_hz"] == 50
    assert new.meta["profile"] == old.meta["profile"]
    assert adapt(run_dir, data, 60).train is None   # it is in place
    undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == bits


def test_a_body_of_the_same_name_changes_in_its_place_unless_it_gets_another(tmp_path, capsys):
    run_dir = brain(tmp_path / "run", 2)
    data = recorded(run_dir, tmp_path / "data", "point")
    old = checkpoint.read(run_dir.checkpoint).tensors
    assert adapt(run_dir, data).train.finished
    new = checkpoint.read(run_dir.checkpoint).tensors
    changed = {key for key in old if not np.array_equal(old[key], new[key])}
    assert set(new) == set(old)
    assert changed == {f"bodies.point.{table}" for table in ("input", "control", "action", "world")}
    result = adapt(run_dir, data, new_name="crawler")
    assert result.train.finished and not result.after.returns   # it is not the point that is here
    assert result.after.choices[0].body == "crawler"
    assert set(checkpoint.read_meta(run_dir.checkpoint)["bodies"]) == {"point", "crawler"}
    assert np.array_equal(checkpoint.read(run_dir.checkpoint).tensors["bodies.point.input"],
                          new["bodies.point.input"])
    assert main(["play", f"--run-dir={run_dir}", "--episodes=4"]) == 0
    assert "left out: crawler, which cannot be opened here" in capsys.readouterr().err


def test_a_brain_with_a_changed_body_trains_on_and_keeps_it(tmp_path):
    run_dir = brain(tmp_path / "run", 2)
    assert adapt(run_dir, recorded(run_dir, tmp_path / "data")).train.finished
    before = checkpoint.read(run_dir.checkpoint)
    assert brain(tmp_path / "run", 4) == run_dir
    after = checkpoint.read(run_dir.checkpoint)
    assert after.meta["step"] == 4 and after.meta["bodies"]["worn"] == before.meta["bodies"]["worn"]
    assert np.array_equal(after.tensors["bodies.worn.input"], before.tensors["bodies.worn.input"])
    assert not np.array_equal(after.tensors["bodies.point.input"],
                              before.tensors["bodies.point.input"])


def test_stops_and_threads_change_no_bit(tmp_path):
    run_dir = brain(tmp_path / "run", 2)
    data, before = recorded(run_dir, tmp_path / "data"), run_dir.checkpoint.read_bytes()
    assert adapt(run_dir, data, 8, threads=2).train.finished
    whole = run_dir.checkpoint.read_bytes()
    undo_adaptation(run_dir)
    for owner, method, calls in ((dynamics.Dynamics, "_update_outcome", 40),   # fitting the model
                                 (model_play.ModelBodies, "step_all", 70)):    # in the fifth round
        signals, call_fn, n = StopSignals(), getattr(owner, method), [calls]

        def counted(*arguments):
            n[0] -= 1
            if n[0] == 0:
                signals.stop.set()
            return call_fn(*arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, method, counted)
            result = adapt(run_dir, data, 8, signals=signals)
        assert result.train.reason is StopReason.STOPPED
        assert run_dir.checkpoint.read_bytes() == before
    assert adapt(run_dir, data, 8).train.finished
    assert run_dir.checkpoint.read_bytes() == whole


@pytest.mark.parametrize("same_as, bodies, old", [
    ("b", "ab", "b"), ("", ["worn", "point"], "worn"), ("", ["a", "point"], "point"),
    ("", "a", "a"), ("", "ab", "worn, which it lacks"), ("c", "ab", "c, which it lacks")])
def test_the_body_that_has_changed_is_that_of_its_new_or_recorded_name_or_the_only_one(
        same_as, bodies, old):
    source = adapt_body.Source("data", "worn", "point", "", "model")
    if old in bodies:
        assert adapt_body._body_before(source, same_as, bodies) == old
        return
    with pytest.raises(ConfigError, match=f"has no body {old[0]}"):
        adapt_body._body_before(source, same_as, bodies)


def test_a_body_in_training_is_not_replaced_by_a_changed_one(tmp_path):
    run_dir = brain(tmp_path / "run", 1, "body.rounds={point = 1, worn = 1}")
    bits = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="trained on a body worn, which was no point: give the"):
        adapt(run_dir, recorded(run_dir, tmp_path / "data"), same_as="point")
    assert run_dir.checkpoint.read_bytes() == bits


def test_another_name_without_rewards_is_refused(tmp_path):
    run_dir = brain(tmp_path / "run", 1)
    for name, message in (("crawler", "--as crawler: only recorded rewards"),
                          ("a\nb", r"--as a\\nb is no name of a body"),
                          ("x" * 201, "is no name of a body")):
        with pytest.raises(ConfigError, match=message):
            adapt_to_body(run_dir, body="worn", new_name=name, signals=StopSignals(),
                          log=lambda line: None, steps=1)


def test_a_brain_learns_from_nothing_in_a_model_of_recorded_episodes(tmp_path):
    data = recorded(brain(tmp_path / "first", 1), tmp_path / "data")
    result = train(load_profile("control", [
        *SMALL, f'body.data={{"{data}" = 1}}', 'body.data_goal="model"', "train.steps=60"]),
        RunDir(tmp_path / "run"), 1, lambda line: None)
    assert result.returns[0].mean > 5   # of 10; about 2 at random


def test_an_adaptation_follows_the_report_that_is_named_and_no_other(tmp_path):
    run_dir = brain(tmp_path / "run", 2)
    data, report = recorded(run_dir, tmp_path / "data"), tmp_path / "report.json"
    named = [f"governor.report_file={report}", "governor.report_max_age_s=86400"]
    report.write_text('{"level": "stop", "reason": "shut down"}')
    stopped = adapt(run_dir, data, overrides=named)
    assert stopped.train.reason is StopReason.OUT_OF_MEMORY and stopped.train.step == 0
    report.write_text('{"level": "ok"}')
    resumed = adapt(run_dir, data, overrides=named)   # in the same directory: the same recipe
    assert resumed.train.finished and adapt(run_dir, data).train is None
    meta = checkpoint.read_meta(run_dir.checkpoint)
    assert "report_file" not in meta["profile"]["governor"]   # and it is not the brain's now
    report.write_text('{"level": "stop"}')
    stored = checkpoint.read(run_dir.checkpoint)
    stored.meta["profile"]["governor"] |= {"report_file": str(report)}
    run_dir.save(stored.tensors, stored.meta)
    assert adapt(run_dir, data, 2).train.finished   # only the brain names it
