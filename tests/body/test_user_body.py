"""A user's body class in its process: the same as here, and whatever it does is named."""
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seed.body import user_body
from seed.body.cart_pole import TICK_S, CartPole
from seed.body.codec import Codec
from seed.body.facts import measure
from seed.body.open_body import make_codec, opener
from seed.body.pendulum import Pendulum
from seed.body.user_body import Opener, check_repeats
from seed.body.user_body_worker import Calls, space_fields
from seed.body.world import World
from seed.config import BodyConfig
from seed.curriculum.user_class_worker import InvalidClass
from seed.errors import BodyError, BodyKilled, ConfigError, StopRequested
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.training import train
from tests.support.hostile_bodies import hostile
from tests.support.processes import descendants
from tests.support.small_run import wait_until

SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", "model.pattern=\"SA\"",
         "model.sliding_window=4", "body.rows=4", "body.ticks=16", "body.chunk=8",
         "body.passes=1", "curriculum.holdout_items=1", "curriculum.tasks={copy = 1.0}"]
BUILT_IN = {"cart_pole": CartPole, "pendulum": Pendulum}


def built_in(folder: Path, module: str) -> Opener:
    """A built-in body as a user's class."""
    (folder / "robot.py").write_text(
        f"from seed.body.{module} import {BUILT_IN[module].__name__} as Robot\n")
    return Opener(f"{folder}/robot.py:Robot")


def codec_of(name: str = "hostile.py:B") -> Codec:
    return make_codec(name, built_in_target, 0)[0]


def built_in_target():
    from tests.support.simple_bodies import Target
    return Target()


def play(world: World, n_ticks: int) -> list[np.ndarray]:
    rng, seen = np.random.default_rng(0), []
    for _ in range(n_ticks):
        outcome = world.step(np.stack([rng.integers(0, len(part), len(world.bodies))
                                       for part in world.codec.actions], -1))
        seen += [world.observations.copy(), *outcome]
    return [*seen, np.array([(e.row, e.total, e.ticks) for e in world.ended])]


@pytest.mark.parametrize("module", BUILT_IN)
def test_a_class_plays_in_its_process_as_it_does_here(tmp_path, module):
    open_fn, here = built_in(tmp_path, module), BUILT_IN[module]
    codec, rewards = make_codec("robot", open_fn, 0)
    codec_here, rewards_here = make_codec("robot", here, 0)
    assert codec == codec_here and np.array_equal(rewards, rewards_here)
    together, alone, same = (play(World(make, codec, 3, 0), 210)
                             for make in (open_fn, lambda: open_fn(), here))
    for a, b, c in zip(together, alone, same, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_a_world_of_a_class_is_restored_in_the_middle_of_its_episodes(tmp_path):
    open_fn, codec = Opener(hostile(tmp_path)), codec_of()
    whole, resumed = World(open_fn, codec, 3, 0), World(open_fn, codec, 3, 0)
    play(whole, 13)
    snapshot = whole.snapshot()
    resumed.restore(snapshot.to_dict(), snapshot.observations)
    assert all(np.array_equal(a, b) for a, b in zip(play(resumed, 15)[:-1], play(whole, 15)))


@pytest.mark.parametrize("space, fields", [
    (3, {"n": 3, "start": 0}), ([2, 3], {"nvec": [2, 3], "shape": [2],
                                                         "starts": [0, 0]}),
    ([(-1, 1), (0, float("inf"))], {"low": [-1, 0], "high": [1, float("inf")], "shape": [2]}),
    (((-1, 1),), {"low": [-1], "high": [1], "shape": [1]}),
    (SimpleNamespace(low=[[1]], high=[[2]]), {"low": [1], "high": [2], "shape": [1, 1]}),
    (SimpleNamespace(n=np.int64(4), start=1), {"n": 4, "start": 1}),
    (SimpleNamespace(nvec=np.array([4, 5]), start=np.array([0, 1])),
     {"nvec": [4, 5], "shape": [2], "starts": [0, 1]}),
    (SimpleNamespace(n=3, shape=(3,)), {"nvec": [2] * 3, "shape": [3], "starts": [0] * 3})])
def test_a_space_needs_no_library(space, fields):
    assert space_fields("action_space", space) == fields


@pytest.mark.parametrize("space", [
    None, "text", [], [(1, 2, 3)], 1.5, True, {},
    10 ** 1000, SimpleNamespace(low=[1], high=[1, 2]), SimpleNamespace(low=[], high=[]),
    SimpleNamespace(low=np.zeros(10 ** 4), high=np.ones(10 ** 4))])
def test_what_is_no_space_is_named(space):
    with pytest.raises(InvalidClass, match="^action_space (is|has) .*(give|make)"):
        space_fields("action_space", space)


@pytest.mark.parametrize("result, words", [
    (None, r"step returns NoneType: return \(observation, reward"),
    (([0.0], 1.0, False), "step returns tuple of 3: return"),
    (([0.0, 0.0], 1.0, False, False, {}), r"has shape \(2,\), its observation_space \(1,\)"),
    ((["x"], 1.0, False, False, {}), r"an observation is \['x'\]: give 1 number"),
    (([[0.0], [0.0, 1.0]], 1.0, False, False, {}), "an observation is .*: give 1 number"),
    (({}, 1.0, False, False, {}), "an observation is {}: give 1 number")])
def test_what_a_method_returns_is_checked_where_it_is(result, words):
    calls = Calls("robot.py", "B")
    calls.bodies, calls.n_numbers = [SimpleNamespace(step=lambda action: result)], 1
    with pytest.raises(InvalidClass, match=words):
        calls.step([0], [0], None)


@pytest.mark.parametrize("change, words", [
    (dict(actions="10 ** 9"), "hostile.py:B: its action_space has 1 parts of 1000000000 "),
    (dict(actions="[(0, float('nan'))]"), "its actions have no bounds"),
    (dict(actions="[(1, 1)]"), "a low that is not below its high"),
    (dict(observations="[(0, 1)] * 600"), "its observation_space has 600 numbers: give 1 to 512"),
    (dict(observations="1"), "its observation_space has 1 values"),
    (dict(step="observation = [1e308]"), r"number 0 of an observation is 1e\+308: keep it within"),
    (dict(observations="[(1, -1)]"), "number 0 of its observation_space has a low of 1 and a high"),
    (dict(observations="[(float('nan'), 1)]"), "has a low of nan and a high of 1: let low be"),
    (dict(step="reward = 'much'"), "step returns the reward 'much': give a number"),
    (dict(step="reward = None"), "step returns the reward None: give a number"),
    (dict(step="observation = [float('nan')]"), "number 0 of an observation is nan"),
    (dict(step="reward = float('inf')"), "the reward inf"),
    (dict(step="os._exit(3)"), "its process exited during step"),
    (dict(more="def __init__(self): 1 / 0"), "loading raises ZeroDivisionError"),
    (dict(more="reset = None"), "reset raises TypeError"),
    (dict(more="rate_hz = 0"), "rate_hz is 0: give ticks per second, up to 1,000,000, or leave"),
    (dict(more="rate_hz = '50'"), "rate_hz is '50': give"),
    (dict(more="rate_hz = True"), "rate_hz is True: give"),
    (dict(more="rate_hz = float('nan')"), "rate_hz is nan: give"),
    (dict(more="rate_hz = 10 ** 400"), "rate_hz is 1000"),
    (dict(top="import no_such_module"), "loading raises ModuleNotFoundError")])
def test_a_class_that_cannot_be_used_is_named_in_one_line(tmp_path, change, words):
    with pytest.raises(ConfigError, match=f"^hostile.py:B: .*{words}" if "B:" not in words
                       else words) as caught:
        make_codec("hostile.py:B", Opener(hostile(tmp_path, **change)), 0)
    assert "\n" not in str(caught.value)


def test_a_class_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(user_body, "MAX_CALL_S", 0.3)
    world = World(Opener(hostile(tmp_path, step="time.sleep(99)", after=9)), codec_of(), 2, 0)
    with pytest.raises(BodyError, match="hostile.py:B: step takes longer than 0 s"):
        play(world, 9)


def test_a_class_that_is_slow_on_average_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(user_body, "CALLS_GRACE_S", 0.1)
    world = World(Opener(hostile(tmp_path, step="time.sleep(0.11)")), codec_of(), 2, 0)
    with pytest.raises(BodyError, match=r"a tick takes 0\.\d\d s on average: make it faster"):
        play(world, 9)


def test_a_call_ends_when_the_run_has_to_stop(tmp_path):
    open_fn = Opener(hostile(tmp_path, step="time.sleep(99)"))
    world = World(open_fn, codec_of(), 2, 0)
    open_fn.stop_fn = lambda: True
    with pytest.raises(StopRequested):
        play(world, 1)


def test_a_killed_process_is_no_fault_of_the_class(tmp_path):
    name = hostile(tmp_path, step="os.kill(os.getpid(), 9)", after=4)
    with pytest.raises(BodyKilled, match="hostile.py:B: its process was killed during step"):
        play(World(Opener(name), codec_of(), 2, 0), 9)
    assert BodyKilled.exit_code == 75


UNSTEADY = {
    "its own generator": dict(step="observation = [random.random()]"),
    "an address": dict(step="observation = [id(object()) % 97 / 97]"),
    "rows that share": dict(step="reward = B.n % 3"),
    "an episode that remembers": dict(reset="self.m = getattr(self, 'm', 0) + 1",
                                      step="end = self.m > 1"),
    "another reset": dict(reset="self.rng = random.Random()")}


@pytest.mark.parametrize("what", UNSTEADY)
def test_a_class_that_does_something_else_the_second_time_is_refused(tmp_path, what):
    with pytest.raises(BodyError, match="hostile.py:B: the same seed and actions give another"):
        check_repeats(Opener(hostile(tmp_path, **UNSTEADY[what])), codec_of(), 0, False)


def test_a_class_that_repeats_is_used_randomized_or_not(tmp_path):
    open_fn, codec = built_in(tmp_path, "cart_pole"), make_codec("robot", CartPole, 0)[0]
    for randomize in (False, True):
        check_repeats(open_fn, codec, 0, randomize)
    worlds = [World(open_fn, codec, 2, 0, randomize=randomize) for randomize in (False, True)]
    assert not np.array_equal(*(play(world, 5)[16] for world in worlds))


def test_a_class_tells_its_rate_through_wrappers_too(tmp_path):
    name = hostile(tmp_path, more="rate_hz = np.float32(12.5)", top="import numpy as np")
    for config in (BodyConfig(), BodyConfig(reward="stability")):
        assert measure(name, opener(name, config), config, 0).rate_hz == 12.5
    name = hostile(tmp_path)
    assert "rate_hz" not in measure(name, opener(name), BodyConfig(), 0).to_dict()
    assert measure("cartpole", opener("cartpole"), BodyConfig(), 0).rate_hz == 1 / TICK_S


def test_a_process_ends_with_its_bodies_which_may_close_what_they_have_opened(tmp_path):
    mark = tmp_path / "closed"
    name = hostile(tmp_path, more=f"def close(self): open({str(mark)!r}, 'a').write('x')",
                   top="assert 'SEED_TEACHER_KEY' not in os.environ")
    os.environ["SEED_TEACHER_KEY"] = "secret"
    try:
        before = descendants(os.getpid())
        world = World(Opener(name), codec_of(), 3, 0)
        pids = descendants(os.getpid()) - before
    finally:
        del os.environ["SEED_TEACHER_KEY"]
    assert pids
    del world
    assert mark.read_text() == "xxx"
    wait_until(lambda: not pids & descendants(os.getpid()), None, 30)


@pytest.mark.parametrize("name, words", [
    ("gym:os:Id", "names a module to import"), ("robot.py", "as in robot.py:ClassName"),
    ("/no/such/robot.py:B", "robot.py:B: there is no file /no/such/robot.py")])
def test_a_name_that_opens_nothing_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        opener(name)()


def test_signals_are_those_of_the_run_alone(tmp_path):
    world = World(Opener(hostile(tmp_path)), codec_of(), 2, 0)
    pids = descendants(os.getpid())
    for pid in pids:
        os.kill(int(pid), signal.SIGTERM)   # as systemd sends to all of a service
    play(world, 12)


def test_the_body_of_the_page_works(tmp_path):
    page = (Path(__file__).parents[2] / "docs/own_robot.md").read_text()
    simulated, _ = re.findall(r"<<'END'\n(.*?)\nEND", page, re.DOTALL)
    (tmp_path / "robot.py").write_text(simulated)
    open_fn = opener(f"{tmp_path}/robot.py:MyRobot")
    codec, rewards = make_codec("robot.py:MyRobot", open_fn, 0)
    check_repeats(open_fn, codec, 0, False)
    assert [channel.low for channel in codec.channels] == [-3.2, -10.0, -3.2]
    assert open_fn.rate_hz == 50.0
    assert codec.actions[0][::8] == (-1.0, 1.0) and len(np.unique(rewards)) > 1000


@pytest.mark.long
def test_a_body_that_fails_in_the_middle_leaves_a_run_that_resumes(tmp_path, capfd):
    def run(n_steps: int, **change):
        profile = load_profile("control", [
            *SMALL, f"body.rounds={{{hostile(tmp_path, **change)!r} = 1}}", "train.minutes=0",
            f"train.steps={n_steps}"])
        return train(profile, RunDir(tmp_path / "run"), 1, lambda line: None)
    with pytest.raises(BodyError, match="hostile.py:B: step raises OSError: no motor"):
        run(60, step="raise OSError('no motor')", after=2200)   # after it has been measured
    step = checkpoint.read(RunDir(tmp_path / "run").checkpoint).meta["step"]
    assert 0 < step < 60
    assert run(step + 2).finished and f"resuming from step {step} " in capfd.readouterr().err
