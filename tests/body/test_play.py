"""A brain learns to act, and its bits depend on neither threads nor interruptions."""
import numpy as np
import pytest

from seed.body import facts, open_body
from seed.body.play import BodyPlay
from seed.body.player import Player
from seed.body.results import Returns, returns_table
from seed.evaluation import TrainedBrain
from seed.errors import ConfigError, SeedError, StopReason
from seed.resize import grow_brain, shrink_brain, train_growing
from seed.storage import RunDir, checkpoint
from seed.training.stop_signals import StopSignals
from seed.wavecore import fast
from seed.wavecore.tinygrad_seam import CapturedGraph
from tests.support.counting_learner import metric_rows
from tests.support.simple_bodies import Forgetful, Target
from tests.support.small_body_runs import (assert_threads_and_stops_change_no_bit, profile,
                                           run)


@pytest.fixture(autouse=True)
def target(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "target", Target)
    monkeypatch.setitem(open_body.BODIES, "forgetful", Forgetful)


def test_a_brain_learns_what_is_rewarded(tmp_path):
    result = run(tmp_path / "run", 40)
    returns, = result.returns
    assert result.finished and not result.scores
    assert returns.mean > 8 and returns.episodes >= 100   # of 10; 5 by chance
    rounds = metric_rows(tmp_path / "run", "body")
    assert [row["round"] for row in rounds] == list(range(40))
    assert rounds[-1]["mean_return"] > 8 > 7 > rounds[3]["mean_return"]


@pytest.mark.parametrize("overrides", [[], ["body.curriculum_steps=1", "train.batch_size=4"]])
def test_threads_and_stops_change_no_bit(tmp_path, overrides):
    assert_threads_and_stops_change_no_bit(tmp_path, *overrides)


def test_a_round_has_a_limit_of_its_own_to_the_rate(tmp_path):
    run(tmp_path / "run", 4, "body.curriculum_steps=1", "train.lr=0.008", "body.max_lr=0.001",
        "train.warmup_steps=0", "train.decay_fraction=0.0")
    rates = [row["lr"] for row in metric_rows(tmp_path / "run", "step")]
    assert rates == [0.001, 0.008, 0.001, 0.008]


def test_a_body_hears_the_text_of_the_curriculum(tmp_path, monkeypatch):
    """While the rate decays; a row of each body, in the last steps of a cycle. All others go on as
    they were."""
    calls, hearing = [], BodyPlay.hearing

    def recorded(play: BodyPlay, rows, remembers):
        before, heard = play._state(), hearing(play, rows, remembers)

        def take(after) -> None:
            heard.take_fn(after)
            changed = {row for a, b in zip(before, play._state()) for row in range(len(a))
                       if not np.array_equal(a[row], b[row])}
            calls.append((play.name, [*rows], remembers, changed))
        return heard._replace(take_fn=take)
    monkeypatch.setattr(BodyPlay, "hearing", recorded)
    monkeypatch.setitem(open_body.BODIES, "other", Target)
    run(tmp_path / "run", 10, "body.rounds={other = 1, target = 1}", "body.curriculum_steps=3",
        "train.batch_size=8", "train.decay_fraction=0.8")
    assert calls == [(name, [step * 2 % 4, step * 2 % 4 + 1], remembers,
                      {step * 2 % 4, step * 2 % 4 + 1} if remembers else set())
                     for step, name, remembers in [
                         (2, "other", False), (3, "target", True), (4, "other", True),
                         (7, "other", False), (8, "target", True), (9, "other", True)]]


def test_a_value_that_widens_is_resumed_with_its_range(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "LASTING", [40, 41])   # percentiles of rewards 0 and 1: 0
    run(tmp_path / "whole", 6)
    for stop_at in (1, 3):
        signals = StopSignals()
        run(tmp_path / "parts", 6, signals=signals,
            early_stop_fn=lambda step, *_: step == stop_at and signals.stop.set())
    run(tmp_path / "parts", 6)
    whole, parts = (RunDir(tmp_path / name).checkpoint for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    low, high = checkpoint.read_meta(whole)["bodies"]["target"]["returns"]
    assert low == 0 and high > 2   # it began with 1


def test_a_stop_in_the_middle_of_a_round_loses_nothing_and_counts_nothing(tmp_path, monkeypatch):
    run(tmp_path / "whole", 4)
    signals, calls = StopSignals(), []

    class Stopping(Target):
        def step(self, action):
            calls.append(0)
            if len(calls) == 4 * 16 * 2 + 7:   # in the third round, after measuring
                signals.stop.set()
            return super().step(action)
    run(tmp_path / "parts", 1)
    monkeypatch.setitem(open_body.BODIES, "target", Stopping)
    result = run(tmp_path / "parts", 4, signals=signals)
    assert result.reason is StopReason.STOPPED and 1 <= result.step < 4
    assert run(tmp_path / "parts", 4).finished
    whole, parts = (RunDir(tmp_path / name).checkpoint.read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_brain_with_a_body_and_the_curriculum_is_evaluated_in_both(tmp_path):
    result = run(tmp_path / "run", 2, "body.curriculum_steps=1")
    assert [score.task for score in result.scores][:1] == ["copy"] and len(result.returns) == 1


def test_what_a_round_is_stays_as_it_began(tmp_path):
    run(tmp_path / "run", 1)
    meta = checkpoint.read_meta(RunDir(tmp_path / "run").checkpoint)
    assert meta["bodies"]["target"]["codec"]["name"] == "target"
    with pytest.raises(ConfigError, match="body.rows is 8, but this run began with 4"):
        run(tmp_path / "run", 2, "body.rows=8")


@pytest.mark.parametrize("damage", [
    {"episodes": []}, {"episodes": [{"episode": 0, "choices": "?"}] * 4},
    {"episodes": [{"episode": -1, "choices": ""}] * 4}, {"episodes": None}, {"recent": ["x"]},
    {"episodes": [{"episode": 0, "choices": "Cgo="}] * 4}, {"codec": {}}, {"returns": [1, 1]},
    {"returns": ["a", 2]}, {"rate_hz": 0}, {"rate_hz": "50"}, {"rate_hz": 1e9}])
def test_a_damaged_record_of_a_body_is_one_line(tmp_path, damage):
    run(tmp_path / "run", 1)
    run_dir = RunDir(tmp_path / "run")
    saved = checkpoint.read(run_dir.checkpoint)
    saved.meta["bodies"]["target"] |= damage
    run_dir.save(saved.tensors, saved.meta, keep_newest=False)
    with pytest.raises(SeedError, match="damaged|does not do the same again"):
        run(tmp_path / "run", 2)


def test_only_a_brain_without_a_body_is_shrunk_or_trained_while_it_grows(tmp_path):
    run(tmp_path / "run", 1)
    calls = (lambda: shrink_brain(RunDir(tmp_path / "run"), RunDir(tmp_path / "child"), profile(1)),
             lambda: train_growing(profile(1), RunDir(tmp_path / "new")),
             lambda: train_growing(profile(1, "body.rounds={}"), RunDir(tmp_path / "run")))
    for call in calls:
        with pytest.raises(ConfigError, match="acts in target"):
            call()


def acting_of(folder) -> np.ndarray:
    """Logits of a few ticks, one after the other."""
    brain = TrainedBrain.load(RunDir(folder), 1)
    player = Player(brain.model, brain.bodies["target"].codec, 1)
    levels = np.arange(0, 256, 50)[:, None, None]
    return np.array([player.tick(*player.codec.encode(row, np.zeros((1, 1), int)))
                     for row in levels])


def test_a_brain_that_acts_grows_and_acts_as_before(tmp_path):
    run(tmp_path / "run", 4)
    before = acting_of(tmp_path / "run")
    wide = ["model.d_model=64", "model.d_ff=64", "model.n_layers=3"]
    counts = grow_brain(RunDir(tmp_path / "run"), profile(6, *wide))
    assert counts.after > 2 * counts.before
    assert np.abs(acting_of(tmp_path / "run") - before).max() < 1e-4 < np.ptp(before)
    assert run(tmp_path / "run", 8, *wide).finished
    assert np.abs(acting_of(tmp_path / "run") - before).max() > 1e-2
    tables = checkpoint.read(RunDir(tmp_path / "run").checkpoint).tensors
    assert all(tables[f"bodies.target.{name}"][:, 32:].any() for name in ("input", "control"))


def test_a_body_is_added_to_a_brain_and_left_out_again(tmp_path, monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "other", Target)
    saved = []
    for n, bodies in ((2, {}), (8, {"target": 1, "other": 1}), (10, {}), (13, {"other": 1})):
        rounds = ", ".join(f"{name} = 1" for name in bodies)
        run(tmp_path / "run", n, f"body.rounds={{{rounds}}}", "body.curriculum_steps=1")
        saved.append(checkpoint.read(RunDir(tmp_path / "run").checkpoint))
    first, both, curriculum_again, other = saved
    assert not first.meta.get("bodies") and "bodies.target.input" not in first.tensors
    assert all({*brain.meta["bodies"]} == {"target", "other"} for brain in saved[1:])
    assert not any(key.startswith("play.") for key in curriculum_again.tensors)
    assert any(key.startswith("play.other.") for key in other.tensors)
    for key in (key for key in both.tensors if key.startswith("bodies.")):
        table, then, later = (brain.tensors[key] for brain in (both, curriculum_again, other))
        assert np.array_equal(table, then), key
        assert np.array_equal(table, later) != (".other." in key), key
    layer = "layers.0.mixer.in_proj"
    assert (both.tensors[layer] != curriculum_again.tensors[layer]).any()


def test_each_graph_of_training_and_acting_is_replayed_launch_by_launch(tmp_path, monkeypatch):
    """Not one falls back to tinygrad's interpreter, as it did for a table made while capturing."""
    graphs, init, call = [], CapturedGraph.__init__, CapturedGraph.__call__
    fast.kernels_of.cache_clear()

    def recorded_init(graph: CapturedGraph, *arguments):
        graphs.append(graph)
        graph.calls = 0
        init(graph, *arguments)

    def counted_call(graph: CapturedGraph):
        graph.calls += 1
        return call(graph)
    monkeypatch.setattr(CapturedGraph, "__init__", recorded_init)
    monkeypatch.setattr(CapturedGraph, "__call__", counted_call)
    assert run(tmp_path / "run", 8, "body.curriculum_steps=1").finished
    repeated = [graph for graph in graphs if graph.calls > 2]
    assert len(repeated) >= 3 and all(graph.is_replayed for graph in repeated)


def test_a_return_between_0_and_1_is_shown_with_three_decimals():
    table = returns_table([Returns("lake", 100, 0.3137, 0.09, 0.0, 0.31),
                           Returns("pole", 100, 499.96, 0.0, 12.0, None)])
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["lake", "0.314", "0.224", "to", "0.404", "0.000", "31", "100"],
        ["pole", "500.0", "500.0", "to", "500.0", "12.0", "100"]]
