"""What was learnt of a body outlives the brain that it was learnt with."""
from dataclasses import replace

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.live.plane import carry
from seed.resize.grow import body_shapes, grow
from seed.storage.checkpoint import Checkpoint
from tests.support.acting_brains import file_of, untrained

TABLES = "input", "control", "action", "world"


def checkpoint_of(brain: TrainedBrain) -> Checkpoint:
    bodies = {name: facts.to_dict() for name, facts in brain.bodies.items()}
    return Checkpoint(dict(brain.params), {"profile": brain.profile.to_dict(), "step": 1,
                                           "bodies": bodies})


def changed(brain: Checkpoint, seed: int, *names: str, returns=None) -> Checkpoint:
    """With other numbers in arrays whose names begin so."""
    rng = np.random.default_rng(seed)
    bodies = dict(brain.meta["bodies"])
    if returns:
        bodies["cartpole"] = {**bodies["cartpole"], "returns": returns}
    return Checkpoint({key: rng.normal(size=array.shape).astype(np.float32) * array.std()
                       if key.startswith(names) else array for key, array in brain.tensors.items()},
                      {**brain.meta, "bodies": bodies})


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    return checkpoint_of(untrained())


@pytest.fixture(scope="module")
def acting(base) -> Checkpoint:
    """What the mid loop has made of it."""
    return changed(base, 1, "bodies.cartpole.", returns=[-3.0, 7.0])


def actions(brain: Checkpoint, folder) -> tuple[list, np.ndarray]:
    folder.mkdir()
    file = file_of(TrainedBrain.of(brain), folder)
    file.begin("cartpole")
    rng, made, logits = np.random.default_rng(5), [], []
    for _ in range(200):
        made.append(file.act(rng.normal(size=4)))
        logits.append(file.control_logits.copy())
    return made, np.array(logits)


@pytest.fixture(scope="module")
def grown(base) -> Checkpoint:
    small = TrainedBrain.of(base).profile
    large = replace(small.model, d_model=64, d_ff=64, n_layers=3, pattern="SAS")
    profile = replace(small, model=large)
    return Checkpoint(grow(small.model, base.tensors, large, 3, bodies=body_shapes(base)),
                      {**base.meta, "profile": profile.to_dict()})


def test_a_grown_base_with_what_was_learnt_acts_as_the_brain_before(base, acting, grown, tmp_path):
    carried, line = carry(base, acting, grown, "cartpole")
    assert line == "what was learnt of cartpole is carried over"
    for table in TABLES:
        key = f"bodies.cartpole.{table}"
        assert np.array_equal(carried.tensors[key][:, :32], acting.tensors[key])   # every bit
        assert not carried.tensors[key][:, 32:].any()
    assert carried.meta["bodies"]["cartpole"]["returns"] == [-3.0, 7.0]
    assert carried.meta["bodies"]["rover"] == grown.meta["bodies"]["rover"]
    before, logits = actions(acting, tmp_path / "before")
    after, grown_logits = actions(carried, tmp_path / "after")
    assert after == before
    assert np.abs(grown_logits - logits).max() < 1e-4 * np.abs(logits).max()
    assert actions(grown, tmp_path / "grown")[0] != before   # it would have been lost


def test_a_base_that_was_trained_keeps_that_and_gets_the_difference(base, acting):
    newer = changed(base, 2, "layers.", "bodies.")
    carried, _ = carry(base, acting, newer, "cartpole")
    for key, array in newer.tensors.items():
        learnt = acting.tensors[key] - base.tensors[key]
        expected = array + learnt if key.startswith("bodies.cartpole.") else array
        np.testing.assert_allclose(carried.tensors[key], expected, rtol=1e-6, atol=1e-6)
    again, _ = carry(base, base, newer, "cartpole")
    assert all(np.array_equal(again.tensors[key], array) for key, array in newer.tensors.items())


def test_the_value_stays_the_newer_ones_where_its_levels_mean_other_returns(base, acting):
    newer = changed(base, 2, "bodies.", returns=[-50.0, 1.0])
    carried, line = carry(base, acting, newer, "cartpole")
    control = "bodies.cartpole.control"
    assert line.endswith("is carried over, but its value")
    assert np.array_equal(carried.tensors[control][:64], newer.tensors[control][:64])
    assert not np.array_equal(carried.tensors[control][64:], newer.tensors[control][64:])
    assert carried.meta["bodies"]["cartpole"]["returns"] == [-50.0, 1.0]


def test_it_is_dropped_with_a_line_where_it_has_lost_its_meaning(base, acting, grown):
    wide = {**base.tensors, "bodies.cartpole.input": np.zeros((3, 32), np.float32)}
    codec = {**base.meta["bodies"]["cartpole"], "codec": {"other": 1}}
    other = {**base.meta, "bodies": {**base.meta["bodies"], "cartpole": codec}}
    gone = {**base.meta, "bodies": {"rover": base.meta["bodies"]["rover"]}}
    for now, newer, reason in (
            (changed(acting, 3, "layers.0"), base, "has other layers"),
            (acting, base._replace(tensors=wide), "its numbers or actions are others"),
            (acting, base._replace(meta=other), "its numbers or actions are others"),
            (acting, base._replace(meta=gone), "a brain does not know it")):
        carried, line = carry(base, now, newer, "cartpole")
        assert carried is newer and reason in line and line.endswith("it is learnt again"), line
    carried, line = carry(grown, grown, base, "cartpole")
    assert "the newer brain is narrower" in line and carried is base
