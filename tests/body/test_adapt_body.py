"""A body that has changed: learnt with the old one as replay, resumed, published and undone."""
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from seed.__main__ import main
from seed.body import open_body, play
from seed.body.facts import Facts
from seed.body.pendulum import Pendulum
from seed.body.value_range import ValueRange
from seed.config import BodyConfig, ModelConfig, TrainConfig
from seed.errors import BodyError, ConfigError, StopReason
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.training import (adapt_body, adapt_brain, adapt_to_body, pipeline, train,
                           undo_adaptation)
from seed.training.adapt_body import Source, profile_for_body
from seed.training.stop_signals import StopSignals
from seed.wavecore.actor import init_body
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.optim import Optimizer
from tests.support.processes import kill_at_line
from tests.support.recorded import recorded
from tests.support.simple_bodies import Target
from tests.support.small_body_runs import SMALL, profile
from tests.support.tiny_run import WAIT_S


class Reversed(Target):
    """Rewards the other action."""

    def step(self, action):
        return super().step(1 - action)


@pytest.fixture(autouse=True)
def bodies(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "target", Target)
    monkeypatch.setitem(open_body.BODIES, "reversed", Reversed)


def brain(folder, steps: int = 2, *overrides: str, body: str = "target") -> RunDir:
    train(profile(steps, *overrides, body=body), RunDir(folder), 1, lambda line: None)
    return RunDir(folder)


def adapt(run_dir: RunDir, steps: int = 4, lr: float = 1e-3, **options):
    options = {"body": "reversed", **options}
    return adapt_to_body(run_dir, log=lambda line: None, steps=steps, lr=lr,
                         **{"signals": StopSignals(), **options})


def means(acting) -> dict[str, float]:
    return {row.body: row.mean for row in acting.returns}


def test_a_changed_body_is_learnt_in_the_tables_of_the_old_one_and_undo_restores_every_bit(
        tmp_path):
    run_dir = brain(tmp_path / "run", 60)
    before = run_dir.checkpoint.read_bytes()
    result = adapt(run_dir, 60, 4e-3)
    assert means(result.before)["target"] > 8 and means(result.before)["reversed"] < 2
    assert means(result.after)["reversed"] > 6   # of 10; both bodies look alike
    assert result.in_context is not None and result.in_context < 2   # it cannot find out
    after, parent = (checkpoint.read(path) for path in (run_dir.checkpoint,
                                                        run_dir.checkpoint_before_adaptation))
    assert after.meta["bodies"] == parent.meta["bodies"]
    assert after.meta["profile"] == parent.meta["profile"]
    assert set(after.tensors) == set(parent.tensors)
    assert not run_dir.adaptation.path.exists()
    assert adapt(run_dir, 60, 4e-3) == adapt_body.BodyAdaptResult()   # it is in place
    undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == before


def test_stops_and_threads_change_no_bit(tmp_path):
    run_dir = brain(tmp_path / "run", 2, "body.curriculum_steps=1")
    before = run_dir.checkpoint.read_bytes()
    assert adapt(run_dir, 8, threads=2).train.finished
    whole = run_dir.checkpoint.read_bytes()
    undo_adaptation(run_dir)
    for _ in range(2):
        signals, calls = StopSignals(), []

        class Stopping(Reversed):
            def reset(self, seed=None):
                calls.append(0)
                if len(calls) == 230:   # after the first evaluations, in training
                    signals.stop.set()
                return super().reset(seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(open_body.BODIES, "reversed", Stopping)
            result = adapt(run_dir, 8, signals=signals)
        assert result.train.reason is StopReason.STOPPED and result.train.step
        assert run_dir.checkpoint.read_bytes() == before
    assert adapt(run_dir, 8).train.finished
    assert run_dir.checkpoint.read_bytes() == whole


def test_episodes_of_a_changed_body_are_cloned_with_the_old_body_as_replay(tmp_path):
    run_dir = brain(tmp_path / "run", body="reversed")
    data = recorded(tmp_path / "data", reward=0.0)   # of target, which this brain does not know
    result = adapt(run_dir, 6, body="", data=str(data))
    assert set(means(result.after)) == {"target", "reversed"}
    assert [row.data for row in result.after.choices] == [str(data)]
    assert list(checkpoint.read_meta(run_dir.checkpoint)["bodies"]) == ["reversed"]
    assert adapt(run_dir, 6, body="", data=str(data)).train is None
    recorded(data, seed=1, reward=0.0)
    assert adapt(run_dir, 6, body="", data=str(data)).train.finished


def test_episodes_of_another_rate_are_refused_and_leave_the_brain(tmp_path, monkeypatch):
    monkeypatch.setattr(Target, "rate_hz", 50, raising=False)
    run_dir, data = brain(tmp_path / "run", body="reversed"), recorded(
        tmp_path / "data", reward=0.0)
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="data was recorded at 10 Hz, and reversed acts at 50 Hz"):
        adapt(run_dir, 6, body="", data=str(data))
    assert run_dir.checkpoint.read_bytes() == before


def test_nothing_is_left_of_a_body_that_fails_before_a_step(tmp_path):
    class Failing(Target):
        def reset(self, seed):
            raise BodyError("it does not answer")
    run_dir = brain(tmp_path / "run")
    before = run_dir.checkpoint.read_bytes()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BodyError, match="not answer"):
        patch.setitem(open_body.BODIES, "reversed", Failing)
        adapt(run_dir)
    assert run_dir.checkpoint.read_bytes() == before and not run_dir.adaptation.path.exists()


def test_the_command_says_what_was_before_and_after(tmp_path, capsys):
    run_dir = brain(tmp_path / "run", 1)
    command = ["adapt", "--run-dir", str(run_dir), "--threads=1", "--steps=2", "--body=reversed",
               "--min-gain=0", "--max-loss=100"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["step"] == 2 and set(result["before"]) == set(result["after"])
    assert [row["body"] for row in result["after"]["returns"]] == ["reversed", "target"]
    assert 0 <= result["in_context"] <= 10
    assert main(command) == 0
    assert "in place already" in capsys.readouterr().out
    assert main([*command, "--steps=3"]) == 0
    assert re.search(r"\nreversed: \d+\.\d+ becomes \d+\.\d+ in context, by memory alone, and "
                     r"\d+\.\d+ in weights\n", capsys.readouterr().out)
    assert main([*command, f"--data={tmp_path}"]) == 2
    assert "--body and --data are both given" in capsys.readouterr().err


def test_the_mixture_has_the_old_bodies_and_the_curriculum_if_it_was_learnt():
    facts = {name: Facts(open_body.make_codec(name, open_fn, 0)[0], ValueRange(0.0, 1.0))
             for name, open_fn in (("target", Target), ("pendulum", Pendulum), ("rover", Target),
                                   ("gone.py:Body", Target))}   # rover: no built-in one
    for curriculum_steps in (0, 3):
        parent = load_profile("control", [f"body.curriculum_steps={curriculum_steps}"])
        profile = profile_for_body(parent, Source("reversed", "reversed", "reversed", "", None),
                                   "target", facts, 1.0, 0, 1e-3)
        body = profile.body
        assert body.rounds == {"reversed": 2, "target": 1, "pendulum": 1} and not body.data
        assert body.same_as == {"reversed": "target"}
        assert body.curriculum_steps == min(1, curriculum_steps) and body.value_rounds > 0


def test_the_policy_stays_while_the_value_is_learnt_first(monkeypatch):
    codec, rewards = open_body.make_codec("target", Target, 0)
    assert rewards.max() > 0
    config = ModelConfig(d_model=32, n_layers=1, d_ff=16)
    params = init_params(config, 0) | init_body(config, codec.body, 0)
    model = WaveCore(config, params, 1, bodies=[codec.body])
    body = play.BodyPlay(model, Optimizer(model, TrainConfig()), Facts(codec, ValueRange(0, 10)),
                         Target, BodyConfig(rows=4, ticks=8, chunk=8, value_rounds=1), 0)
    examples = []
    monkeypatch.setattr(play, "take_steps", lambda step, each, *_: examples.append(each) or (0, 0))
    for number in (0, 1):
        played = body.play(number, bool)
        body.learn(played, 1e-3)
        moved = examples[-1].control.policy - played.policy
        assert (np.abs(moved).max() < 0.01) == (number == 0)


@pytest.mark.parametrize("options, message", [
    ({"body": "nobody", "same_as": "nothing"}, "has no body nothing; nearest is target; say with "),
    ({"body": "nobody"}, "body nobody is unknown"), ({"body": "pendulum"}, "pendulum has other "),
    ({"body": "", "data": "nowhere"}, "nowhere/metadata.json: No such file")])
def test_what_cannot_be_adapted_to_is_refused_and_changes_nothing(tmp_path, options, message):
    run_dir = brain(tmp_path / "run", 1)
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match=message):
        adapt(run_dir, **options)
    assert run_dir.checkpoint.read_bytes() == before


def test_a_rule_is_learnt_by_a_brain_with_a_body_which_is_replayed(tmp_path, monkeypatch):
    run_dir = brain(tmp_path / "run", 30)
    monkeypatch.delattr(pipeline, "measure")   # the body is as the brain knows it
    (tmp_path / "rule.jsonl").write_text("".join(
        json.dumps({"prompt": f"{i}?", "answer": str(i + 1)}) + "\n" for i in range(40)))
    result = adapt_brain(run_dir, str(tmp_path / "rule.jsonl"), signals=StopSignals(), steps=4,
                         log=lambda line: None)
    assert [row.body for row in result.train.returns] == ["target"] and result.after
    after, parent = (checkpoint.read(path) for path in (run_dir.checkpoint,
                                                        run_dir.checkpoint_before_adaptation))
    assert after.meta["bodies"] == parent.meta["bodies"]
    assert not np.array_equal(after.tensors["embedding"], parent.tensors["embedding"])


@pytest.mark.long
def test_a_killed_adaptation_ends_with_the_same_bits(tmp_path):
    profile = load_profile("control", [*SMALL, "body.rounds={cartpole = 1}", "train.steps=3"])
    run_dir = RunDir(tmp_path / "run")
    train(profile, run_dir, 1, lambda line: None)
    (tmp_path / "weak.py").write_text(
        "from seed.body.cart_pole import CartPole\n\n\nclass Weak(CartPole):\n"
        "    def __init__(self):\n        super().__init__()\n        self.force_n = 5.0\n")
    before = run_dir.checkpoint.read_bytes()
    command = [sys.executable, "-m", "seed", "adapt", "--run-dir", str(run_dir), "--threads=1",
               "--json", "--steps=12", f"--body={tmp_path / 'weak.py'}:Weak", "--min-gain=0",
               "--max-loss=100"]
    for lines in (4, 12):
        kill_at_line(command, run_dir.adaptation.metrics, lines)
        assert run_dir.checkpoint.read_bytes() == before
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["body"] for row in result["after"]["returns"]] == ["weak.py:Weak", "cartpole"]
    killed = run_dir.checkpoint.read_bytes()
    undo_adaptation(run_dir)
    adapt(run_dir, 12, body=f"{tmp_path / 'weak.py'}:Weak")
    assert run_dir.checkpoint.read_bytes() == killed
