"""Ready-made rewards and changes, around bodies whose dynamics they leave alone."""
import numpy as np
import pytest

from seed.body.cart_pole import CartPole
from seed.body.changes import Delayed, Masked, Reversed, changed
from seed.body.open_body import make_codec, opener
from seed.body.pendulum import Pendulum
from seed.body.rewards import Goal, Stability, rewarded
from seed.body.rover import Rover
from seed.body.spaces import Box, Discrete, MultiDiscrete
from seed.body.user_body import Opener
from seed.body.world import World
from seed.config import BodyConfig
from seed.errors import ConfigError
from seed.profile_file import load_profile
from tests.support.hostile_bodies import hostile
from tests.support.simple_bodies import Target

UPRIGHT = {"0": 1.0, "1": 0.0}   # of the pendulum


class Sensor:
    """Shows what it is told; records its actions."""
    observation_space, action_space = Box.of((-2, 2), (0, 1)), Discrete(3)

    def __init__(self, *observations):
        self.observations, self.actions = list(observations), []

    def reset(self, seed=None):
        return np.array(self.observations.pop(0), float), {}

    def step(self, action):
        self.actions.append(action)
        observation, end = self.observations.pop(0), not self.observations
        return np.array(observation, float), 7.0, end, False, {}


def rewards_of(body, actions) -> tuple[list[float], list[bool]]:
    body.reset(seed=0)
    steps = [body.step(action) for action in actions]
    return [step[1] for step in steps], [step[2] for step in steps]


def test_stability_is_one_a_tick_less_deviation_and_change():
    middle, edge = (0, 0.5), (2, 0.5)
    body = Stability(Sensor(middle, middle, edge, middle, (2.1, 0.5), middle), "s", BodyConfig())
    rewards, ends = rewards_of(body, [0, 0, 1, 1])
    assert rewards == pytest.approx([1, 0.5, 0.9, 0.5])   # the second number has not moved
    assert ends == [False, False, False, True]            # the first has left its range
    body.body.observations = [middle] * 3
    assert rewards_of(body, [0])[0] == [1]                # no action was before it
    aimed = Stability(Sensor(middle, edge, middle), "s", BodyConfig(goal={"0": 2.0}))
    assert rewards_of(aimed, [0])[0] == [1]


def test_a_goal_pays_for_coming_nearer_and_for_being_there():
    config = BodyConfig(reward="goal", goal={"0": 1.0})
    body = Goal(Sensor((-1, 0), (0, 0), (-1, 0), (0.9, 0), (0, 0)), "s", config)
    rewards, ends = rewards_of(body, [0, 0, 0])
    assert rewards == pytest.approx([2.49, -2.51, 4.75 - 0.01 + 5])
    assert ends == [False, False, True]
    assert body.reset.__self__ is body and not hasattr(Sensor, "is_success")
    failed = Goal(Sensor((-1, 0), (-1, 0)), "s", config)
    assert rewards_of(failed, [0]) == (pytest.approx([-2.01]), [True])


def test_success_is_told():
    body = Goal(Sensor((0, 0), (1, 0), (1, 0)), "s", BodyConfig(goal={"0": 1.0}))
    body.reset()
    assert body.step(0)[4] == {"is_success": True}


@pytest.mark.parametrize("body, config, words", [
    (CartPole, BodyConfig(reward="goal", goal={"1": 0.0}), "number 1 of an .* has no range"),
    (CartPole, BodyConfig(reward="goal", goal={"9": 0.0}), "body.goal has '9': cartpole has the"),
    (CartPole, BodyConfig(reward="stability", goal={"x": 0.0}), "body.goal has 'x'")])
def test_an_aim_that_the_body_cannot_show_is_refused(body, config, words):
    with pytest.raises(ConfigError, match=words):
        rewarded("cartpole", body, config)()


def test_a_goal_without_numbers_is_refused():
    with pytest.raises(ConfigError, match=r"body.goal is \{\}: use a number of the observation"):
        load_profile("control", ["body.reward=goal"])
    profile = load_profile("control", ["body.reward=goal", "body.goal={0 = 1.0}"])
    assert profile.body.goal == {"0": 1.0}


def played(name: str, config: BodyConfig, policy_fn, n_ticks: int = 400) -> World:
    open_fn = opener(name, config)
    codec, _ = make_codec(name, open_fn, 0)
    world = World(open_fn, codec, 8, 0)
    for t in range(n_ticks):
        world.step(np.array([policy_fn(row, t) for row in world.observations]))
    return world


def total(world: World) -> float:
    return float(np.mean([episode.total for episode in world.ended]))


def test_balancing_is_worth_more_stability_than_falling():
    config = BodyConfig(reward="stability")
    balanced, random = (played("cartpole", config, policy_fn, 600) for policy_fn in (
        lambda o, t: [int(o[2] + 0.5 * o[3] + 0.1 * o[1] > 0)], lambda o, t: [int(t % 7 > 3)]))
    assert total(balanced) > 5 * total(random)


def test_holding_the_pendulum_up_is_worth_more_than_letting_it_hang():
    config = BodyConfig(reward="stability", goal=UPRIGHT, max_deviation=1.0)
    body = Stability(Pendulum(), "pendulum", config)
    body.reset(seed=0)
    rewards = {}
    for angle in (0.0, np.pi):
        body.body._angle, body.body._speed = angle, 0.0
        rewards[angle] = body.step(np.zeros(1, np.float32))[1]
    assert rewards[0.0] > 0.99 and rewards[np.pi] < 0.51   # of the sine, which is right


def test_a_rover_that_drives_to_its_goal_is_paid_without_its_own_reward():
    def drive(o, t):   # towards the goal: faster on the far side
        turn = np.arctan2(o[1], o[0])
        left, right = (int(np.clip(8 + side * 6 * turn, 0, 8)) for side in (-1, 1))
        return [left, left, right, right]
    world = played("rover", BodyConfig(reward="goal", goal={"2": 0.0}), drive)
    reached = [episode.total for episode in world.ended if episode.is_success]
    others = [episode.total for episode in world.ended if not episode.is_success]
    assert len(reached) > len(world.ended) / 4 and min(reached) > max([0.0, *others])


def test_a_class_of_the_user_s_is_rewarded_in_all_rows_at_once(tmp_path):
    name, config = hostile(tmp_path, "observation = [action]"), BodyConfig(reward="stability")
    open_fn, codec = changed(opener(name, config), Reversed), make_codec("b", Target, 0)[0]
    together, alone = (World(fn, codec, 3, 0) for fn in (open_fn, lambda: open_fn()))
    assert Opener.within(open_fn) and hasattr(together.bodies, "step_all")
    assert not hasattr(rewarded("t", Target, config), "open_all") and Opener.within(Target) is None
    for t in range(12):
        choices = np.full((3, 1), t % 2)
        first, second = together.step(choices), alone.step(choices)
        assert np.array_equal(first.rewards, second.rewards) and (first.rewards <= 1).all()
        assert np.array_equal(together.observations, alone.observations)
        assert (t + 1) % 10 == 0 or (together.observations == 1 - t % 2).all()   # reversed


def test_a_delayed_action_comes_later_and_the_middle_before_it():
    body = Delayed(Sensor(*[(0, 0)] * 6), 2)
    rewards_of(body, [0, 2, 0, 2])
    assert body.body.actions == [1, 1, 0, 2]
    body.body.observations = [(0, 0)] * 3
    rewards_of(body, [2])
    assert body.body.actions[-1] == 1   # nothing waits from the episode before


def test_reversed_actions_count_from_their_other_end():
    body = Reversed(Sensor())
    assert [body.before(a) for a in range(3)] == [2, 1, 0]
    body.action_space = Discrete(3, start=-1)
    assert [body.before(a) for a in (-1, 0, 1)] == [1, 0, -1]
    body.action_space = MultiDiscrete(np.array([2, 5]))
    assert body.before(np.array([0, 1])).tolist() == [1, 3]
    body.action_space = Box.of((-1, 1), (0, 4))
    action = body.before(np.array([0.5, 1], np.float32))
    assert action.tolist() == [-0.5, 3] and action.dtype == np.float32


@pytest.mark.parametrize("name, body", [("cartpole", CartPole), ("pendulum", Pendulum),
                                        ("rover", Rover)])
def test_changes_join_and_leave_the_body_s_api(name, body):
    open_fn = changed(body, Reversed, lambda b: Delayed(b, 1), lambda b: Masked(b, [0, 2]))
    codec, rewards = make_codec(name, open_fn, 0)
    assert len(codec.channels) == 2 and np.isfinite(rewards).all()
    world = World(open_fn, codec, 2, 0, randomize=True)
    plain = World(body, make_codec(name, body, 0)[0], 2, 0, randomize=True)
    assert np.array_equal(world.observations, plain.observations[:, [0, 2]])


def test_reversing_twice_changes_nothing():
    codec = make_codec("pendulum", Pendulum, 0)[0]
    worlds = [World(fn, codec, 2, 0) for fn in (Pendulum, changed(Pendulum, Reversed, Reversed))]
    for t in range(30):
        outcomes = [world.step(np.full((2, 1), t % 9)) for world in worlds]
        assert np.allclose(outcomes[0].rewards, outcomes[1].rewards)
