"""A grown brain computes what the small one did, for every kind of growth and all together."""
import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from seed.config import ModelConfig, TrainConfig, from_dict, load_profile, to_toml
from seed.errors import ConfigError
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.resize import grow
from seed.training.step import Learner
from seed.wavecore.model import WaveCore, init_params
from tests.resize.test_shrink import LESSONS, batches, parent_in
from tests.support.tensors import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=32, n_layers=3)
KINDS = {"depth": {"n_layers": 5}, "width": {"d_model": 64}, "units": {"d_ff": 64},
         "states": {"d_state": 32}}
SOME = [kinds for n in range(1, 5) for kinds in itertools.combinations(KINDS, n)]


def larger(kinds) -> ModelConfig:
    changes = {key: value for kind in kinds for key, value in KINDS[kind].items()}
    return dataclasses.replace(SMALL, **changes)


def learnt() -> dict[str, np.ndarray]:
    """Weights away from their beginning; the stream is as large as a trained brain's."""
    rng = np.random.default_rng(5)
    params = init_params(SMALL, 1)
    for key, array in params.items():
        array *= rng.uniform(0.5, 2.0, array.shape).astype(np.float32)
    params["embedding"] *= 20
    return params


@pytest.mark.parametrize("d_model", [64, 96, 512])
def test_a_young_brain_s_small_stream_grows_as_well(d_model):
    """The eps of its norms is not small beside it: it has to shrink with the mean over channels."""
    small, large = SMALL, dataclasses.replace(SMALL, d_model=d_model)
    params, tokens = init_params(small, 1), realized(batches(1)[0].tokens)
    before = WaveCore(small, params)(tokens)[0].numpy()
    after = WaveCore(large, grow.grow(small, params, large, seed=2))(tokens)[0].numpy()
    assert distance(after, before) < 1e-5


@pytest.mark.parametrize("kinds", SOME, ids="+".join)
def test_a_grown_brain_says_the_same(kinds):
    params, tokens = learnt(), realized(batches(1)[0].tokens)
    grown = grow.grow(SMALL, params, larger(kinds), seed=2)
    assert {key: a.shape for key, a in grown.items()} == {
        key: a.shape for key, a in init_params(larger(kinds), 0).items()}
    before = WaveCore(SMALL, params)(tokens)[0].numpy()
    after = WaveCore(larger(kinds), grown)(tokens)[0].numpy()
    assert distance(after, before) < 1e-5


def test_what_is_new_learns_and_what_was_learnt_stays():
    """After some steps every new array has moved, and the loss has not jumped."""
    small = load_profile("toy", [*LESSONS, "model.d_model=32", "model.d_ff=32", "model.n_layers=3"])
    large = dataclasses.replace(small, model=larger(KINDS))
    learner, lessons = Learner(small, 1), [*batches(8)] * 5
    losses = [learner.step(batch, 2e-3).loss for batch in lessons]
    tensors = {key: array.copy() for key, array in learner.state_dict().items()}
    params = {key: tensors[key] for key in init_params(small.model, 0)}
    grown = grow.grow(small.model, params, large.model, seed=2)
    moments = grow.grow_moments(small.model, tensors, large.model, small.train)
    after = Learner(large, 1)
    state = after.state_dict()
    assert {key: a.shape for key, a in state.items() if key[:2] in ("m.", "v.")} == {
        key: a.shape for key, a in moments.items()}
    after.load_state_dict({**grown, **moments, "optim.state": tensors["optim.state"]})
    more = [after.step(batch, 2e-3).loss for batch in lessons]
    assert more[0] == pytest.approx(learner.step(lessons[0], 2e-3).loss, rel=1e-4)
    assert max(more[:8]) < 1.05 * max(losses[-8:]) and np.mean(more[-8:]) < np.mean(losses[-8:])
    for key, array in after.model.state_dict().items():
        slow = key.endswith(("dt_bias", "A_log"))   # a head that does not forget has no gradient
        assert slow or (array != grown[key]).mean() > 0.9, key


def test_new_units_and_heads_are_put_together_from_learnt_ones():
    large = larger(("width", "units"))
    grown = grow.grow(SMALL, learnt(), large, seed=2)
    h, n, p = large.ssm_heads, large.d_state, large.head_dim
    gates, values = grown["layers.0.mlp.in_proj"].reshape(2, 64, 64)
    assert_made_of(32, gates, values)
    heads = grown["layers.0.mixer.in_proj"][:h * 2 * (n + p)].reshape(h, 2 * (n + p), 64)
    assert_made_of(2, heads[:, :2 * n], heads[:, 2 * n:])
    asks = originals(2, heads[:, :2 * n])
    conv = grown["layers.0.mixer.conv1d"].swapaxes(0, 1)
    assert_made_of(2, conv[..., :2 * n], conv[..., 2 * n:])
    assert originals(2, conv[..., :2 * n]) == asks
    for rows in (*grown["layers.0.mixer.in_proj"][h * 2 * (n + p):].reshape(2, h, 64),
                 grown["layers.0.mixer.dt_bias"]):
        assert originals(2, rows) == asks
    q, k, v = grown["layers.2.mixer.qkv_proj"].reshape(3, 2, p, 64)
    assert originals(1, q) == originals(1, k) == originals(1, v) == [0]   # there was only one


def originals(old: int, rows: np.ndarray) -> list[int]:
    """For each new one, which of the old ones it equals."""
    return [next(i for i in range(old) if np.array_equal(row, rows[i])) for row in rows[old:]]


def assert_made_of(old: int, one: np.ndarray, other: np.ndarray) -> None:
    """The new ones take each half once from each old one, and no two from the same."""
    asking, writing = originals(old, one), originals(old, other)
    assert sorted(asking) == sorted(writing) == list(range(old))
    assert all(a != b for a, b in zip(asking, writing))


def test_pairs_differ_until_there_are_no_more():
    new, one, other = grow._pairs(np.array([3, 5, 9]), 12, np.random.default_rng(0))
    assert list(new) == [0, 1, 2, 4, 6, 7, 8, 10, 11]
    assert len(set(zip(one, other))) == 9 and set(one) == set(other) == {3, 5, 9}
    assert all(one[:6] != other[:6])


def test_moments_follow_their_weights():
    large = larger(KINDS)
    rng = np.random.default_rng(0)
    tensors = {f"{letter}.{key}": rng.standard_normal(a.shape).astype(np.float32)
               for letter in "mv" for key, a in init_params(SMALL, 0).items()}
    moments = grow.grow_moments(SMALL, tensors, large, TrainConfig(optimizer="adamw"))
    grown = grow.grow(SMALL, {key[2:]: a for key, a in tensors.items() if key[0] == "m"}, large, 0)
    for key in ("layers.0.mixer.conv1d", "embedding", "layers.1.mlp.in_proj"):
        kept = moments[f"m.{key}"] != 0
        assert np.array_equal(moments[f"m.{key}"][kept], grown[key][kept])
        assert kept.sum() == tensors[f"m.{key}"].size
    gain = np.float32(np.sqrt(0.5))
    assert np.allclose(moments["v.norm_f"][:32], tensors["v.norm_f"] / gain ** 2)


@pytest.mark.parametrize("change, says", [
    ({"d_model": 16, "head_dim": 16}, "head_dim is 32 in the smaller and 16"),
    ({"d_ff": 16}, "d_ff is 32 in the smaller and 16 in the larger brain"),
    ({"n_layers": 4, "pattern": "AS"}, "gives SSA, which is not within ASAS")])
def test_what_cannot_grow_so_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        grow.grow(SMALL, init_params(SMALL, 0), dataclasses.replace(SMALL, **change), 0)


def seed(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "seed", *options], capture_output=True, text=True,
                          timeout=120)


def test_a_brain_is_grown_in_place_and_goes_on_without_naming_its_profile(tmp_path):
    where = ["--run-dir", str(tmp_path), "--threads=1"]
    quick = [f"--set={text}" for text in (*LESSONS, "curriculum.holdout_items=4")]
    assert seed("train", "--profile", "fast", "--steps=20", *quick, *where).returncode == 0
    before = json.loads(seed("eval", "--json", *where).stdout)
    grown = seed("grow", "--to", "toy", "--json", *where)
    assert grown.returncode == 0, grown.stderr
    assert json.loads(grown.stdout) == {"before": 138768, "after": 234680}
    after = json.loads(seed("eval", "--json", *where).stdout)
    assert (after["step"], after["profile"]) == (20, "toy")
    assert after["holdout"] == before["holdout"]
    more = seed("train", "--steps=30", "--json", *where)
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["step"] == 30 and "going on from step 20" in more.stderr


def test_a_brain_grows_by_itself_up_to_the_limit_of_its_directory(tmp_path):
    parent_in(tmp_path / "brain", "model.n_layers=4", "train.batch_size=16")
    limit = load_profile("toy", ["model.n_layers=6", "train.seq_len=32"])
    (tmp_path / "brain/limit.toml").write_text(to_toml(limit))
    auto = ["grow", "--to", "auto", "--json", "--run-dir", str(tmp_path / "brain")]
    grown = seed(*auto)
    assert grown.returncode == 0 and json.loads(grown.stdout) == {
        "before": 234680, "after": 334816}, grown.stderr
    profile = from_dict(checkpoint.read(RunDir(tmp_path / "brain").checkpoint).meta["profile"])
    assert profile.model.n_layers == 6 and profile.curriculum.tasks == {"copy": 1.0, "parity": 1.0}
    files = [RunDir(tmp_path / "brain").checkpoint,
             RunDir(tmp_path / "brain").previous_checkpoint]
    before = [file.read_bytes() for file in files]
    again = seed(*auto)   # as after a kill at its very end
    assert json.loads(again.stdout) == {"before": 334816, "after": 334816}, again.stderr
    assert "it has grown at step 0 already: train it" in again.stderr
    assert [file.read_bytes() for file in files] == before
    (tmp_path / "brain/metrics.jsonl").unlink()
    again = seed(*auto)
    assert again.returncode == 2 and "as large as the limit" in again.stderr


def test_a_brain_that_the_limit_was_not_found_for_is_told_so(tmp_path):
    parent_in(tmp_path / "brain", "train.seq_len=64")
    (tmp_path / "brain/limit.toml").write_text(to_toml(load_profile("toy", [
        "model.n_layers=6", "train.seq_len=32"])))
    done = seed("grow", "--to", "auto", "--run-dir", str(tmp_path / "brain"))
    assert done.returncode == 2 and "64, and the limit in" in done.stderr, done.stderr
    assert "64x6, 16x32: find its own with python -m seed scale" in done.stderr


@pytest.mark.parametrize("options, says", [
    (["--to", "fast"], "d_ff is 128 in the smaller and 64 in the larger brain"),
    (["--to", "auto"], "limit.toml is not there: find the limit"),
    (["--to", "nobody"], "profile 'nobody' not found")])
def test_bad_input_to_grow_is_one_line_and_changes_nothing(tmp_path, options, says):
    parent_in(tmp_path / "brain")
    before = RunDir(tmp_path / "brain").checkpoint.read_bytes()
    done = seed("grow", *options, "--run-dir", str(tmp_path / "brain"))
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert RunDir(tmp_path / "brain").checkpoint.read_bytes() == before
