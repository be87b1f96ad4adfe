"""A new rule from recorded examples: trained among the old tasks, resumed and undone exactly."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seed.config import from_dict
from seed.curriculum.user_tasks import load
from seed.errors import ConfigError, SeedError, StopReason
from seed.evaluation import TrainedBrain
from seed.evaluation.on_data import trained_on_data
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.storage.replay import Replay
from seed.training import adapt
from seed.training.adapt import adapt_brain, profile_for, recipe_of, undo_adaptation
from seed.training.stop_signals import StopSignals
from tests.support.processes import kill_at_line
from tests.support.small_run import untrained_run
from tests.support.tiny_run import WAIT_S

LR = 5e-4
STEPS = 30
LETTERS = "abcdefghijklmnopqrstuvwxy"
UNJUDGED = "--min-gain=0", "--max-loss=100"
NO_SPACE = "No space left on device"


@pytest.fixture
def run_dir(tmp_path) -> RunDir:
    """Of an untrained brain, beside a file with a rule that it does not know."""
    untrained_run(tmp_path / "brain", "curriculum.holdout_items=4", "model.d_model=32",
                  "model.d_ff=32", "model.n_layers=2", "model.pattern=SA")
    (tmp_path / "rule.jsonl").write_text("".join(
        json.dumps({"prompt": f"after {a}?", "answer": chr(ord(a) + 1)}) + "\n"
        for a in LETTERS))
    return RunDir(tmp_path / "brain")


def rule(run_dir: RunDir) -> str:
    return str(run_dir.path.parent / "rule.jsonl")


def add_example(run_dir: RunDir) -> None:
    with open(rule(run_dir), "a", encoding="utf-8") as file:
        file.write('{"prompt": "after z?", "answer": "a"}\n')


def adapted(run_dir: RunDir, steps: int = STEPS, lr: float = LR, **options) -> adapt.AdaptResult:
    return adapt_brain(run_dir, rule(run_dir), signals=StopSignals(), steps=steps, lr=lr, **options)


def profile_of(run_dir: RunDir, steps: int = STEPS):
    return profile_for(from_dict(checkpoint.read_meta(run_dir.checkpoint)["profile"]),
                       rule(run_dir), 0.3, 2.0, steps, LR)


def doubled_norm(brain) -> dict:
    """Weights such as an adaptation might leave."""
    return {"norm_f": brain.tensors["norm_f"] * 2}


def publish(run_dir: RunDir, brain, steps: int) -> None:
    adapt.publish(run_dir, brain, doubled_norm(brain),
                  recipe_of(profile_of(run_dir, steps), rule(run_dir)))


def right_answers(run_dir: RunDir) -> int:
    brain = TrainedBrain.load(run_dir)
    return sum(brain.generate(f"after {a}?", 3) == chr(ord(a) + 1) for a in LETTERS)


def test_an_adapted_brain_knows_the_rule_and_undo_restores_every_bit(run_dir):
    before = run_dir.checkpoint.read_bytes()
    assert right_answers(run_dir) == 0
    result = adapted(run_dir, 300, 0.02, share=0.9)
    assert right_answers(run_dir) >= 12   # of 25; some are in the holdout, never trained on
    assert next(score.accuracy for score in result.before if score.task == rule(run_dir)) == 0
    assert {score.task for score in result.after} == {"copy", "parity", rule(run_dir)}
    after = checkpoint.read(run_dir.checkpoint)
    parent = checkpoint.read(run_dir.checkpoint_before_adaptation)
    assert any((after.tensors[key] != parent.tensors[key]).any() for key in parent.tensors)
    assert after.meta["profile"] == parent.meta["profile"]
    assert not run_dir.adaptation.path.exists()
    undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == before
    assert not run_dir.checkpoint_before_adaptation.exists()
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo_adaptation(run_dir)


def test_a_table_of_facts_is_taught_and_evaluated_in_full(run_dir):
    facts = [{"prompt": f"fact {i}?", "answer": str(i)} for i in range(12)]
    Path(rule(run_dir)).write_text("\n".join(map(json.dumps, [{"holdout": False}, *facts])))
    result = adapted(run_dir)
    score = next(score for score in result.after if score.task == rule(run_dir))
    assert score.is_taught and score.count >= 4
    meta = checkpoint.read_meta(run_dir.checkpoint)
    pool, = Replay.read(run_dir, meta, print).pools()
    assert {item.prompt.decode() for item in pool.items} == {fact["prompt"] for fact in facts}
    assert [row.what for row in trained_on_data(TrainedBrain.load(run_dir), rule(run_dir))] == [
        "all"]


def test_what_is_only_evaluated_is_no_example(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": "x", "level": 1 + i % 3, "extrapolation": i % 3 == 2}
            for i in range(180)]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    items = adapt.examples_of(load(str(path)), load_profile("toy"))
    assert len(items) == 120 and {item.level for item in items} == {1, 2}


def test_a_light_adaptation_changes_no_matrix(run_dir):
    adapted(run_dir, lr=0.01, light=True)
    after = checkpoint.read(run_dir.checkpoint).tensors
    before = checkpoint.read(run_dir.checkpoint_before_adaptation).tensors
    weights = {key for key in before if f"m.{key}" in before}
    changed = {key for key in weights if (after[key] != before[key]).any()}
    assert changed == {key for key in weights if not key.endswith("_proj")}


def command(run_dir: RunDir) -> list[str]:
    return [sys.executable, "-m", "seed", "adapt", "--run-dir", str(run_dir), "--threads=1",
            "--json", f"--data={rule(run_dir)}", f"--steps={STEPS}", f"--lr={LR}", *UNJUDGED]


def run_command(run_dir: RunDir) -> dict:
    done = subprocess.run(command(run_dir), capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_adaptation_resumes_to_the_same_bits(run_dir):
    before = run_dir.checkpoint.read_bytes()
    for lines in (4, 16):
        kill_at_line(command(run_dir), run_dir.adaptation.metrics, lines)
    result = run_command(run_dir)
    assert result["step"] == STEPS and result["before"] and result["after"]
    for moment in ("before", "after"):
        tasks = result["summary"][moment]["tasks"]
        assert tasks.keys() == {row["task"] for row in result[moment]}
        assert all(scores["uniform_draw"] for scores in tasks.values())
    killed = checkpoint.read(run_dir.checkpoint)
    run_dir.checkpoint.write_bytes(before)
    adapted(run_dir)
    whole = checkpoint.read(run_dir.checkpoint)
    assert all((killed.tensors[key] == whole.tensors[key]).all() for key in whole.tensors)


def test_a_stopped_adaptation_leaves_the_brain_and_resumes(run_dir):
    before, signals = run_dir.checkpoint.read_bytes(), StopSignals()
    signals.stop.set()
    stopped = adapt_brain(run_dir, rule(run_dir), signals=signals, steps=3)
    assert stopped.train.reason is StopReason.STOPPED and stopped.before and not stopped.after
    assert run_dir.checkpoint.read_bytes() == before
    assert adapt_brain(run_dir, rule(run_dir), signals=StopSignals(), steps=3).train.finished


@pytest.mark.parametrize("is_cleared", [False, True])
def test_one_that_was_killed_after_its_last_save_is_not_made_twice(run_dir, monkeypatch,
                                                                   is_cleared):
    """Otherwise the adapted brain would replace the one before it."""
    before, brain = run_dir.checkpoint.read_bytes(), checkpoint.read(run_dir.checkpoint)
    recipe = recipe_of(profile_of(run_dir), rule(run_dir))
    adapt.enter(run_dir, recipe)
    with monkeypatch.context() as patch:
        if not is_cleared:
            patch.setattr(adapt.shutil, "rmtree", lambda *args, **options: None)
        adapt.publish(run_dir, brain, doubled_norm(brain), recipe)
    bits = run_dir.checkpoint.read_bytes()
    assert adapted(run_dir) == adapt.AdaptResult()
    assert run_dir.checkpoint.read_bytes() == bits
    assert run_dir.checkpoint_before_adaptation.read_bytes() == before
    add_example(run_dir)
    assert adapted(run_dir).train.step == STEPS   # other examples: of the adapted brain
    assert run_dir.checkpoint_before_adaptation.read_bytes() == bits


def test_the_command_says_that_an_adaptation_is_in_place(run_dir):
    brain = checkpoint.read(run_dir.checkpoint)
    publish(run_dir, brain, STEPS)
    assert run_command(run_dir) == {"ended": "already"}


def test_undo_restores_the_brain_before_even_if_the_next_adaptation_fails_or_is_killed(
        run_dir, monkeypatch):
    first = checkpoint.read(run_dir.checkpoint)
    publish(run_dir, first, 3)
    before, bits = (path.read_bytes() for path in (run_dir.checkpoint_before_adaptation,
                                                   run_dir.checkpoint))
    brain = checkpoint.read(run_dir.checkpoint)
    save = RunDir.save

    def fail(*args):
        raise OSError(NO_SPACE)

    def save_and_be_killed(*args):
        save(*args)
        raise KeyboardInterrupt
    for save_fn, error, kept in ((fail, OSError, before),
                                 (save_and_be_killed, KeyboardInterrupt, bits)):
        with monkeypatch.context() as patch:
            patch.setattr(RunDir, "save", save_fn)
            with pytest.raises(error):
                publish(run_dir, brain, 4)
        adapt.settle(run_dir)
        assert not run_dir.staged_checkpoint.exists()
        assert run_dir.checkpoint_before_adaptation.read_bytes() == kept
    undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == bits


def test_a_brain_that_knows_nothing_but_a_file_is_adapted_with_that_file(run_dir):
    profile = load_profile("toy", ["curriculum.tasks={}"], [rule(run_dir)])
    tasks = profile_for(profile, rule(run_dir), 0.3, 2.0, 4, LR).curriculum.tasks
    assert tasks == {rule(run_dir): 1.0}


def test_undo_never_discards_a_later_training(run_dir):
    first = checkpoint.read(run_dir.checkpoint)
    publish(run_dir, first, STEPS)
    brain = checkpoint.read(run_dir.checkpoint)
    meta = {key: value for key, value in brain.meta.items() if key != "adapted"}
    run_dir.save(brain.tensors, {**meta, "step": 9})   # as training or growth does
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="was trained since its adaptation"):
        undo_adaptation(run_dir)
    assert run_dir.checkpoint.read_bytes() == before
    assert run_dir.checkpoint_before_adaptation.exists()


def test_another_brain_or_another_recipe_begins_anew(run_dir):
    parent = load_profile("toy", ["curriculum.tasks={copy=1.0}"])

    def is_resumed(lr: float) -> bool:
        profile = profile_for(parent, rule(run_dir), 0.3, 0.0, STEPS, lr)
        mark = adapt.enter(run_dir, recipe_of(profile, rule(run_dir))).path / "mark"
        existed = mark.exists()
        mark.touch()
        return existed
    assert [is_resumed(lr) for lr in (1e-3, 1e-3, 2e-3, 2e-3)] == [False, True, False, True]
    add_example(run_dir)
    assert [is_resumed(2e-3), is_resumed(2e-3)] == [False, True]
    brain = checkpoint.read(run_dir.checkpoint)
    run_dir.save(brain.tensors, {**brain.meta, "step": 1})
    assert not is_resumed(2e-3)


def test_the_new_rule_has_its_share_of_the_items_and_nothing_else_is_practised():
    parent = load_profile("toy", ["selfplay.tasks={parity=4}", "teacher.tasks={add=1.0}",
                                  "teacher.kind=mock", "distill.parent=gone"])
    profile = profile_for(parent, "rule.jsonl", 0.25, 1.0, 0, 1e-3)
    tasks = profile.curriculum.tasks
    assert tasks["rule.jsonl"] / sum(tasks.values()) == pytest.approx(0.25)
    assert not profile.selfplay.tasks and not profile.teacher.kind
    assert not profile.distill.parent


@pytest.mark.parametrize("data, share, message", [
    ("rule.csv", 0.3, "use items.jsonl"), ("rule.jsonl", 1, "--share is 1: use more than 0"),
    ("no.jsonl", 0.3, "No such file")])
def test_bad_input_changes_nothing(run_dir, data, share, message):
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises((SeedError, OSError), match=message):
        adapt_brain(run_dir, str(Path(run_dir.path.parent, data)), signals=StopSignals(),
                    share=share)
    assert run_dir.checkpoint.read_bytes() == before and not run_dir.adaptation.path.exists()


@pytest.mark.parametrize("text, message", [
    ("", "no line with a prompt"), ("\0", "line 1: give"),
    ('{"prompt": 5, "answer": "a"}', "line 1: prompt is int"), ("\xff", "write it as UTF-8")])
def test_nothing_is_left_of_bad_examples_and_what_has_trained_stays(run_dir, text, message):
    data = Path(run_dir.path.parent, "bad.jsonl")
    data.write_text(text, encoding="latin-1")
    for has_trained in (False, True):
        with pytest.raises(ConfigError, match=message), pytest.MonkeyPatch.context() as patch:
            if has_trained:
                patch.setattr(adapt, "_copy", lambda data, n, path: (
                    shutil.copy(data, path), run_dir.adaptation.checkpoint.write_text("x")))
            adapt_brain(run_dir, str(data), signals=StopSignals())
        assert run_dir.adaptation.path.exists() == has_trained
