"""Soft targets on disk: what a parent expects at each target, without the parent from then on."""
import shutil
from pathlib import Path

import numpy as np

from seed.config import Profile
from seed.evaluation import TrainedBrain
from seed.practice import distill
from seed.practice.distill import SoftTargetBatches
from seed.profile_file import load_profile
from seed.storage.run_dir import RunDir
from seed.training.step import Learner
from tests.support.small_run import SMALL, batches, untrained_run
from tests.support.tensors import realized


class Child:
    """A run directory beside that of an untrained parent, whose soft targets it has."""

    def __init__(self, folder: Path):
        self.folder, self.run_dir = folder, RunDir(folder / "child")
        self.run_dir.path.mkdir()
        self.parent = untrained_run(folder / "parent")

    def profile(self, *overrides: str) -> Profile:
        return load_profile("fast", [*SMALL, f"distill.parent={self.folder / 'parent'}",
                                     "distill.batches=2", *overrides])

    def prepare(self, *overrides: str, should_stop_fn=lambda: False) -> SoftTargetBatches | None:
        return distill.prepare(self.profile(*overrides), self.run_dir, 1, print, should_stop_fn)


def test_soft_targets_are_the_parent_s_likeliest_bytes_and_outlive_it(tmp_path):
    child = Child(tmp_path)
    options = ("distill.batches=3", "distill.top_k=4", "distill.data_fraction=1")
    soft = child.prepare(*options)
    model = TrainedBrain.load(RunDir(tmp_path / "parent")).model
    for step in range(3):
        batch = soft.batch(step)
        z = model(realized(batch.tokens))[0].numpy().astype(np.float64)
        z /= child.profile(*options).distill.temperature
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        in_loss = batch.targets >= 0
        assert in_loss.any() and (batch.topk_ids[~in_loss] == -1).all()
        assert np.allclose(np.sort(batch.topk_probs[in_loss], -1)[:, ::-1],
                           np.sort(p[in_loss], -1)[:, :-5:-1], atol=1e-6)
        assert np.allclose(np.take_along_axis(p[in_loss], batch.topk_ids[in_loss].astype(int), -1),
                           batch.topk_probs[in_loss], atol=1e-6)
    assert np.array_equal(soft.batch(3).tokens, soft.batch(0).tokens)
    shutil.rmtree(tmp_path / "parent")
    again = child.prepare(*options)
    assert all(np.array_equal(a, b) for a, b in zip(soft.batch(1), again.batch(1)))


def test_a_parent_has_its_fraction_of_the_steps_and_the_curriculum_the_others(tmp_path):
    child = Child(tmp_path)
    soft = child.prepare("distill.data_fraction=0.4")
    taught = [soft.batch(step) for step in range(10)]
    assert [batch is not None for batch in taught] == [False, False, True, False, True] * 2
    assert np.array_equal(taught[2].tokens, taught[7].tokens)     # both batches in turn
    assert not np.array_equal(taught[2].tokens, taught[4].tokens)
    written_at = child.run_dir.soft_targets.stat().st_mtime_ns
    every, none = (child.prepare(f"distill.data_fraction={fraction}", "distill.alpha=0.5")
                   for fraction in (1.0, 0.0))
    assert all(every.batch(step) for step in range(4))
    assert not any(none.batch(step) for step in range(4))
    assert child.run_dir.soft_targets.stat().st_mtime_ns == written_at
    plain, both = Learner(load_profile("fast", SMALL), 1), Learner(child.profile(), 1)
    both.step(taught[2], 0.0)   # whose soft targets do not remain for the next step
    batch = batches(1)[0]
    assert both.step(batch, 0.0).loss == plain.step(batch, 0.0).loss


def test_a_damaged_or_foreign_file_is_made_again_and_a_stop_leaves_nothing(tmp_path):
    child = Child(tmp_path)
    path = child.run_dir.soft_targets
    assert child.prepare(should_stop_fn=lambda: True) is None
    assert not list(child.run_dir.path.iterdir())
    child.prepare()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    child.prepare()
    assert path.read_bytes() == whole
    child.prepare("distill.temperature=3")
    assert path.read_bytes() != whole
