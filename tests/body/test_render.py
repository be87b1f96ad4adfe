"""seed play --render shows what a body does, or says in one line why it cannot."""
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seed.__main__ import main
from seed.body import open_body
from seed.body.open_body import BODIES, opener
from seed.body.render import Screen, bar
from seed.body.user_body import Opener
from seed.config import BodyConfig
from seed.errors import BodyError, ConfigError
from seed.evaluation import TrainedBrain
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import train
from tests.support.fake_clock import FakeClock
from tests.support.hostile_bodies import hostile
from tests.support.simple_bodies import Target

SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=1", "model.pattern=\"S\"",
         "model.sliding_window=4", "train.minutes=0", "body.rows=4", "body.ticks=8", "body.chunk=8",
         "body.passes=1", "train.steps=1", "curriculum.eval_every_steps=0"]


SPACES = SimpleNamespace(Dict=dict, Tuple=tuple)   # of a Gymnasium that is not here


class Shown(Target):
    rate_hz = 1e6

    def render(self):
        return f"\x1b[2Jtick {self._ticks}"


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    def train_body(body) -> str:
        monkeypatch.setitem(open_body.BODIES, "target", body)
        profile = load_profile("control", [*SMALL, "body.rounds={target = 1}"])
        train(profile, RunDir(tmp_path / "run"), 1, lambda line: None)
        return f"--run-dir={tmp_path / 'run'}"
    return train_body


@pytest.mark.parametrize("name", BODIES)
def test_a_built_in_body_is_a_short_line(name):
    lines, rng = [], np.random.default_rng(0)
    body = opener(name, BodyConfig(reward="stability" if name == "rover" else "own"),
                  Screen(lines.append))()
    body.reset(seed=0)
    for _ in range(30):
        action = rng.integers(2) if name == "cartpole" else rng.uniform(-1, 1, 4)
        body.step(action)
    assert len(lines) == 30 and len(set(lines)) > 20
    assert all(line.isprintable() and len(line) <= 80 for line in lines)


def test_a_bar_begins_in_the_middle_and_ends_at_the_bound():
    assert [bar(x, 2).count("#") for x in (0, 1, -1, 2, -9, 9)] == [0, 5, 5, 10, 10, 10]
    assert bar(-1, 2) == "[     #####|          ]" and len(bar(9, 2)) == len(bar(0, 2))


def test_the_screen_waits_for_a_body_that_acts_faster_than_its_rate():
    clock, pauses = FakeClock(), []

    def sleep(pause_s: float) -> None:
        pauses.append(round(pause_s, 3))
        clock.now += pause_s
    screen = Screen(lambda text: None, 50.0, clock, sleep)
    for took_s in (0.005, 0.0, 0.03, 0.5, 0.001):   # late ticks are not made up for
        screen.show("x")
        clock.now += took_s
    screen.show(None)
    assert pauses == [0.015, 0.02, 0.019]


def test_the_command_prints_a_line_a_tick_and_the_same_return(run_dir, monkeypatch, capsys):
    command = ["play", run_dir(Shown), "--episodes=2", "--render"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:20] == [f"\\x1b[2Jtick {t}" for t in (*range(1, 11), *range(1, 11))]
    assert lines[20].startswith("body") and len(lines) == 22
    trained, shown = TrainedBrain.load(RunDir(Path(command[1].partition("=")[2]))), []
    assert trained.returns("target", 2, 1, rows=1) == trained.returns("target", 2, 1,
                                                                      show_fn=shown.append)
    assert len(shown) == 20


@pytest.mark.parametrize("body, is_terminal, options, message", [
    (Target, True, (), "target cannot be shown: give its class a method render that returns text"),
    (Shown, False, (), "--render: the body is shown as text, which needs a terminal and no --json"),
    (Shown, True, ("--json",), "--render: the body is shown as text, which needs a terminal")])
def test_what_cannot_be_shown_is_one_line(run_dir, monkeypatch, capsys, body, is_terminal, options,
                                          message):
    command = ["play", run_dir(body), "--render", *options]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


@pytest.mark.parametrize("render, texts, message", [
    ("return f'tick {self.ticks}\\x1b' + 'x' * 9999", ["tick 1\x1b" + "x" * 3993], ""),
    ("pass", [], ""), ("return [[1, 2]]", [], "hostile.py:B: render returns list: return text, or"),
    ("1 / 0", [], "hostile.py:B: render raises ZeroDivisionError"),
    ("os._exit(1)", [], "hostile.py:B: its process exited during render"),
    ("return 1 / 0", [], "hostile.py:B: ")])
def test_a_class_is_shown_from_its_process(tmp_path, render, texts, message):
    name, shown = hostile(tmp_path, more=f"def render(self): {render}"), []
    for together in (False, True):
        open_fn = opener(name, screen=Screen(shown.append))
        body = open_fn.open_all(1)[0] if together else open_fn()
        body.reset(seed=0)
        if message:
            with pytest.raises(BodyError, match=message) as error:
                body.step(1)
            assert "\n" not in str(error.value)
        else:
            body.step(1)
    assert shown == 2 * texts


def test_a_class_without_render_is_named(tmp_path):
    name = hostile(tmp_path)
    assert not hasattr(Opener(name)(), "render")
    with pytest.raises(ConfigError, match="^hostile.py:B cannot be shown: give its class a method"):
        opener(name, screen=Screen(print))()


def test_gymnasium_opens_a_window_where_it_has_one(monkeypatch):
    def make(name, disable_env_checker, render_mode):
        return SimpleNamespace(render_mode=render_mode if name == "CartPole-v1" else None,
                               observation_space=None)

    def spec(name):
        return SimpleNamespace(entry_point="envs:Body")
    monkeypatch.setitem(sys.modules, "gymnasium", SimpleNamespace(
        make=make, spec=spec, spaces=SPACES))
    assert opener("gym:CartPole-v1")().render_mode is None
    assert opener("gym:CartPole-v1", screen=Screen(print))().render_mode == "human"
    with pytest.raises(ConfigError, match="gym:Blind-v0 cannot be shown: it has no window"):
        opener("gym:Blind-v0", screen=Screen(print))()


def test_mujoco_says_nothing_of_the_files_of_gymnasium_and_speaks_again_in_play(monkeypatch):
    said: list[str] = []
    mujoco = SimpleNamespace(handler=said.append)
    mujoco.get_mju_user_warning = lambda: mujoco.handler
    mujoco.set_mju_user_warning = lambda handler: setattr(mujoco, "handler", handler)

    def make(name, **options):
        mujoco.handler("settotalmass is deprecated")
        if name == "Broken-v5":
            raise ValueError("no such file")
        return SimpleNamespace(render_mode=None, observation_space=None)
    monkeypatch.setitem(sys.modules, "mujoco", mujoco)
    monkeypatch.setitem(sys.modules, "gymnasium", SimpleNamespace(
        make=make, spaces=SPACES,
        spec=lambda name: SimpleNamespace(entry_point="envs.mujoco:Body")))
    opener("gym:Cheetah-v5")()
    with pytest.raises(ConfigError, match="gym:Broken-v5: no such file"):
        opener("gym:Broken-v5")()
    assert said == [] and mujoco.handler == said.append
