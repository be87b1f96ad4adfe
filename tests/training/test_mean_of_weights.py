"""The brain is the mean of a training's newest weights: while it trains, and at its end."""
import numpy as np
import pytest

from seed.errors import CheckpointError
from seed.evaluation import TrainedBrain
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.storage.checkpoint import TRAINED
from seed.training import train
from seed.training.session import Session
from seed.training.step import Learner
from seed.wavecore.model import init_params
from tests.support.changed_point import SMALL as SMALL_BODY
from tests.support.small_run import SMALL

PROFILE = load_profile("toy", [*SMALL, "model.n_layers=2", "curriculum.holdout_items=2"])
LONG = "train.average_fraction=0.9"   # so that few steps are enough


def weights(seed: int) -> dict[str, np.ndarray]:
    return init_params(PROFILE.model, seed)


def has_mean(tensors) -> bool:
    return any(key.startswith(TRAINED) for key in tensors)


def trained(folder, steps: int, *overrides: str, early_stop_fn=None) -> RunDir:
    profile = load_profile("toy", [
        *SMALL, "model.n_layers=2", "curriculum.holdout_items=2", "train.warmup_steps=0",
        f"train.steps={steps}", LONG, *overrides])
    train(profile, RunDir(folder), 1, lambda line: None, early_stop_fn=early_stop_fn)
    return RunDir(folder)


def test_a_learner_is_asked_as_its_weights_and_as_its_brain():
    learner = Learner(PROFILE, 1)
    optim = {key: array for key, array in learner.state_dict().items() if key not in weights(0)}
    learner.load_state_dict({**optim, **weights(1), **{
        TRAINED + key: array for key, array in weights(2).items()}})
    assert learner.max_bytes == sum(array.nbytes for array in learner.state_dict().values())
    prompts = np.frombuffer(b"abc>", np.uint8).astype(np.int32), np.array([0, 4], np.int32)
    logits = {}
    for seed in (1, 2):
        other = Learner(PROFILE, 1)
        other.load_weights(weights(seed))
        logits[seed] = other.forward(*prompts).copy()
    assert np.array_equal(learner.forward(*prompts), logits[2])
    with learner.as_brain():
        assert np.array_equal(learner.forward(*prompts), logits[1])
    assert np.array_equal(learner.forward(*prompts), logits[2])


def test_the_holdout_is_asked_of_the_brain_and_the_curriculum_of_the_weights(tmp_path, monkeypatch):
    was_used, evaluate = {}, Session.evaluate

    def evaluated(self, items, *others):
        kind = "curriculum" if items is self.curriculum_items() else "holdout"
        was_used[kind] = self.learner._average._is_used
        return evaluate(self, items, *others)
    monkeypatch.setattr(Session, "evaluate", evaluated)
    trained(tmp_path, 30, "curriculum.eval_every_steps=20")
    assert was_used == {"curriculum": False, "holdout": True}


def test_a_resumed_training_goes_on_with_the_bits_of_both(tmp_path):
    whole = trained(tmp_path / "whole", 60, "train.decay_fraction=0")
    tensors = checkpoint.read(whole.checkpoint).tensors
    assert any(key.startswith(TRAINED) for key in tensors)
    part = trained(tmp_path / "part", 60, "train.decay_fraction=0",
                   early_stop_fn=lambda step, loss, grade: step == 37)
    assert checkpoint.read_meta(part.checkpoint)["step"] == 37
    again = trained(tmp_path / "part", 60, "train.decay_fraction=0")
    resumed = checkpoint.read(again.checkpoint).tensors
    assert resumed.keys() == tensors.keys()
    assert all(np.array_equal(resumed[key], tensors[key]) for key in tensors)


def test_at_the_end_of_a_decay_the_mean_is_the_weights(tmp_path):
    stopped = trained(tmp_path, 57, early_stop_fn=lambda step, loss, grade: step == 25)
    assert has_mean(checkpoint.read(stopped.checkpoint).tensors)
    finished = checkpoint.read(trained(tmp_path, 57).checkpoint)
    assert finished.meta["step"] == 57 and not has_mean(finished.tensors)


def test_who_changes_a_brain_in_training_changes_what_is_trained_on(tmp_path):
    run_dir = trained(tmp_path, 40, early_stop_fn=lambda step, loss, grade: step == 25)
    brain = run_dir.load_brain(lambda line: None)
    assert not has_mean(brain.tensors) and brain.tensors.keys() <= checkpoint.read(
        run_dir.checkpoint).tensors.keys()
    changed = {**brain.tensors, **weights(5)}
    run_dir.save(changed, brain.meta)
    learner = Learner(PROFILE, 1)
    learner.load_state_dict(checkpoint.read(run_dir.checkpoint).tensors)
    for key, array in weights(5).items():
        assert np.array_equal(learner.model.state_dict()[key], array)


def test_a_brain_that_acts_is_its_weights(tmp_path):
    profile = load_profile("control", [*SMALL_BODY, "body.rounds={cartpole = 1}", "train.steps=30",
                                       "train.decay_fraction=0", LONG])
    train(profile, RunDir(tmp_path), 1, lambda line: None)
    assert not has_mean(checkpoint.read(RunDir(tmp_path).checkpoint).tensors)


@pytest.mark.parametrize("change, message", [
    (lambda tensors: tensors.pop(TRAINED + "embedding"), "trained.embedding is missing"),
    (lambda tensors: tensors.update({TRAINED + "x": np.zeros(3, np.float32)}),
     "trained.x is not expected"),
    (lambda tensors: tensors.update({TRAINED + "norm_f": np.zeros(3, np.float32)}),
     r"trained.norm_f is float32 \(3,\)")])
def test_a_checkpoint_with_other_weights_is_refused_and_kept(tmp_path, change, message):
    run_dir = trained(tmp_path, 40, early_stop_fn=lambda step, loss, grade: step == 25)
    newest = checkpoint.read(run_dir.checkpoint)
    change(newest.tensors)
    run_dir.save(newest.tensors, newest.meta)
    before = run_dir.checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        trained(tmp_path, 40)
    assert run_dir.checkpoint.read_bytes() == before
    assert TrainedBrain.load(run_dir).step == 25   # what is used of it is whole
