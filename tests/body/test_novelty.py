"""What was seldom seen is worth something to a body in training, and to nothing else."""
from dataclasses import replace

import numpy as np
import pytest

from seed.body import open_body
from seed.body.codec import ABSENT, LEVELS, Channel, Codec
from seed.body.novelty import TABLE_BITS, Novelty
from seed.body.round import FLOOR, Played, with_novelty
from seed.body.value_range import ValueRange
from seed.config import BodyConfig
from seed.errors import ConfigError
from seed.storage import RunDir, checkpoint
from seed.training.adapt_body import Source, profile_for_body
from seed.training.stop_signals import StopSignals
from tests.support.simple_bodies import Target
from tests.support.small_body_runs import (assert_threads_and_stops_change_no_bit, profile,
                                           run)

ON = "body.novelty=1.0"


@pytest.fixture(autouse=True)
def target(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "target", Target)


def test_the_bonus_is_one_over_the_root_of_how_often_the_observation_was_seen():
    novelty, levels = Novelty(2), np.array([[0, 0], [0, 0], [200, 0], [0, 200]])
    assert novelty.bonus(levels).tolist() == pytest.approx([0.5 ** 0.5, 0.5 ** 0.5, 1, 1])
    assert novelty.bonus(levels[:2]).tolist() == [0.5, 0.5]   # seen four times by then
    assert novelty.counts.sum() == 6


def test_neighbouring_levels_are_one_observation_and_an_absent_number_is_another():
    novelty = Novelty(2)
    assert novelty.bonus(np.array([[0, 0], [15, 15]])).tolist() == pytest.approx([0.5 ** 0.5] * 2)
    assert novelty.bonus(np.array([[16, 0], [0, 16], [ABSENT, 0], [0, ABSENT]])).tolist() == [1] * 4


def test_few_observations_of_a_narrow_body_share_a_count():
    for n_channels, cells in ((1, 16), (2, 16), (3, 16), (4, 8), (6, 4), (12, 2)):
        grid = np.meshgrid(*[np.arange(cells) * LEVELS // cells] * n_channels)
        novelty = Novelty(n_channels)
        novelty.bonus(np.stack(grid, -1))
        assert np.count_nonzero(novelty.counts) > 0.95 * cells ** n_channels


def test_a_wide_body_takes_no_more_memory_and_the_largest_count_stays():
    novelty = Novelty(500)
    novelty.bonus(np.random.default_rng(0).integers(0, LEVELS, (1000, 500)))
    assert novelty.counts.shape == (1 << TABLE_BITS,) and np.count_nonzero(novelty.counts) > 900
    novelty.counts[...] = 2.0 ** 24
    assert novelty.bonus(np.zeros((1, 500), int)).tolist() == [2.0 ** -12]


def test_a_bonus_has_the_scale_of_the_floor_and_an_end_has_none():
    codec = Codec("robot", (Channel(-1, 1), Channel(-1, 1)), ((0.0, 1.0),), "index")
    played = Played.empty(codec, 3, 2, [])
    played.levels[...] = np.arange(0, 256, 16).reshape(4, 2, 2)   # each new
    played.rewards[...], played.terminated[0, 0], played.truncated[2, 1] = -1, True, True
    rewards = with_novelty(played, Novelty(2), 0.5, ValueRange(-1, 3)).rewards
    bonus = 0.5 * FLOOR * 4
    assert np.allclose(rewards, np.array([[0, bonus], [bonus, bonus], [bonus, 0]]) - 1)
    assert (played.rewards == -1).all()


def test_the_counts_are_resumed_bit_for_bit_with_any_number_of_threads(tmp_path):
    assert_threads_and_stops_change_no_bit(tmp_path, ON)
    whole = RunDir(tmp_path / "whole").checkpoint
    assert checkpoint.read(whole).tensors["play.target.novelty"].sum() == 6 * 16 * 4   # each tick


def test_a_stopped_round_is_not_counted_twice(tmp_path, monkeypatch):
    run(tmp_path / "whole", 3, ON)
    signals, calls = StopSignals(), []

    class Stopping(Target):
        def step(self, action):
            calls.append(0)
            if len(calls) == 4 * 16 + 7:   # in the middle of a round
                signals.stop.set()
            return super().step(action)
    run(tmp_path / "parts", 1, ON)
    monkeypatch.setitem(open_body.BODIES, "target", Stopping)
    assert not run(tmp_path / "parts", 3, ON, signals=signals).finished
    assert run(tmp_path / "parts", 3, ON).finished
    whole, parts = (RunDir(tmp_path / name).checkpoint.read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_returns_and_the_range_of_the_value_are_those_of_the_own_rewards(tmp_path):
    result = run(tmp_path / "run", 4, "body.novelty=100.0")   # a new tick is worth two ranges
    assert 0 <= result.returns[0].mean <= 10
    kept = checkpoint.read_meta(RunDir(tmp_path / "run").checkpoint)["bodies"]["target"]["returns"]
    assert kept[0] == 0 and kept[1] < 200   # of rewards up to 1, 101 before the first step


def test_without_it_nothing_is_counted_and_a_run_keeps_to_what_it_began_with(tmp_path):
    run(tmp_path / "run", 1)
    tensors = checkpoint.read(RunDir(tmp_path / "run").checkpoint).tensors
    assert "play.target.novelty" not in tensors
    with pytest.raises(ConfigError, match="body.novelty is 1.0, but this run began with 0.0"):
        run(tmp_path / "run", 2, ON)


def test_an_adaptation_does_not_look_for_what_is_new():
    parent = replace(profile(1), body=BodyConfig(novelty=1.0))
    source = Source("reversed", "reversed", "reversed", "", None)
    assert not profile_for_body(parent, source, "target", {}, 1.0, 0, 1e-3).body.novelty
