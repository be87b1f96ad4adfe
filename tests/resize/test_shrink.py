"""Shrinking: pruning, reconstruction, and training on the parent's predictions."""
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seed.config import ModelConfig
from seed.errors import ConfigError
from seed.profile_file import load_profile
from seed.resize import grow, reconstruct, shrink, shrink_brain
from seed.resize.prune import prune
from seed.storage import RunDir, checkpoint
from seed.training.stop_signals import StopSignals
from seed.wavecore import submodel
from seed.wavecore.model import WaveCore, init_params
from tests.support.small_run import batches, seed, untrained_run, wait_until
from tests.support.tensors import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=32, n_layers=3)
LARGE = ModelConfig(d_model=64, d_ff=64, n_layers=5, pattern="SSASA")


def rotated(params):
    """The same brain with a rotated residual stream; all gains of a norm are equal."""
    axes = np.linalg.qr(np.random.default_rng(3).standard_normal((64, 64)))[0].astype(np.float32)
    result = {}
    for key, array in params.items():
        name = key.rpartition(".")[2]
        if name in ("norm", "norm_f"):
            array = np.full_like(array, array.min())   # the gain of a used channel
        if name in ("in_proj", "qkv_proj", "embedding"):
            array = array @ axes
        elif name == "out_proj":
            array = axes.T @ array
        result[key] = np.ascontiguousarray(array)
    return result


@pytest.mark.parametrize("rotate_fn, rotary_steps", [(dict, 0), (rotated, 0), (dict, 120)])
def test_parts_without_effect_are_pruned(rotate_fn, rotary_steps):
    """A small brain grown into a large one, with all parts shuffled, is found again."""
    small_config, large_config = (dataclasses.replace(config, rotary_steps=rotary_steps)
                                  for config in (SMALL, LARGE))
    small = init_params(small_config, 1)
    small["embedding"] *= 40   # so that the norms' eps is negligible
    for layer in (0, 1) if rotary_steps else ():
        small[f"layers.{layer}.mixer.in_proj"][-16:] *= 50   # so that states turn
    rng = np.random.default_rng(0)

    def some(of: int, n: int) -> np.ndarray:
        return np.sort(rng.permutation(of)[:n])
    heads = tuple(some(4, 2) if kind == "S" else some(2, 1) for kind in small_config.layer_kinds)
    hidden = submodel.Selection((0, 3, 4), some(64, 32), heads,
                                tuple(some(64, 32) for _ in range(3)))
    params = rotate_fn(grow.grow(small_config, small, large_config, seed=2, chosen=hidden))
    tokens = realized(batches(1)[0].tokens)
    whole = WaveCore(large_config, params)(tokens)[0].numpy()
    assert distance(whole, WaveCore(small_config, small)(tokens)[0].numpy()) < 1e-5
    cut = prune(large_config, params, small_config, batches(2), threads=1)
    assert distance(WaveCore(small_config, cut)(tokens)[0].numpy(), whole) < 1e-4


def test_reconstruction_makes_up_for_a_removed_layer(monkeypatch):
    """Only the removed second layer has an output; the first has the same inputs."""
    monkeypatch.setattr(reconstruct, "RIDGE", 1e-9)   # least squares alone
    config = ModelConfig(d_model=32, d_ff=32, n_layers=2, pattern="S")
    params = init_params(config, 5)
    params["embedding"] *= 40
    for key in ("norm", "in_proj", "out_proj"):
        params[f"layers.1.mlp.{key}"] = params[f"layers.0.mlp.{key}"] * 3
    for key in ("layers.0.mixer", "layers.1.mixer", "layers.0.mlp"):
        params[f"{key}.out_proj"] = np.zeros_like(params[f"{key}.out_proj"])
    params["layers.0.mlp.norm"], params["layers.0.mlp.in_proj"] = (
        params[f"layers.1.mlp.{key}"] for key in ("norm", "in_proj"))
    alone = dataclasses.replace(config, n_layers=1)
    left = {key: array for key, array in params.items() if not key.startswith("layers.1.")}
    fitted = reconstruct.reconstruct(alone, left, WaveCore(config, params), (0,), batches(), None)
    tokens = realized(batches()[3].tokens)
    whole, *cut = (WaveCore(of, named)(tokens)[0].numpy() for of, named in (
        (config, params), (alone, left), (alone, fitted)))
    assert distance(cut[0], whole) > 1 and distance(cut[1], whole) < 1e-3


def test_a_child_of_the_parent_s_shape_equals_the_parent():
    params = init_params(SMALL, 3)
    cut = prune(SMALL, params, SMALL, batches(1), threads=1)
    assert cut.keys() == params.keys()
    assert all(np.array_equal(cut[key], params[key]) for key in params)


@pytest.mark.parametrize("child, message", [
    (ModelConfig(d_model=96), "d_model is 96 in the smaller and 64 in the larger brain: use no"),
    (ModelConfig(head_dim=64), "head_dim is 64 in the smaller and 32 in the larger brain: use the"),
    (ModelConfig(n_layers=2, pattern="AA"), "gives AA, which is not within SSAS")])
def test_a_child_that_does_not_fit_into_its_parent_is_refused(child, message):
    with pytest.raises(ConfigError, match=message):
        submodel.check(child, ModelConfig())


FEW = (2,)   # batches in place of shrink.CALIBRATION_BATCHES
QUICK_SEED = ("import sys; from seed.__main__ import main; from seed.resize import shrink; "
              f"shrink.calibration_batches.__defaults__ = {FEW}; sys.exit(main(sys.argv[1:]))")


@pytest.fixture
def few_batches(monkeypatch):
    monkeypatch.setattr(shrink.calibration_batches, "__defaults__", FEW)


def child_profile(*overrides: str):
    return load_profile("fast", [
        "train.batch_size=2", "train.seq_len=32", "distill.batches=5",
        "train.save_every_minutes=0.001", "train.write_gb_per_day=1e6",
        "selfplay.tasks={parity=4}", "train.minutes=10.0", "train.steps=3", *overrides])


def shrink_in(folder: Path, parent: str = "parent", child: str = "child", *overrides: str):
    """Without installing signal handlers in the test's process."""
    return shrink_brain(RunDir(folder / parent), RunDir(folder / child), child_profile(*overrides),
                        signals=StopSignals())


def test_soft_targets_that_cannot_be_written_raise_with_their_file_name(tmp_path, few_batches):
    """With a real limit on file sizes."""
    untrained_run(tmp_path / "parent")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError) as error:   # 51 bytes for each of 64 bytes of a batch
            shrink_in(tmp_path, "parent", "child", "distill.batches=20")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "soft_targets.safetensors" in str(error.value.filename)
    assert not (tmp_path / "child").exists()


def test_a_directory_with_the_child_of_another_parent_is_refused(tmp_path):
    for name in ("parent", "stranger"):
        untrained_run(tmp_path / name)
    untrained_run(tmp_path / "child", f"distill.parent={tmp_path / 'parent'}")
    before = RunDir(tmp_path / "child").checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="has a brain that was shrunk from .*parent: use"):
        shrink_in(tmp_path, "stranger")
    assert RunDir(tmp_path / "child").checkpoint.read_bytes() == before


def test_a_parent_that_does_not_fit_is_not_read(tmp_path):
    untrained_run(tmp_path / "parent", "train.batch_size=64", "train.seq_len=256")
    with pytest.raises(ConfigError, match="the parent reads batches as it was trained: .* MB"):
        shrink_in(tmp_path, "parent", "child", "governor.memory_mb=220")
    assert not RunDir(tmp_path / "child").checkpoint.exists()


@pytest.mark.parametrize("moments", [
    [("metrics.jsonl", 8)], pytest.param([("lock", 1), ("metrics.jsonl", 8)],
                                         marks=pytest.mark.long)], ids=["once", "twice"])
def test_a_shrinking_that_was_killed_ends_with_the_same_bits(tmp_path, few_batches, moments):
    """Killed while it trains; and while it makes soft targets too."""
    untrained_run(tmp_path / "parent", "curriculum.holdout_items=4")
    result = shrink_in(tmp_path, "parent", "whole", "train.steps=25")
    assert result.train.finished and result.parent_scores and 0 <= result.agreement <= 1
    child = checkpoint.read(RunDir(tmp_path / "whole").checkpoint).meta["profile"]
    assert child["selfplay"]["tasks"] == {}   # the parent is the only teacher
    killed = RunDir(tmp_path / "killed")
    command = [sys.executable, "-c", QUICK_SEED, "shrink", "--run-dir", str(tmp_path / "parent"),
               "--out", str(killed), "--profile", "fast", "--steps=25", "--json", "--threads=1",
               "--set=train.batch_size=2", "--set=train.seq_len=32", "--set=distill.batches=5",
               "--set=train.save_every_minutes=0.001", "--set=train.write_gb_per_day=1e6",
               "--set=selfplay.tasks={parity=4}"]
    for name, n_lines in moments:
        path = killed.path / name
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   start_new_session=True)
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= n_lines, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    report = json.loads(done.stdout)
    assert report["step"] == 25 and report["agreement"] == result.agreement
    scores = [score.to_dict() for score in result.parent_scores]
    assert report["parent"] == json.loads(json.dumps(scores))
    parent, child = (report["summary"][name]["tasks"] for name in ("parent", "child"))
    assert parent.keys() == child.keys() and all(
        scores["uniform_draw"] for scores in (*parent.values(), *child.values()))
    assert RunDir(tmp_path / "whole").checkpoint.read_bytes() == killed.checkpoint.read_bytes()


def test_bad_input_to_shrink_is_one_line(tmp_path):
    untrained_run(tmp_path / "parent")
    done = seed("shrink", "--run-dir", str(tmp_path / "parent"), "--out", str(tmp_path / "parent"))
    assert done.returncode == 2 and "--out is the parent's own directory" in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(ConfigError, match="has no brain"):
        shrink_in(tmp_path, "none")
    with pytest.raises(ConfigError, match="d_model is 96 in the smaller and 64 in the larger"):
        shrink_in(tmp_path, "parent", "child", "model.d_model=96")
