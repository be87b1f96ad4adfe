"""An adaptation that does not pass its limits changes nothing; one that does is replayed later."""
import json
import random
import shutil
from dataclasses import replace

import pytest

from seed.__main__ import main
from seed.config import from_dict
from seed.errors import REFUSED, ConfigError, StopReason
from seed.evaluation import TrainedBrain
from seed.evaluation.acceptance import Limits
from seed.storage import RunDir, checkpoint
from seed.storage.replay import Replay
from seed.training import adapt_brain, pipeline, train, undo_adaptation
from seed.training.stop_signals import StopSignals
from tests.support.rules import append, lines, rule, small_brain

UNJUDGED = Limits(0, 100)


@pytest.fixture
def run_dir(tmp_path) -> RunDir:
    return small_brain(tmp_path / "brain")


def adapt(run_dir: RunDir, data: str, steps: int = 2, signals=None, **options):
    return adapt_brain(run_dir, data, log=options.pop("log", lambda line: None), steps=steps,
                       signals=signals or StopSignals(), **{"limits": UNJUDGED, **options})


def stopped_at(run_dir: RunDir, data: str, step: int, steps: int):
    """An adaptation that is interrupted."""
    signals, take_step = StopSignals(), pipeline.loop.Session.take_step
    with pytest.MonkeyPatch.context() as patch:
        def stopping(session, *args):
            result = take_step(session, *args)
            if session.state.step == step:
                signals.stop.set()
            return result
        patch.setattr(pipeline.loop.Session, "take_step", stopping)
        result = adapt(run_dir, data, steps, signals)
    assert result.train.reason is StopReason.STOPPED and result.train.step == step


def know(monkeypatch, text: str) -> None:
    """Before, the brain has all right in tasks with that text in their names."""
    score_fn = TrainedBrain.scores
    monkeypatch.setattr(TrainedBrain, "scores", lambda brain, items, dataset: [
        replace(s, correct=s.count, hits=(True,) * s.count) if text in s.task else s
        for s in score_fn(brain, items, dataset)])


def taught(run_dir: RunDir) -> dict[str, int]:
    """How many examples of each rule the brain's later trainings replay."""
    rules = Replay.read(run_dir, checkpoint.read_meta(run_dir.checkpoint), print).rules
    return {name: len(items) for name, items in rules.items()}


def replay_files(run_dir: RunDir) -> list[str]:
    return sorted(path.name for path in run_dir.path.glob("replay.*"))


def test_what_is_not_learnt_is_refused_with_its_figures_and_the_brain_keeps_every_bit(
        tmp_path, run_dir, capsys):
    data, before = rule(tmp_path / "rule.jsonl", "?"), run_dir.checkpoint.read_bytes()
    adapt(run_dir, rule(tmp_path / "first.jsonl", "!"))
    undo_adaptation(run_dir)
    names = {path.name for path in run_dir.path.iterdir()}
    command = ["adapt", f"--run-dir={run_dir}", f"--data={data}", "--steps=2", "--threads=1"]
    assert main(command) == REFUSED == 3
    out, err = capsys.readouterr()
    assert data[-20:] in out and err.splitlines()[-1].startswith(
        "seed: rule.jsonl is not learnt: 0.0 % before, 0.0 % after of ")
    assert err.splitlines()[-1].endswith("the brain stays as it was; give better or more data, or "
                                         "other --min-gain and --max-loss")
    assert main([*command, "--json"]) == REFUSED
    report = json.loads(capsys.readouterr().out)
    assert report["refused"].startswith("rule.jsonl is not learnt") and report["after"]
    assert run_dir.checkpoint.read_bytes() == before
    assert {path.name for path in run_dir.path.iterdir()} == names   # nothing is left of it
    assert main([*command, "--min-gain=0", "--max-loss=100"]) == 0
    assert run_dir.checkpoint.read_bytes() != before
    capsys.readouterr()
    assert main(["adapt", f"--run-dir={run_dir}", "--undo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"undone": True}
    assert run_dir.checkpoint.read_bytes() == before


def test_a_loss_of_an_old_task_is_refused_with_its_name(tmp_path, run_dir, monkeypatch):
    data, before = rule(tmp_path / "rule.jsonl", "?"), run_dir.checkpoint.read_bytes()
    know(monkeypatch, "")
    result = adapt(run_dir, data, limits=Limits(1, 3))
    assert result.refusal.startswith("copy is lost: 100.0 % before, ")
    assert run_dir.checkpoint.read_bytes() == before and not run_dir.adaptation.path.exists()


def test_too_few_held_out_examples_end_it_before_any_step(tmp_path, run_dir):
    data = rule(tmp_path / "rule.jsonl", "?", range(10, 22))
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="held-out examples? cannot tell if the rule is learnt"):
        adapt(run_dir, data, limits=Limits())
    assert not run_dir.adaptation.path.exists() and run_dir.checkpoint.read_bytes() == before
    assert adapt(run_dir, data, limits=Limits(0, 100)).train.finished


def test_a_second_rule_is_learnt_beside_the_first_whose_examples_are_replayed(tmp_path, run_dir):
    a, b = (rule(tmp_path / f"{name}.jsonl", sign) for name, sign in (("a", "?"), ("b", "!")))
    assert {score.task for score in adapt(run_dir, a).after} == {"copy", "parity", a}
    assert taught(run_dir) == {"a.jsonl": 40}
    result = adapt(run_dir, b)
    assert {score.task for score in result.after} == {
        "copy", "parity", b, "a.jsonl (taught before)"}
    assert {score.task for score in result.before} == {score.task for score in result.after}
    assert taught(run_dir) == {"a.jsonl": 40, "b.jsonl": 40}
    assert len(replay_files(run_dir)) == 2   # of the brain, and of the one before
    undo_adaptation(run_dir)
    assert taught(run_dir) == {"a.jsonl": 40}
    undo_adaptation(run_dir)
    assert taught(run_dir) == {}
    assert "replay" not in checkpoint.read_meta(run_dir.checkpoint)


def test_a_rule_that_is_lost_by_the_next_one_is_refused(tmp_path, run_dir, monkeypatch):
    a, b = (rule(tmp_path / f"{name}.jsonl", sign) for name, sign in (("a", "?"), ("b", "!")))
    adapt(run_dir, a)
    before = run_dir.checkpoint.read_bytes()
    know(monkeypatch, "taught before")
    reason = adapt(run_dir, b, limits=Limits(0, 3)).refusal
    assert reason.startswith("a.jsonl (taught before) is lost: 100.0 % before")
    assert run_dir.checkpoint.read_bytes() == before and taught(run_dir) == {"a.jsonl": 40}


def test_replay_is_resumed_with_the_same_bits_and_training_continues_it(tmp_path, run_dir):
    a, b = (rule(tmp_path / f"{name}.jsonl", sign) for name, sign in (("a", "?"), ("b", "!")))
    adapt(run_dir, a)
    adapt(run_dir, b, 6)
    whole = run_dir.checkpoint.read_bytes()
    undo_adaptation(run_dir)
    stopped_at(run_dir, b, 2, 6)
    adapt(run_dir, b, 6)
    assert run_dir.checkpoint.read_bytes() == whole

    profile = from_dict(checkpoint.read_meta(run_dir.checkpoint)["profile"])
    profile = replace(profile, train=replace(profile.train, steps=2))
    result = train(profile, run_dir, 1, lambda line: None, StopSignals())
    assert {score.task for score in result.scores} == {
        "copy", "parity", "a.jsonl (taught before)", "b.jsonl (taught before)"}
    assert taught(run_dir) == {"a.jsonl": 40, "b.jsonl": 40}   # and so does whatever follows
    with pytest.raises(ConfigError, match="was trained since"):
        undo_adaptation(run_dir)


def test_replay_changes_what_is_learnt(tmp_path, run_dir):
    a, b = (rule(tmp_path / f"{name}.jsonl", sign) for name, sign in (("a", "?"), ("b", "!")))
    adapt(run_dir, a)
    before = run_dir.checkpoint.read_bytes()
    adapt(run_dir, b)
    weights = checkpoint.read(run_dir.checkpoint).tensors
    undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == before
    for path in run_dir.path.glob("replay.*"):
        path.unlink()
    logged = []
    adapt(run_dir, b, log=logged.append)
    without = checkpoint.read(run_dir.checkpoint).tensors
    assert any((array != without[key]).any() for key, array in weights.items())
    assert any("are not replayed" in line for line in logged)


def test_a_file_that_grows_while_it_is_learnt_is_learnt_in_a_second_run(tmp_path, run_dir, capsys):
    data, logged = rule(tmp_path / "rule.jsonl", "?"), []
    stopped_at(run_dir, data, 2, 6)
    append(data, lines("?", range(60, 90)) + '{"prompt": "91?", "ans')   # and is being written
    assert adapt(run_dir, data, 6, log=logged.append).train.finished
    assert "resuming from step 2" in capsys.readouterr().err
    assert "has grown since this adaptation began: run the same command again" in logged[-1]
    assert taught(run_dir) == {"rule.jsonl": 40}
    assert adapt(run_dir, data, 6).train.finished
    assert taught(run_dir) == {"rule.jsonl": 70}
    assert adapt(run_dir, data, 6).train is None   # it is in place
    assert len([path for path in run_dir.undo_levels if path.exists()]) == 2


def test_what_is_written_after_an_adaptation_began_is_not_read(tmp_path, run_dir, monkeypatch):
    """The bits are those of the file as it was."""
    data = rule(tmp_path / "rule.jsonl", "?")
    adapt(run_dir, data, 4)
    bits = run_dir.checkpoint.read_bytes()
    undo_adaptation(run_dir)
    score_fn = TrainedBrain.scores

    def recording(brain, *args):   # before the training
        append(data, lines("?", range(100, 200)))
        return score_fn(brain, *args)
    monkeypatch.setattr(TrainedBrain, "scores", recording)
    adapt(run_dir, data, 4)
    assert run_dir.checkpoint.read_bytes() == bits


def test_a_file_that_was_rewritten_begins_anew(tmp_path, run_dir, capsys):
    data = rule(tmp_path / "rule.jsonl", "?")
    stopped_at(run_dir, data, 2, 4)
    rule(tmp_path / "rule.jsonl", "?", range(11, 51))
    assert adapt(run_dir, data, 4).train.finished
    assert "resuming from step 2" not in capsys.readouterr().err


def test_one_that_was_cut_off_as_it_was_thrown_away_begins_anew(tmp_path, run_dir, monkeypatch):
    data, other = (rule(tmp_path / f"{name}.jsonl", "?") for name in ("rule", "other"))
    stopped_at(run_dir, data, 1, 3)

    def cut_off(folder, **options):   # some of its files are gone
        (folder / "examples").unlink()
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            adapt(run_dir, other, 3)
    assert adapt(run_dir, data, 3).train.finished


def test_a_class_leaves_examples_too(tmp_path, run_dir):
    (tmp_path / "task.py").write_text(
        "class Double:\n    levels = 2\n\n    def chance(self, level):\n        return 0.1\n\n"
        "    def generate(self, rng, level):\n"
        "        n = int(rng.random() * 500)\n        return f'{n}?', str(2 * n)\n\n"
        "    def verify(self, prompt, answer):\n"
        "        return int(answer) == 2 * int(prompt[:-1])\n")
    adapt(run_dir, f"{tmp_path}/task.py:Double")
    names = taught(run_dir)
    assert list(names) == ["task.py:Double"] and 100 < names["task.py:Double"] <= 1000


@pytest.mark.long
def test_shuffled_labels_are_refused_after_a_real_training(tmp_path):
    """Two answers, of which a constant one is right in half of the held-out examples."""
    run_dir = small_brain(tmp_path / "brain", "curriculum.holdout_items=64")
    answers = ["yes", "no"] * 100
    random.Random(0).shuffle(answers)
    (tmp_path / "rule.jsonl").write_text(lines("?", range(100, 300), answers))
    before = run_dir.checkpoint.read_bytes()
    result = adapt(run_dir, str(tmp_path / "rule.jsonl"), 300, lr=0.02, share=0.5, limits=Limits())
    after = next(score for score in result.after if score.task.endswith("rule.jsonl"))
    assert after.accuracy > 0.2 and "rule.jsonl is not learnt" in result.refusal
    assert run_dir.checkpoint.read_bytes() == before
