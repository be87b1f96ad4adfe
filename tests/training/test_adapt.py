"""A new rule from recorded examples: learnt beside the old, interruptible, undone bit for bit."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from seed.config import from_dict, load_profile
from seed.errors import ConfigError
from seed.storage import RunDir
from seed.training import adapt
from seed.storage import checkpoint
from tests.support.small_run import untrained_run

LR = 5e-4


@pytest.fixture
def brain(tmp_path):
    """A run directory with an untrained brain, and a file with a rule it does not know."""
    untrained_run(tmp_path / "brain", "curriculum.holdout_items=4")
    (tmp_path / "rule.jsonl").write_text("\n".join(
        json.dumps({"prompt": f"after {a}?", "answer": chr(ord(a) + 1)}) + "\n"
        for a in "abcdefghijklmnopqrstuvwxy"))
    return tmp_path


def run(folder, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=120)


def command(folder, *options: str) -> list[str]:
    return [sys.executable, "-m", "seed", "adapt", "--run-dir", str(folder / "brain"),
            "--threads=1", "--json", *options]


def bits(folder) -> bytes:
    return RunDir(folder / "brain").checkpoint.read_bytes()


def learn(folder, steps: int = 30) -> list[str]:
    return ["--data", str(folder / "rule.jsonl"), f"--steps={steps}", f"--lr={LR}"]


def test_an_adapted_brain_knows_the_rule_and_undo_brings_back_every_bit(brain):
    before = bits(brain)
    done = run(brain, *learn(brain, 150), "--lr=0.01")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    new = {when: next(s["accuracy"] for s in found[when] if s["task"].endswith("rule.jsonl"))
           for when in ("before", "after")}
    old = {s["task"] for s in found["after"]}
    assert new["before"] == 0 and old == {"copy", "parity", str(brain / "rule.jsonl")}
    after = checkpoint.read(RunDir(brain / "brain").checkpoint)
    parent = checkpoint.read(RunDir(brain / "brain").checkpoint_before_adaptation)
    assert any((after.tensors[key] != parent.tensors[key]).any() for key in parent.tensors)
    assert after.meta["profile"] == parent.meta["profile"]
    assert [p.name for p in RunDir(brain / "brain").adaptation.path.iterdir()] == ["of.json"]
    undone = run(brain, "--undo")
    assert undone.returncode == 0 and bits(brain) == before
    assert not RunDir(brain / "brain").checkpoint_before_adaptation.exists()
    again = run(brain, "--undo")
    assert again.returncode == 2 and "nothing to undo" in again.stderr
    assert not RunDir(brain / "brain").adaptation.path.exists()


def test_a_light_adaptation_changes_no_matrix(brain):
    done = run(brain, *learn(brain), "--lr=0.01", "--light")
    assert done.returncode == 0, done.stderr
    after = checkpoint.read(RunDir(brain / "brain").checkpoint).tensors
    before = checkpoint.read(RunDir(brain / "brain").checkpoint_before_adaptation).tensors
    weights = {key for key in before if f"m.{key}" in before}
    changed = {key for key in weights if (after[key] != before[key]).any()}
    assert changed == {key for key in weights if not key.endswith("_proj")}


def test_a_killed_adaptation_goes_on_to_the_same_bits(brain, tmp_path):
    before = bits(brain)
    metrics = RunDir(brain / "brain").adaptation.path / "metrics.jsonl"
    for steps in (3, 15):
        process = subprocess.Popen(command(brain, *learn(brain)), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        while not metrics.exists() or metrics.read_text().count('"kind": "step"') < steps:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(brain, *learn(brain)).returncode == 0
    killed = checkpoint.read(RunDir(brain / "brain").checkpoint)
    RunDir(brain / "brain").checkpoint.write_bytes(before)
    assert run(brain, *learn(brain)).returncode == 0
    whole = checkpoint.read(RunDir(brain / "brain").checkpoint)
    assert all((killed.tensors[key] == whole.tensors[key]).all() for key in whole.tensors)


@pytest.mark.parametrize("cleared", [False, True])
def test_one_that_was_killed_after_its_last_save_is_not_done_twice(brain, monkeypatch, cleared):
    """Else the brain of before would be overwritten by the adapted one."""
    before = bits(brain)
    run_dir, data = brain / "brain", str(brain / "rule.jsonl")
    found = checkpoint.read(RunDir(run_dir).checkpoint)
    profile = adapt.profile_for(from_dict(found.meta["profile"]), data, 0.3, 2.0, 30, LR)
    folder = adapt._enter(RunDir(run_dir), adapt.recipe_of(profile, data))
    folder.metrics.write_text("")
    if not cleared:
        monkeypatch.setattr(adapt, "_clear", lambda run_dir: None)
    adapt._publish(RunDir(run_dir), found, {"norm_f": found.tensors["norm_f"] * 2})
    adapted = bits(brain)
    done = run(brain, *learn(brain))
    assert done.returncode == 0 and json.loads(done.stdout) == {"ended": "already"}
    assert bits(brain) == adapted
    assert RunDir(run_dir).checkpoint_before_adaptation.read_bytes() == before
    with open(data, "a", encoding="utf-8") as file:
        file.write('{"prompt": "after z?", "answer": "a"}\n')
    done = run(brain, *learn(brain))   # other examples: an adaptation of the adapted brain
    assert done.returncode == 0 and json.loads(done.stdout)["step"] == 30, done.stderr
    assert RunDir(run_dir).checkpoint_before_adaptation.read_bytes() == adapted


def test_undo_has_the_brain_of_before_even_if_the_next_adaptation_fails_or_is_killed(
        brain, monkeypatch):
    assert run(brain, *learn(brain, 3)).returncode == 0
    run_dir, data = brain / "brain", str(brain / "rule.jsonl")
    before, adapted = RunDir(run_dir).checkpoint_before_adaptation.read_bytes(), bits(brain)
    found = checkpoint.read(RunDir(run_dir).checkpoint)
    profile = adapt.profile_for(from_dict(found.meta["profile"]), data, 0.3, 2.0, 4, LR)
    adapt._enter(RunDir(run_dir), adapt.recipe_of(profile, data))
    save = RunDir.save

    def fails(*args):
        raise OSError("No space left on device")

    def is_killed(*args):
        save(*args)
        raise KeyboardInterrupt
    for what, error in ((fails, OSError), (is_killed, KeyboardInterrupt)):
        monkeypatch.setattr(RunDir, "save", what)
        with pytest.raises(error):
            adapt._publish(RunDir(run_dir), found, {"norm_f": found.tensors["norm_f"] * 2})
        adapt._settle(RunDir(run_dir))
        assert not RunDir(run_dir).staged_checkpoint.exists()
        assert RunDir(run_dir).checkpoint_before_adaptation.read_bytes() == (
            before if what is fails else adapted)
    adapt.undo_adaptation(RunDir(run_dir))
    assert bits(brain) == adapted


def test_a_brain_that_knows_nothing_but_a_file_is_adapted_with_that_file(brain):
    profile = load_profile("toy", ["curriculum.tasks={}"], [f"{brain}/rule.jsonl"])
    found = adapt.profile_for(profile, f"{brain}/rule.jsonl", 0.3, 2.0, 4, LR)
    assert found.curriculum.tasks == {f"{brain}/rule.jsonl": 1.0}


def test_undo_never_discards_what_was_learnt_since(brain):
    assert run(brain, *learn(brain, 3)).returncode == 0
    run_dir = brain / "brain"
    found = checkpoint.read(RunDir(run_dir).checkpoint)
    later = {key: value for key, value in found.meta.items() if key != "adapted"}
    RunDir(run_dir).save(found.tensors, {**later, "step": 9})   # as training or growth does
    before = bits(brain)
    done = run(brain, "--undo")
    assert done.returncode == 2 and "was trained since its adaptation" in done.stderr
    assert bits(brain) == before and RunDir(run_dir).checkpoint_before_adaptation.exists()


def test_another_brain_or_another_recipe_begins_anew(brain):
    run_dir = brain / "brain"
    parent = load_profile("toy", ["curriculum.tasks={copy=1.0}"])

    def enter(lr: float) -> bool:
        """Whether what was in the directory is still there."""
        data = str(brain / "rule.jsonl")
        folder = adapt._enter(RunDir(run_dir), adapt.recipe_of(
            adapt.profile_for(parent, data, 0.3, 0.0, 30, lr), data))
        kept = (folder.path / "mark").exists()
        (folder.path / "mark").touch()
        return kept
    assert [enter(1e-3), enter(1e-3), enter(2e-3), enter(2e-3)] == [False, True, False, True]
    with open(brain / "rule.jsonl", "a", encoding="utf-8") as file:
        file.write('{"prompt": "after z?", "answer": "a"}\n')
    assert [enter(2e-3), enter(2e-3)] == [False, True]
    found = checkpoint.read(RunDir(run_dir).checkpoint)
    RunDir(run_dir).save(found.tensors, {**found.meta, "step": 1})
    assert not enter(2e-3)


def test_the_new_rule_has_its_share_of_the_lessons_and_nobody_else_teaches():
    parent = load_profile("toy", ["selfplay.tasks={parity=4}", "teacher.tasks={add=1.0}",
                                  "teacher.kind=mock", "distill.parent=gone"])
    profile = adapt.profile_for(parent, "rule.jsonl", 0.25, 1.0, 0, 1e-3)
    tasks = profile.curriculum.tasks
    assert tasks["rule.jsonl"] / sum(tasks.values()) == pytest.approx(0.25)
    assert not profile.selfplay.tasks and not profile.teacher.kind
    assert not profile.distill.parent
    with pytest.raises(ConfigError, match="--share is 1: use more than 0"):
        adapt.profile_for(parent, "rule.jsonl", 1, 1.0, 0, 1e-3)


@pytest.mark.parametrize("options, says", [
    ([], "--data is missing"), (["--data", "rule.csv"], "use items.jsonl"),
    (["--data", "no.jsonl"], "no.jsonl: No such file"), (["--undo"], "nothing to undo")])
def test_bad_input_to_adapt_is_one_line_and_changes_nothing(brain, options, says):
    before = bits(brain)
    done = run(brain, *options)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert bits(brain) == before
