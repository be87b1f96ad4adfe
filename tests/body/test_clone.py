"""Behaviour cloning from recorded episodes, with the same guarantees as every training."""
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from seed.__main__ import main
from seed.body import clone, open_body
from seed.body.clone import ClonePlay
from seed.body.episodes import EpisodeFolder
from seed.body.facts import Facts
from seed.body.player import Player
from seed.body.stored import load
from seed.config import BodyConfig, ModelConfig
from seed.errors import ConfigError, StopReason
from seed.evaluation import TrainedBrain
from seed.export.verify_acting import ActingReport, verify_acting
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.training import pipeline, train
from seed.training.memory_estimate import estimate_mb
from seed.training.stop_signals import StopSignals
from seed.wavecore.actor import init_body
from seed.wavecore.layout import VALUE_LEVELS, WORLD_LEVELS
from seed.wavecore.model import WaveCore, init_params
from tests.support.acting_brains import untrained
from tests.support.hostile_bodies import hostile
from tests.support.recorded import drawn, recorded, steps_of, write
from tests.support.simple_bodies import Target

SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", "model.pattern=\"SA\"",
         "model.sliding_window=4", "train.minutes=0", "body.rows=4", "body.ticks=16",
         "body.chunk=8", "train.batch_size=2", "train.seq_len=32", "curriculum.holdout_items=1",
         "curriculum.eval_every_steps=0", "curriculum.tasks={copy = 1.0}"]


@pytest.fixture
def target(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "target", Target)


def run(folder, data, steps: int, *overrides: str, threads: int = 1, **options):
    profile = load_profile("control", [*SMALL, f"body.data={{{json.dumps(str(data))} = 1}}",
                                       f"train.steps={steps}", *overrides])
    return train(profile, RunDir(folder), threads, lambda line: None, **options)


def play_of(data, n_rows: int = 3, ticks: int = 4) -> ClonePlay:
    stored = load(EpisodeFolder(data), None, 0.9)
    config = ModelConfig(d_model=32, n_layers=1, d_ff=16)
    body = stored.codec.body
    params = {**init_params(config, 0), **init_body(config, body, 0)}
    return ClonePlay(WaveCore(config, params, 1, bodies=[body]), None, "data", stored,
                     Facts(stored.codec, stored.values), BodyConfig(rows=n_rows, ticks=ticks), 0)


def test_a_brain_does_what_was_recorded(tmp_path, target):
    result = run(tmp_path / "run", recorded(tmp_path / "data", 40), 60)
    assert result.finished and not result.scores
    (returns,), (choices,) = result.returns, result.choices
    assert returns.mean > 8 and returns.episodes >= 100   # of 10; 5 by chance
    assert choices.accuracy > 0.85 and choices.ticks == 50


def test_of_choices_at_random_those_that_paid_are_learnt(tmp_path, target):
    """Cloning them all would return 5 of 10."""
    data = drawn(tmp_path / "data", 60)
    result = run(tmp_path / "run", data, 40, "body.data_goal=\"rewards\"", "body.value_rounds=4")
    (returns,), (choices,) = result.returns, result.choices
    assert returns.mean > 8 and 0.3 < choices.accuracy < 0.7


def test_without_the_body_held_out_choices_are_reported(tmp_path):
    result = run(tmp_path / "run", recorded(tmp_path / "data", 3), 2)
    assert not result.returns and 0 <= result.choices[0].accuracy <= 1
    assert result.choices[0].ticks == 10 and result.choices[0].data == str(tmp_path / "data")


@pytest.mark.parametrize("overrides", [(), (
    "body.curriculum_steps=1", "body.rounds={target = 1}", "body.passes=1",
    "body.data_goal=\"rewards\"", "body.value_rounds=1")])
def test_threads_and_stops_change_no_bit(tmp_path, target, overrides):
    data = recorded(tmp_path / "data")
    run(tmp_path / "whole", data, 7, *overrides, threads=2)
    for stop_at in (1, 2):   # before the rate decays
        signals = StopSignals()
        result = run(tmp_path / "parts", data, 7, *overrides, signals=signals,
                     early_stop_fn=lambda step, *_: step == stop_at and signals.stop.set())
        assert (result.reason, result.step) == (StopReason.STOPPED, stop_at)
    assert run(tmp_path / "parts", data, 7, *overrides).finished
    whole, parts = (RunDir(tmp_path / name).checkpoint.read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_resumed_run_refuses_other_data(tmp_path):
    data = recorded(tmp_path / "data")
    run(tmp_path / "run", data, 1)
    meta = checkpoint.read_meta(RunDir(tmp_path / "run").checkpoint)
    assert list(meta["bodies"]["target"]["data"]) == [str(data)]
    recorded(data, seed=1)
    with pytest.raises(ConfigError, match="data has other episodes than this run began with"):
        run(tmp_path / "run", data, 2)
    with pytest.raises(ConfigError, match="body.data is .*, but this run began with"):
        run(tmp_path / "run", recorded(tmp_path / "elsewhere"), 2)


def test_the_bodies_of_a_run_may_be_played_and_cloned_at_once(tmp_path, target):
    result = run(tmp_path / "run", recorded(tmp_path / "data"), 4, "body.rounds={target = 1}")
    assert len(result.returns) == len(result.choices) == 1
    meta = checkpoint.read_meta(RunDir(tmp_path / "run").checkpoint)["bodies"]
    assert list(meta) == ["target"] and {"data", "episodes", "codec"} <= set(meta["target"])


def test_each_row_sees_every_tick_once_an_epoch_and_begins_empty_where_a_segment_begins(tmp_path):
    rng = np.random.default_rng(0)
    play = play_of(write(tmp_path / "data", [row for n in (7, 30, 90, 3, 9, 50, 21)
                                             for row in steps_of(rng, n)]))
    n_rounds = int(play._sizes.sum())
    for epoch in (0, 2):
        rounds = [play.ticks(epoch * n_rounds + i) for i in range(n_rounds)]
        for row in range(3):
            seen = np.concatenate([index[counts[:, row], row] for index, counts, _ in rounds])
            assert sorted(seen) == play._train.tolist()
        assert any(begins.any() and not begins.all() for *_, begins in rounds)
    orders = [[tuple(index[:, row]) for index, *_ in rounds] for row in range(3)]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("overrides, is_told", [
    ((), False), (("body.rounds={target = 1}",), True), (('body.data_goal="rewards"',), True)])
def test_a_body_that_is_only_cloned_is_not_told_its_last_action(tmp_path, target, overrides,
                                                                is_told):
    run(tmp_path / "run", recorded(tmp_path / "data"), 3, *overrides)
    brain = TrainedBrain.load(RunDir(tmp_path / "run"), 1, lambda line: None)
    codec = brain.bodies["target"].codec
    tick = codec.encode(np.array([[90], [90]]), np.array([[0], [1]]))
    first, second = Player(brain.model, codec, 2).tick(*tick)
    assert np.array_equal(first, second) != is_told


def test_the_ticks_of_a_round_are_a_function_of_its_number_alone(tmp_path):
    first, second = (play_of(recorded(tmp_path / "data")) for _ in range(2))
    for number in (5, 90, 5):
        expected = second.ticks(number)
        assert all(map(np.array_equal, first.ticks(number), expected))
        second.ticks(3 * number)


def test_targets_are_the_choice_the_return_and_the_next_observation(tmp_path):
    play = play_of(recorded(tmp_path / "data", 9, 50), ticks=8)
    examples = play.play(0, bool)
    index, counts, _ = play.ticks(0)
    assert counts.all() and np.array_equal(examples.control.policy.argmax(-1),
                                           examples.choices[..., 0])
    assert np.allclose(examples.control.policy.max(-1), 0.99)
    value = examples.control.targets[..., 0] + examples.control.fractions[..., 0]
    returns = np.interp(value, np.arange(VALUE_LEVELS), play.facts.values.returns)
    assert np.allclose(returns, play.data.returns[index], atol=1e-4)
    levels = (examples.world.targets + examples.world.fractions)[:-1, :, 0]
    assert np.allclose(levels * 255 / (WORLD_LEVELS - 1), play.data.levels[index[1:], 0], atol=0.01)
    assert np.isclose(examples.control.weights[..., 1].sum(), 1)


def test_the_state_is_carried_from_round_to_round_but_into_a_new_segment(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    play = play_of(write(tmp_path / "data", [row for n in (9, 30, 90, 50)
                                             for row in steps_of(rng, n)]))
    play.optim = SimpleNamespace(grad_norm=lambda: 0.0)
    play._step = SimpleNamespace(state=lambda: [np.ones_like(array) for array in play._state])
    monkeypatch.setattr(clone, "take_steps", lambda *_: (0.0, False))
    number = next(i for i in range(1, 99) if 0 < play.ticks(i)[2].sum() < 3)
    assert not any(array.any() for array in play._state)
    play.learn(play.play(number - 1, bool), 1e-3)
    begins = play.ticks(number)[2]
    for array in play.play(number, bool).state:
        assert not array[begins].any() and (array[~begins] == 1).all()


def test_a_robot_may_have_the_name_of_another_body(tmp_path):
    """It is not measured in that, when it is trained, exported or played."""
    data = write(tmp_path / "data", steps_of(np.random.default_rng(0), 90), body="pendulum")
    result = run(tmp_path / "run", data, 1)
    assert result.finished and not result.returns and result.choices[0].body == "pendulum"
    trained = TrainedBrain.load(RunDir(tmp_path / "run"), 1)
    assert verify_acting(None, trained) == [ActingReport("pendulum")]


def test_one_episode_alone_has_a_holdout(tmp_path):
    play = play_of(recorded(tmp_path / "data", 1, 400))
    assert (len(play._train), len(play._held_out)) == (350, 50)
    assert sum(segment.begins_inside for segment in play._segments) == 5


def test_memory_counts_the_episodes(tmp_path):
    data = recorded(tmp_path / "data", 2000)
    profile = load_profile("control", [f"body.data={{{json.dumps(str(data))} = 1}}"])
    size_mb = (data / "episodes-0.jsonl").stat().st_size / 2 ** 20
    assert estimate_mb(profile, 1)["episodes"] == pytest.approx(size_mb / 2)


def test_episodes_that_only_a_brain_names_are_not_read(tmp_path, capsys):
    data = recorded(tmp_path / "data")
    run(tmp_path / "run", data, 1)
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--steps", "2"]) == 2
    assert f"say --data {data}" in capsys.readouterr().err
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--steps", "2", "--json",
                 "--data", str(data)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["step"] == 2 and result["choices"][0]["body"] == "target"


def test_episodes_of_another_rate_are_refused(tmp_path, monkeypatch):
    target = type("Target", (Target,), {"rate_hz": 50})
    monkeypatch.setitem(open_body.BODIES, "target", target)
    run(tmp_path / "run", recorded(tmp_path / "data"), 1)   # at 10 Hz, with or without the body
    facts = checkpoint.read_meta(RunDir(tmp_path / "run").checkpoint)["bodies"]["target"]
    assert facts["rate_hz"] == 10.0
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "both", tmp_path / "data", 1, "body.rounds={target = 1}")
    assert str(caught.value) == (f"{tmp_path}/data was recorded at 10 Hz, and target acts at 50 Hz:"
                                 f" record it at that rate")
    for rate_hz in (50.2, None):   # about the same; unknown
        write(tmp_path / "data", steps_of(np.random.default_rng(0), 90), rate_hz=rate_hz)
        assert run(tmp_path / f"{rate_hz}", tmp_path / "data", 1, "body.rounds={target = 1}")
        facts = checkpoint.read_meta(RunDir(tmp_path / f"{rate_hz}").checkpoint)["bodies"]["target"]
        assert facts["rate_hz"] == 50.0


def test_a_run_that_has_begun_with_episodes_of_another_rate_is_resumed(tmp_path, monkeypatch):
    data = recorded(tmp_path / "data")
    monkeypatch.setitem(open_body.BODIES, "target", type("Target", (Target,), {"rate_hz": 50}))
    with monkeypatch.context() as patch:   # as before there were rates
        patch.setattr(pipeline, "is_same_rate", lambda *rates: True)
        run(tmp_path / "run", data, 1, "body.rounds={target = 1}")
    assert run(tmp_path / "run", data, 2, "body.rounds={target = 1}").step == 2


def test_play_records_what_train_reads(tmp_path, target, capsys):
    run(tmp_path / "run", recorded(tmp_path / "data"), 2)
    assert main(["play", "--run-dir", str(tmp_path / "run"), "--episodes", "4", "--record",
                 str(tmp_path / "played")]) == 0
    assert run(tmp_path / "next", tmp_path / "played", 1).choices[0].body == "target"


def test_play_records_the_rate_of_a_class(tmp_path):
    name = hostile(tmp_path, more="rate_hz = 20")
    profile = load_profile("control", [*SMALL, "train.steps=1", f"body.rounds={{{name!r} = 1}}"])
    train(profile, RunDir(tmp_path / "run"), 1, lambda line: None)
    assert main(["play", "--run-dir", str(tmp_path / "run"), "--episodes", "1", "--body", name,
                 "--record", str(tmp_path / "played")]) == 0
    assert EpisodeFolder(tmp_path / "played").rate_hz == 20.0


def test_a_body_that_was_only_recorded_cannot_be_played():
    trained = untrained()
    worn = replace(trained, bodies={"worn": trained.bodies["cartpole"]})
    with pytest.raises(ConfigError, match="worn was only recorded, so it cannot be opened here: e"):
        worn.returns("worn", 1, 0)
