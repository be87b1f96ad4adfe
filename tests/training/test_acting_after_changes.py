"""Whatever changes a brain's weights, no step of acting or answering is made of those before."""
from dataclasses import replace

import numpy as np
import pytest

from seed.body import open_body
from seed.evaluation import TrainedBrain
from seed.profile_file import load_profile
from seed.resize import grow_brain, shrink, shrink_brain
from seed.storage import RunDir
from seed.training import adapt_to_body, train
from seed.training.stop_signals import StopSignals
from seed.wavecore.layout import packed_matrices
from seed.wavecore.stepping import Stepper
from seed.wavecore.tinygrad_seam import buffer_view
from tests.support.simple_bodies import Target
from tests.support.small_body_runs import profile
from tests.support.small_run import untrained_run

SELF_PLAY = ("curriculum.tasks={copy=1.0, parity=1.0}", "selfplay.tasks={parity=4}",
             "selfplay.every_steps=1", "selfplay.questions=4", "train.seq_len=64")


def by_columns(stepper: Stepper) -> dict[str, np.ndarray]:
    """What should be packed, by its definition: 16 rows of a matrix as columns, the next 16."""
    panels = {}
    for block in stepper.model.blocks:
        if matrices := packed_matrices(block):
            flat, offsets = buffer_view(stepper.model.packed[block.name]), block.offsets()
            panels[block.name] = np.concatenate([
                flat[offsets[a.name]:offsets[a.name] + a.packed_size]
                .reshape(-1, 16, a.shape[1]).swapaxes(1, 2).reshape(-1) for a in matrices])
    return panels


@pytest.fixture
def checks(monkeypatch) -> list[int]:
    """The version of the weights in each step that was made, and found to be of those weights."""
    refresh, versions = Stepper.refresh, list[int]()

    def checked(stepper: Stepper) -> None:
        refresh(stepper)
        for name, panels in by_columns(stepper).items():
            assert np.array_equal(buffer_view(stepper._panels[name]), panels), name
        versions.append(stepper.model.version)
    monkeypatch.setattr(Stepper, "refresh", checked)
    monkeypatch.setitem(open_body.BODIES, "target", Target)
    return versions


def acts(run_dir: RunDir, body: str = "") -> None:
    brain = TrainedBrain.load(run_dir, log=lambda line: None)
    brain.greedy_answers([b"0#", b"10#"], 3)
    brain.generate("0#", 3)
    if body:
        brain.returns(body, 2, 0)


def test_trained_adapted_and_grown_brains_act_as_they_are(tmp_path, checks):
    run_dir, recipe = RunDir(tmp_path / "run"), profile(6, *SELF_PLAY, "body.curriculum_steps=1")
    train(recipe, run_dir, 1, lambda line: None)
    assert len(set(checks)) > 4   # after one step and after others
    acts(run_dir, "target")
    checks.clear()
    adapt_to_body(run_dir, body="target", log=lambda line: None, steps=3, signals=StopSignals())
    assert len(set(checks)) > 1
    larger = replace(recipe, model=replace(recipe.model, d_ff=64))
    grow_brain(run_dir, larger, log=lambda line: None)
    checks.clear()
    acts(run_dir, "target")
    assert checks


@pytest.mark.long
def test_a_shrunk_brain_acts_as_it_is(tmp_path, checks, monkeypatch):
    monkeypatch.setattr(shrink.calibration_batches, "__defaults__", (2,))
    untrained_run(tmp_path / "parent", "train.seq_len=64", *SELF_PLAY[:1])
    child = load_profile("fast", ["train.batch_size=2", "distill.batches=5", "train.minutes=10.0",
                                  "train.steps=3", *SELF_PLAY])
    shrink_brain(RunDir(tmp_path / "parent"), RunDir(tmp_path / "child"), child,
                 log=lambda line: None, signals=StopSignals())
    assert len(set(checks)) > 1
    acts(RunDir(tmp_path / "child"))
