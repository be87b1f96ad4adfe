"""A grown brain computes what the small one did, for every kind of growth and all together."""
import dataclasses
import itertools
import json

import numpy as np
import pytest

from seed.config import ModelConfig, TrainConfig, from_dict
from seed.curriculum.dataset import Dataset
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.profile_file import load_profile, to_toml
from seed.resize import grow, grow_brain, undo_growth
from seed.storage import RunDir, checkpoint, undo_levels
from seed.training import train, undo_adaptation
from seed.training.step import Learner
from seed.training.stop_signals import StopSignals
from seed.wavecore.model import WaveCore, init_params
from tests.support import small_run
from tests.support.small_run import batches, seed, untrained_run
from tests.support.tensors import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=32, n_layers=3)
KINDS = {"depth": {"n_layers": 5}, "width": {"d_model": 64}, "units": {"d_ff": 64},
         "states": {"d_state": 32}}
TURNING = dataclasses.replace(SMALL, rotary_steps=120)
SOME = [kinds for n in range(1, 5) for kinds in itertools.combinations(KINDS, n)]


def larger(kinds, small: ModelConfig = SMALL) -> ModelConfig:
    changes = {key: value for kind in kinds for key, value in KINDS[kind].items()}
    return dataclasses.replace(small, **changes)


def trained_like(small: ModelConfig = SMALL) -> dict[str, np.ndarray]:
    """Perturbed initial weights, with a stream as large as a trained brain's."""
    rng = np.random.default_rng(5)
    params = init_params(small, 1)
    for key, array in params.items():
        array *= rng.uniform(0.5, 2.0, array.shape).astype(np.float32)
        if key.endswith("mixer.in_proj") and small.rotary_steps:
            array[-small.ssm_heads * small.d_state // 2:] *= 50
    params["embedding"] *= 20
    return params


@pytest.mark.parametrize("d_model", [64, 96, pytest.param(512, marks=pytest.mark.long)])
def test_an_untrained_brain_grown_in_width_computes_the_same(d_model):
    """Its stream is small, so the eps of the norms counts: it has to shrink with d_model."""
    small, large = SMALL, dataclasses.replace(SMALL, d_model=d_model)
    params, tokens = init_params(small, 1), realized(batches(1)[0].tokens)
    before = WaveCore(small, params)(tokens)[0].numpy()
    after = WaveCore(large, grow.grow(small, params, large, seed=2))(tokens)[0].numpy()
    assert distance(after, before) < 1e-5


@pytest.mark.parametrize("kinds", SOME, ids="+".join)
def test_a_grown_brain_computes_the_same(kinds):
    params, tokens = trained_like(), realized(batches(1)[0].tokens)
    grown = grow.grow(SMALL, params, larger(kinds), seed=2)
    assert {key: a.shape for key, a in grown.items()} == {
        key: a.shape for key, a in init_params(larger(kinds), 0).items()}
    before = WaveCore(SMALL, params)(tokens)[0].numpy()
    after = WaveCore(larger(kinds), grown)(tokens)[0].numpy()
    assert distance(after, before) < 1e-5


@pytest.mark.parametrize("kinds", [("states",), ("width",), tuple(KINDS)], ids="+".join)
def test_a_grown_brain_whose_states_turn_computes_the_same(kinds):
    """Pairs of rows of a state stay pairs, and their turns are theirs."""
    large, params = larger(kinds, TURNING), trained_like(TURNING)
    tokens = realized(batches(1)[0].tokens)
    grown = grow.grow(TURNING, params, large, seed=2)
    before, state = WaveCore(TURNING, params)(tokens)
    after = WaveCore(large, grown)(tokens)[0]
    assert distance(after.numpy(), before.numpy()) < 1e-5
    assert len(set(state[0].phase.numpy().ravel())) > 10


def test_a_brain_that_does_not_turn_grows_to_a_profile_that_does_as_it_is(tmp_path):
    run_dir, profile = RunDir(tmp_path / "brain"), load_profile("seed", ["model.rotary_steps=120"])
    untrained_run(run_dir.path)
    grow_brain(run_dir, profile)
    assert from_dict(checkpoint.read(run_dir.checkpoint).meta["profile"]).model.rotary_steps == 0


def test_new_arrays_train_and_the_loss_does_not_jump():
    small = load_profile("toy", [*small_run.SMALL, "model.d_model=32", "model.d_ff=32",
                                 "model.n_layers=3"])
    large = dataclasses.replace(small, model=larger(KINDS))
    learner, items = Learner(small, 1), [*batches(8)] * 5
    losses = [learner.step(batch, 2e-3).loss for batch in items]
    tensors = {key: array.copy() for key, array in learner.state_dict().items()}
    params = {key: tensors[key] for key in init_params(small.model, 0)}
    grown = grow.grow(small.model, params, large.model, seed=2)
    moments = grow.grow_moments(small.model, tensors, large.model, small.train)
    after = Learner(large, 1)
    state = after.state_dict()
    assert {key: a.shape for key, a in state.items() if key[:2] in ("m.", "v.")} == {
        key: a.shape for key, a in moments.items()}
    after.load_state_dict({**grown, **moments, "optim.state": tensors["optim.state"]})
    more = [after.step(batch, 2e-3).loss for batch in items]
    assert more[0] == pytest.approx(learner.step(items[0], 2e-3).loss, rel=1e-4)
    assert max(more[:8]) < 1.05 * max(losses[-8:]) and np.mean(more[-8:]) < np.mean(losses[-8:])
    for key, array in after.model.state_dict().items():
        slow = key.endswith(("dt_bias", "A_log"))   # no gradient where a head does not decay
        assert slow or (array != grown[key]).mean() > 0.9, key


def test_new_units_and_heads_combine_trained_ones():
    large = larger(("width", "units"))
    grown = grow.grow(SMALL, trained_like(), large, seed=2)
    h, n, p = large.ssm_heads, large.d_state, large.head_dim
    gates, values = grown["layers.0.mlp.in_proj"].reshape(2, 64, 64)
    assert_made_of(32, gates, values)
    heads = grown["layers.0.mixer.in_proj"][:h * 2 * (n + p)].reshape(h, 2 * (n + p), 64)
    assert_made_of(2, heads[:, :2 * n], heads[:, 2 * n:])
    sources = originals(2, heads[:, :2 * n])
    conv = grown["layers.0.mixer.conv1d"].swapaxes(0, 1)
    assert_made_of(2, conv[..., :2 * n], conv[..., 2 * n:])
    assert originals(2, conv[..., :2 * n]) == sources
    for rows in (*grown["layers.0.mixer.in_proj"][h * 2 * (n + p):].reshape(2, h, 64),
                 grown["layers.0.mixer.dt_bias"]):
        assert originals(2, rows) == sources
    q, k, v = grown["layers.2.mixer.qkv_proj"].reshape(3, 2, p, 64)
    assert originals(1, q) == originals(1, k) == originals(1, v) == [0]   # there was only one


def originals(old: int, rows: np.ndarray) -> list[int]:
    """For each new row, the index of the old one that it equals."""
    return [next(i for i in range(old) if np.array_equal(row, rows[i])) for row in rows[old:]]


def assert_made_of(old: int, first: np.ndarray, second: np.ndarray) -> None:
    """Both halves of the new rows use every old row once, and never the same for both."""
    sources = originals(old, first), originals(old, second)
    assert sorted(sources[0]) == sorted(sources[1]) == list(range(old))
    assert all(a != b for a, b in zip(*sources))


def test_pairs_of_old_heads_differ_while_possible():
    new, first, second = grow._pairs(np.array([3, 5, 9]), 12, np.random.default_rng(0))
    assert list(new) == [0, 1, 2, 4, 6, 7, 8, 10, 11]
    assert len(set(zip(first, second))) == 9 and set(first) == set(second) == {3, 5, 9}
    assert all(first[:6] != second[:6])


def test_moments_follow_their_weights():
    large = larger(KINDS)
    rng = np.random.default_rng(0)
    tensors = {f"{letter}.{key}": rng.standard_normal(a.shape).astype(np.float32)
               for letter in "mv" for key, a in init_params(SMALL, 0).items()}
    moments = grow.grow_moments(SMALL, tensors, large, TrainConfig(optimizer="adamw"))
    grown = grow.grow(SMALL, {key[2:]: a for key, a in tensors.items() if key[0] == "m"}, large, 0)
    for key in ("layers.0.mixer.conv1d", "embedding", "layers.1.mlp.in_proj"):
        old = moments[f"m.{key}"] != 0
        assert np.array_equal(moments[f"m.{key}"][old], grown[key][old])
        assert old.sum() == tensors[f"m.{key}"].size
    gain = np.float32(np.sqrt(0.5))
    assert np.allclose(moments["v.norm_f"][:32], tensors["v.norm_f"] / gain ** 2)


@pytest.mark.parametrize("change, message", [
    ({"d_model": 16, "head_dim": 16}, "head_dim is 32 in the smaller and 16"),
    ({"d_ff": 16}, "d_ff is 32 in the smaller and 16 in the larger brain"),
    ({"n_layers": 4, "pattern": "AS"}, "gives SSA, which is not within ASAS")])
def test_a_shape_that_does_not_contain_the_small_brain_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        grow.grow(SMALL, init_params(SMALL, 0), dataclasses.replace(SMALL, **change), 0)


def profile_in(run_dir: RunDir):
    return from_dict(checkpoint.read(run_dir.checkpoint).meta["profile"])


def test_a_brain_is_grown_in_place_and_resumes_without_naming_its_profile(tmp_path):
    run_dir = RunDir(tmp_path)
    small = load_profile("fast", [*small_run.SMALL, "curriculum.holdout_items=4", "train.steps=8"])
    assert train(small, run_dir, signals=StopSignals()).finished
    dataset = Dataset(small.curriculum, small.identity, 0)

    def scores():
        return TrainedBrain.load(run_dir, 1).scores(dataset.holdout(4), dataset)
    before = scores()
    grown = seed("grow", "--to", "toy", "--json", "--run-dir", str(tmp_path), "--threads=1")
    assert grown.returncode == 0, grown.stderr
    assert json.loads(grown.stdout) == {"before": 138768, "after": 234680}
    assert profile_in(run_dir).name == "toy" and scores() == before
    assert small.loop.rate_hz == 100 and not profile_in(run_dir).loop.rate_hz   # as of `toy`
    more = seed("train", "--steps=10", "--json", "--run-dir", str(tmp_path), "--threads=1")
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["step"] == 10 and "from step 8" in more.stderr


def test_a_brain_grows_to_the_next_size_up_to_the_limit_of_its_directory(tmp_path):
    run_dir, log = RunDir(tmp_path / "brain"), list[str]()
    untrained_run(run_dir.path, "model.n_layers=4", "train.batch_size=16")
    limit = load_profile("toy", ["model.n_layers=6", "train.seq_len=32"])
    run_dir.limit_profile.write_text(to_toml(limit))
    assert grow_brain(run_dir, log=log.append) == (234680, 334816)
    profile = profile_in(run_dir)
    assert profile.model.n_layers == 6 and profile.curriculum.tasks == {"copy": 1.0, "parity": 1.0}
    files = [run_dir.checkpoint, run_dir.previous_checkpoint]
    before = [file.read_bytes() for file in files]
    # As after a kill at its very end.
    assert grow_brain(run_dir, log=log.append) == (334816, 334816)
    assert any("has already grown at step 0: train it" in line for line in log)
    assert [file.read_bytes() for file in files] == before
    run_dir.metrics.unlink()
    with pytest.raises(ConfigError, match="as large as the limit"):
        grow_brain(run_dir, log=log.append)


def test_a_brain_that_exceeds_the_limit_of_its_directory_does_not_grow_to_it(tmp_path):
    run_dir = RunDir(tmp_path / "brain")
    untrained_run(run_dir.path, "train.seq_len=64")
    run_dir.limit_profile.write_text(to_toml(load_profile("toy", [
        "model.n_layers=6", "train.seq_len=32"])))
    with pytest.raises(ConfigError, match="2x64, larger than the limit in .*, 64x6, 16x32: find"):
        grow_brain(run_dir)


@pytest.mark.parametrize("to, message", [
    ("fast", "d_ff is 128 in the smaller and 64 in the larger brain"),
    ("auto", "limit.toml does not exist: find the limit"),
    ("nobody", "profile 'nobody' not found")])
def test_bad_input_to_grow_is_one_line_and_changes_nothing(tmp_path, to, message):
    untrained_run(tmp_path / "brain")
    before = RunDir(tmp_path / "brain").checkpoint.read_bytes()
    done = seed("grow", "--to", to, "--run-dir", str(tmp_path / "brain"))
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert RunDir(tmp_path / "brain").checkpoint.read_bytes() == before


def test_a_growth_is_undone_bit_for_bit_and_can_be_repeated(tmp_path):
    run_dir = RunDir(tmp_path / "brain")
    untrained_run(run_dir.path)
    small = run_dir.checkpoint.read_bytes()
    for undo in (["--undo"], ["--undo", "--json"]):
        assert seed("grow", "--to", "seed", "--run-dir", str(run_dir)).returncode == 0
        assert run_dir.checkpoint.read_bytes() != small
        assert seed("grow", *undo, "--run-dir", str(run_dir)).returncode == 0
        assert run_dir.checkpoint.read_bytes() == small
        assert '"grow"' not in run_dir.metrics.read_text()
    done = seed("grow", "--undo", "--run-dir", str(run_dir))
    assert done.returncode == 2 and "nothing to undo" in done.stderr


def test_a_growth_that_was_trained_since_is_not_undone(tmp_path):
    run_dir = RunDir(tmp_path / "brain")
    untrained_run(run_dir.path)
    grow_brain(run_dir, load_profile("seed"))
    grown = checkpoint.read(run_dir.checkpoint)
    run_dir.save(grown.tensors, {**grown.meta, "step": grown.meta["step"] + 1})
    trained = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="was trained since its growth"):
        undo_growth(run_dir)
    assert run_dir.checkpoint.read_bytes() == trained
    run_dir.checkpoint_before_growth.replace(run_dir.checkpoint)   # as the line says
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo_growth(run_dir)


def test_a_growth_is_not_undone_before_what_was_adapted_since(tmp_path):
    run_dir = RunDir(tmp_path / "brain")
    untrained_run(run_dir.path)
    small = run_dir.checkpoint.read_bytes()
    grow_brain(run_dir, load_profile("seed"))
    grown = checkpoint.read(run_dir.checkpoint)
    undo_levels.publish(run_dir, grown.tensors, {**grown.meta, "adapted": "x"})
    adapted = run_dir.checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="was adapted since its growth: undo that first"):
        undo_growth(run_dir)
    assert run_dir.checkpoint.read_bytes() == adapted
    undo_adaptation(run_dir)
    undo_growth(run_dir)
    assert run_dir.checkpoint.read_bytes() == small


def test_a_growth_that_was_killed_before_it_was_saved_is_nothing_to_undo(tmp_path, monkeypatch):
    run_dir = RunDir(tmp_path / "brain")
    untrained_run(run_dir.path)
    monkeypatch.setattr(grow, "grow_in_place", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        grow_brain(run_dir, load_profile("seed"))
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo_growth(run_dir)
