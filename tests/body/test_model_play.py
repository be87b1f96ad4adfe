"""A model that is fitted to recorded ticks, and the bodies in it."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from seed.body import dynamics
from seed.body.codec import Channel, Codec
from seed.body.dynamics import MEMBERS, Dynamics, Transitions
from seed.body.episodes import EpisodeFolder
from seed.body.model_play import EPISODE_TICKS, ModelOpener
from seed.body.world import World
from tests.support.recorded import step, write

CODEC = Codec("swing", (Channel(-2.0, 2.0),) * 2, (tuple(i / 4 - 1 for i in range(9)),), "numbers",
              (1,))


def following(seen: np.ndarray, action: float) -> np.ndarray:
    """A point that is pushed on a spring."""
    x, speed = seen
    speed = speed + 0.1 * (action - 2 * x - 0.1 * speed)
    return np.array([x + 0.1 * speed, speed])


def ticks_of(folder, episodes: int = 60, n_ticks: int = 100) -> Transitions:
    """It ends where x is beyond 0.6; the reward is minus x."""
    rng, rows = np.random.default_rng(0), list[dict]()
    for _ in range(episodes):
        seen, first = rng.uniform((-0.5, -1), (0.5, 1)), len(rows)
        for _ in range(n_ticks):
            action = float(rng.integers(3) - 1)
            after = following(seen, action)
            rows.append(step(seen.tolist(), [action], float(-after[0])))
            seen = after
            if abs(seen[0]) > 0.6:
                break
        rows[first]["is_first"] = True
        rows.append(step(seen.tolist(), is_last=True, is_terminal=bool(abs(seen[0]) > 0.6)))
    write(folder, rows, body="swing", observation={"low": [-2, -2], "high": [2, 2]},
          action={"low": [-1], "high": [1]})
    return Transitions.of(EpisodeFolder(folder), CODEC)


def test_what_is_recorded_becomes_transitions(tmp_path):
    ticks = ticks_of(tmp_path, 3, 5)
    first, at = np.flatnonzero(ticks.is_first), np.flatnonzero(~ticks.is_first)
    assert first[0] == 0 and len(first) == 3 and len(at) > 6
    assert np.array_equal(ticks.observations[at], ticks.following[at - 1])
    assert np.array_equal(ticks.before[at], ticks.observations[at - 1])
    assert np.array_equal(ticks.previous[at], ticks.actions[at - 1])
    assert np.array_equal(ticks.before[first], ticks.observations[first])
    assert not ticks.previous[first].any() and set(ticks.actions.ravel()) == {-1, 0, 1}
    assert np.array_equal(ticks.rewards, -ticks.following[:, 0])


def test_a_wrong_reading_is_brought_near(tmp_path):
    """A sensor that once says 65535, or 1e300, does not decide what a large change is."""
    rows = [step([x, 0.0], [0.0], 1.0, is_first=not i)
            for i, x in enumerate((0.5, 65535.0, 0.6, -1e300))]
    write(tmp_path, [*rows, step([0.7, 0.0], is_last=True)], body="swing",
          observation={"low": [-2, -2], "high": [2, 2]}, action={"low": [-1], "high": [1]})
    ticks = Transitions.of(EpisodeFolder(tmp_path), CODEC)
    assert ticks.observations[:, 0].tolist() == [0.5, 6.0, np.float32(0.6), -6.0]


def test_numpy_has_one_thread():
    """With two the products and the solution of a large polynomial have other bits."""
    program = ("import os, seed.body.dynamics, numpy as np\nnp.eye(800) @ np.eye(800)\n"
               "print(len(os.listdir('/proc/self/task')))")
    environment = {key: text for key, text in os.environ.items() if "NUM_THREADS" not in key}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=True,
                          stdout=subprocess.PIPE).stdout == b"1\n"


def test_choices_become_a_column_each():
    codec = Codec("keys", (Channel(-1.0, 1.0),), ((0.0, 1.0), (3.0, 4.0, 5.0)), "indices", (2,))
    actions = dynamics.action_inputs(codec, np.array([[1, 3], [0, 5]]))
    assert actions.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


def test_the_model_follows_the_body_for_an_episode_and_knows_reward_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 50_000)
    model = Dynamics(ticks_of(tmp_path), CODEC, 0, "digest")
    assert model.fit(bool)
    rng, seen = np.random.default_rng(1), np.array([[0.3, 0.0]])
    now = before = seen.astype(np.float32)
    previous = np.zeros((1, 1), np.float32)
    for _ in range(EPISODE_TICKS):
        action = np.array([[rng.integers(3) - 1]], np.float32)
        seen = following(seen[0], float(action[0, 0]))[None]
        after = model.predict(now, before, action, previous)[1]
        rewards, ends = model.outcome(now, action, after, 0.1)
        before, now, previous = now, after, action
        assert np.abs(now - seen).max() < 0.15
        assert abs(rewards.mean() + seen[0, 0]) < 0.2
        assert not ends.any() or abs(seen[0, 0]) > 0.5
    far = np.array([[0.7, 0.7]], np.float32)
    assert model.outcome(far - [[0.07, 0.0]], np.ones((1, 1), np.float32), far,
                         0.1)[1].all()


def test_a_fit_that_was_stopped_continues_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 20)
    ticks = ticks_of(tmp_path, 3)
    whole, parts = (Dynamics(ticks, CODEC, 0, "digest") for _ in range(2))
    assert whole.fit(bool)
    answers = iter([False] * 7 + [True] + [False] * 50)
    assert not parts.fit(lambda: next(answers)) and parts.fit(lambda: next(answers))
    assert np.array_equal(*(model.predict(*ticks[:4]) for model in (whole, parts)))


def test_a_row_does_the_same_whichever_others_take_a_tick(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 20)
    model = Dynamics(ticks_of(tmp_path), CODEC, 0, "digest")
    together, alone = (ModelOpener(model, -5.0).open_all(3) for _ in range(2))
    rng = np.random.default_rng(0)
    for bodies in (together, alone):
        for row in range(3):
            bodies[row].reset(seed=row)
    actions = [[np.array([x], np.float32) for x in rng.integers(-1, 2, 3)] for _ in range(5)]
    steps = [together.step_all(row_actions) for row_actions in actions]
    for row in range(3):
        for tick in range(5):
            observation, *outcome, _ = alone[row].step(actions[tick][row])
            assert np.array_equal(observation, steps[tick][row][0])
            assert tuple(outcome) == steps[tick][row][1:4]


def test_an_episode_begins_where_one_was_recorded_and_ends_beyond_what_was(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64)
    ticks = ticks_of(tmp_path)
    bodies = ModelOpener(Dynamics(ticks, CODEC, 0, "digest"), -5.0).open_all(4)
    starts = [bodies[0].reset(seed=seed)[0].copy() for seed in range(40)]
    assert all((ticks.observations == start).all(1).any() for start in starts)
    assert len({tuple(start) for start in starts}) > 10
    monkeypatch.setattr(Dynamics, "predict", lambda self, seen, *_: np.full(
        (MEMBERS, *seen.shape), 1e3, np.float32))
    monkeypatch.setattr(Dynamics, "outcome", lambda self, seen, *_: (
        np.zeros(len(seen)), np.zeros(len(seen), bool)))
    observation, reward, terminated, truncated, _ = bodies[0].step(np.array([1.0], np.float32))
    assert (reward, terminated, truncated) == (-5.0, True, False)
    assert (observation < 2).all()


def test_what_is_unknown_may_cost_more_than_a_body_may_say_in_a_tick(tmp_path, monkeypatch):
    """A whole return, of rewards that are large."""
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64)
    monkeypatch.setattr(Dynamics, "predict", lambda self, seen, *_: np.full(
        (MEMBERS, *seen.shape), 1e3, np.float32))
    monkeypatch.setattr(Dynamics, "outcome", lambda self, seen, *_: (
        np.zeros(len(seen)), np.zeros(len(seen), bool)))
    dynamics_of_few = Dynamics(ticks_of(tmp_path, 3), CODEC, 0, "digest")
    world = World(ModelOpener(dynamics_of_few, -1e8), CODEC, 2, 0)
    assert world.step(np.zeros((2, 1), int)).rewards.tolist() == [-1e8, -1e8]


def test_an_episode_in_the_model_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64)
    bodies = ModelOpener(Dynamics(ticks_of(tmp_path), CODEC, 0, "digest"), -5.0).open_all(1)
    monkeypatch.setattr(Dynamics, "predict", lambda self, seen, *_: np.zeros(
        (MEMBERS, *seen.shape), np.float32))
    monkeypatch.setattr(Dynamics, "outcome", lambda self, seen, *_: (
        np.zeros(len(seen)), np.zeros(len(seen), bool)))
    bodies[0].reset(seed=0)
    cuts = [bodies[0].step(np.array([1.0], np.float32))[3] for _ in range(EPISODE_TICKS)]
    assert cuts == [False] * (EPISODE_TICKS - 1) + [True]


@pytest.mark.parametrize("constant", [0.0, 7.5])
def test_a_number_that_never_changes_stays(tmp_path, monkeypatch, constant):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 5)
    ticks = ticks_of(tmp_path, 2)
    for array in (ticks.observations, ticks.before, ticks.following):
        array[:, 1] = constant
    bodies = ModelOpener(Dynamics(ticks, CODEC, 0, json.dumps(constant)), -5.0).open_all(1)
    bodies[0].reset(seed=0)
    assert bodies[0].step(np.array([1.0], np.float32))[0][1] == np.float32(constant)


def test_what_is_predicted_beyond_a_declared_range_is_at_its_end(tmp_path, monkeypatch):
    """A range finder that sees farther than it can is not in an unknown place."""
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64)
    ticks = ticks_of(tmp_path)
    for array in (ticks.observations, ticks.before, ticks.following):
        array[:] = np.where(np.arange(len(array))[:, None] % 2, 2.0, -2.0)
    bodies = ModelOpener(Dynamics(ticks, CODEC, 0, "digest"), -5.0).open_all(1)
    bodies[0].reset(seed=1)
    monkeypatch.setattr(Dynamics, "predict", lambda self, seen, *_: np.full(
        (MEMBERS, *seen.shape), 1e3, np.float32))
    observation, _, terminated, _, _ = bodies[0].step(np.array([1.0], np.float32))
    assert observation.tolist() == [2.0, 2.0] and not terminated


def test_what_is_a_product_is_predicted_far_beyond_what_was_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 100)
    ticks = ticks_of(tmp_path)
    x, speed = ticks.observations.T
    ticks.following[:] = np.stack([x + 0.1 * speed, speed + 0.1 * x * ticks.actions[:, 0]], -1)
    model = Dynamics(ticks, CODEC, 0, "digest")
    model.fit(bool)
    seen = np.array([[2.0, 1.0]], np.float32)   # recorded: x up to 0.6
    after = model.predict(seen, seen, np.array([[1.0]], np.float32), np.zeros((1, 1), np.float32))
    assert np.abs(after - [[2.1, 1.2]]).max() < 0.03


def test_a_rare_end_has_the_probability_that_it_has(tmp_path, monkeypatch):
    """Though more of the ticks that are fitted are ends."""
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 1000)
    ticks = ticks_of(tmp_path, 100)
    ticks.terminated[:] = np.random.default_rng(1).random(len(ticks.rewards)) < 0.02   # anywhere
    model = Dynamics(ticks, CODEC, 0, "digest")
    model.fit(bool)
    shares = [model.outcome(ticks.observations, ticks.actions, ticks.following, draw)[1].mean()
              for draw in (0.002, 0.08)]
    assert shares[0] > 0.8 and shares[1] < 0.2


def test_the_member_that_expects_the_least_decides(tmp_path, monkeypatch):
    """One that sees a goal where none was recorded does not."""
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64)
    model = Dynamics(ticks_of(tmp_path), CODEC, 0, "digest")
    scale = dynamics.Scale(*(np.array(number, np.float32) for number in (0.0, 1.0, 1.0)))
    monkeypatch.setattr(model, "_rewards", [scale, scale])
    answers = np.zeros((MEMBERS, 2, 3), np.float32)
    answers[:, :, 0], answers[1, :, 0], answers[:, :, 2] = -20, 20, 5   # member 1: the end, and 5
    answers[2, 1] = 20, 0, -2   # in the second row member 2: the end, and -2
    monkeypatch.setattr(model, "_outcome", lambda x: answers)
    seen = np.zeros((2, 2), np.float32)
    rewards, ends = model.outcome(seen, np.zeros((2, 1), np.float32), seen)
    assert ends.tolist() == [False, True] and rewards.tolist() == [0, -2]
