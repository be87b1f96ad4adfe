"""Bodies side by side: seeds, ends of episodes, resuming, and refusals that name the body."""
import numpy as np
import pytest

from seed.body import closed_loop
from seed.body.codec import Channel, Codec
from seed.body.open_body import make_codec, opener
from seed.body.player import Player
from seed.body.spaces import Box, Discrete
from seed.body.world import MAX_TICKS, World
from seed.errors import BodyError, CheckpointError, ConfigError
from tests.support.acting_brains import untrained
from tests.support.simple_bodies import Endless, Forgetful, Target, misbehaving

CODEC = Codec("target", (Channel(-1, 1),), ((0.0, 1.0),), "index")


def play(world: World, n_ticks: int, seed: int = 0) -> np.ndarray:
    """Observations (ticks, rows) under drawn choices."""
    rng, seen = np.random.default_rng(seed), []
    for _ in range(n_ticks):
        world.step(rng.integers(0, 2, (len(world.bodies), 1)))
        seen.append(world.observations[:, 0].copy())
    return np.array(seen)


def test_an_episode_is_a_function_of_seed_row_and_number():
    first, again, other = (play(World(Target, CODEC, 3, seed), 25) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.isin(first, other).any()
    assert len(np.unique(first)) == first.size   # rows and episodes differ


def test_totals_and_ends_of_episodes_are_counted_and_the_next_begins_at_once():
    world = World(Target, CODEC, 2, 0)
    for t in range(20):
        assert (world.previous < 0).all() == (t % 10 == 0)
        outcome = world.step((world.observations > 0).astype(int))
        assert outcome.truncated.all() == (t % 10 == 9) and not outcome.terminated.any()
    assert [(e.row, e.total, e.ticks) for e in world.ended] == [(0, 10, 10), (1, 10, 10)] * 2


def test_an_episode_without_an_end_is_cut():
    world = World(Endless, CODEC, 1, 0)
    play(world, MAX_TICKS)
    assert [episode.ticks for episode in world.ended] == [MAX_TICKS]


@pytest.mark.parametrize("n_ticks", [0, 1, 17, 20])
def test_a_world_is_restored_in_the_middle_of_its_episodes(n_ticks):
    whole, resumed = World(Target, CODEC, 3, 0), World(Target, CODEC, 3, 0)
    play(whole, n_ticks)
    snapshot = whole.snapshot()
    later = play(whole, 15, seed=1)   # the snapshot is of before
    resumed.restore(snapshot.to_dict(), snapshot.observations)
    assert np.array_equal(play(resumed, 15, seed=1), later)
    assert np.array_equal(resumed.totals, whole.totals)


@pytest.mark.parametrize("keeps_body", [False, True])
def test_a_row_draws_another_body_for_each_episode_or_keeps_it_until_it_begins(keeps_body):
    codec, _ = make_codec("cartpole", opener("cartpole"), 0)
    worlds = [World(opener("cartpole"), codec, 2, 0, randomize=True, keeps_body=keeps_body)
              for _ in range(2)]
    world, lengths = worlds[0], [set[float](), set[float]()]
    for _ in range(200):
        world.step(np.zeros((2, 1), int))
        for row, body in enumerate(world.bodies):
            lengths[row].add(body.half_length_m)
    assert len(world.ended) > 20
    assert [len(row) == 1 for row in lengths] == [keeps_body, keeps_body]
    snapshot = world.snapshot()
    worlds[1].restore(snapshot.to_dict(), snapshot.observations)
    assert [body.half_length_m for body in worlds[1].bodies] == [
        body.half_length_m for body in world.bodies]
    world.begin(0)
    assert world.bodies[0].half_length_m not in lengths[0]


def test_a_body_that_does_something_else_the_second_time_cannot_be_resumed():
    world = World(Forgetful, CODEC, 2, 0)
    play(world, 3)
    snapshot = world.snapshot()
    with pytest.raises(CheckpointError, match="target does not do the same again"):
        World(Forgetful, CODEC, 2, 0).restore(snapshot.to_dict(), snapshot.observations)


def test_later_episodes_are_acted_with_what_is_remembered_of_those_before():
    trained = untrained()
    facts = trained.bodies["cartpole"]
    player = Player(trained.model, facts.codec, 4)
    anew, begin_fn = [], player.begin
    player.begin = lambda rows=slice(None): (anew.append(rows), begin_fn(rows))
    later = closed_loop.later_episodes(player, opener("cartpole"), 0, bool)
    assert len(later) == closed_loop.EPISODES and anew == [slice(None)]
    every = closed_loop.act(player, opener("cartpole"), 0, len(later) + 4, keeps_state=True)
    assert later == [e for row in range(4) for e in [e for e in every if e.row == row][1:]]
    anew.clear()
    assert closed_loop.later_episodes(player, opener("cartpole"), 0, lambda: True) is None
    closed_loop.act(player, opener("cartpole"), 0, 4)
    assert len(anew) > 4


GOOD = np.zeros(1), 0.0, False, False, {}


@pytest.mark.parametrize("method, result, words", [
    ("reset", OSError("no motor"), "reset raises OSError: no motor"),
    ("step", ZeroDivisionError("by zero"), "step raises ZeroDivisionError"),
    ("step", (np.zeros(2), *GOOD[1:]), r"shape \(2,\)"),
    ("step", ("text", *GOOD[1:]), "has shape"), ("reset", (np.zeros(0), {}), "has shape"),
    ("step", (np.array([np.nan]), *GOOD[1:]), "number 0 of an observation is nan"),
    ("reset", (np.array([-np.inf]), {}), "number 0 of an observation is -inf"),
    ("step", (np.array([-1e39]), *GOOD[1:]), "number 0 of an observation is -1e\\+39: keep it"),
    ("step", (GOOD[0], np.inf, *GOOD[2:]), "the reward inf"),
    ("step", (GOOD[0], np.nan, *GOOD[2:]), "the reward nan"),
    ("step", (GOOD[0], "much", *GOOD[2:]), "step raises ValueError"),
    ("step", GOOD[:3], "step raises ValueError"), ("reset", None, "reset raises TypeError")])
def test_a_body_that_misbehaves_is_named_in_one_line(method, result, words):
    with pytest.raises(BodyError, match=f"target.*{words}") as caught:
        play(World(misbehaving(method, result), CODEC, 2, 0), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cartpole", "pendulum", "rover"])
def test_the_built_in_bodies_keep_to_their_spaces(name):
    codec, rewards = make_codec(name, opener(name), 0)
    world, rng = World(opener(name), codec, 2, 0, randomize=True), np.random.default_rng(0)
    for _ in range(700):
        choices = [[rng.integers(len(part)) for part in codec.actions] for _ in range(2)]
        world.step(np.array(choices))
        for number, channel in zip(world.observations.T, codec.channels):
            assert channel.is_log or (channel.low - 1e-6 <= number).all()
            assert channel.is_log or (number <= channel.high + 1e-6).all()
    assert world.ended and np.isfinite(rewards).all()


@pytest.mark.parametrize("name, words", [("cartpol", "nearest is cartpole"), ("gym:No-v9", "No"),
                                         ("", "is unknown")])
def test_an_unknown_body_is_named(name, words):
    with pytest.raises(ConfigError, match=words):
        opener(name)()


@pytest.mark.parametrize("change", [
    {"observation_space": Box.of((-1, 1), (-1, 1))}, {"action_space": Discrete(3)},
    {"action_space": Box.of((-1, 1))}])
def test_a_body_whose_spaces_are_no_longer_those_of_the_brain_is_named(change):
    changed = type("Changed", (Target,), change)
    with pytest.raises(BodyError, match="target has other .* than the 1 numbers and 1 parts that"):
        World(changed, CODEC, 2, 0)
