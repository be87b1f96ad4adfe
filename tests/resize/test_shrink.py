"""A child that is cut out of its parent, and learns from it."""
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from seed.config import ModelConfig, load_profile
from seed.errors import ConfigError
from seed.resize import shrink, grow, reconstruct
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.training.step import Learner
from seed.wavecore import submodel
from seed.wavecore.model import WaveCore, init_params
from tests.support.tensors import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=32, n_layers=3)
LARGE = ModelConfig(d_model=64, d_ff=64, n_layers=5, pattern="SSASA")
LESSONS = ["curriculum.tasks={copy=1.0,parity=1.0}", "train.batch_size=2", "train.seq_len=32"]


def batches(n: int = 4):
    return shrink.lessons(load_profile("toy", LESSONS), n)


def turned(params):
    """The same brain with the axes of its stream in other directions: a norm's gains are alike."""
    axes = np.linalg.qr(np.random.default_rng(3).standard_normal((64, 64)))[0].astype(np.float32)
    found = {}
    for key, array in params.items():
        name = key.rpartition(".")[2]
        if name in ("norm", "norm_f"):
            array = np.full_like(array, array.min())   # that of a channel that is in use
        if name in ("in_proj", "qkv_proj", "embedding"):
            array = array @ axes
        elif name == "out_proj":
            array = axes.T @ array
        found[key] = np.ascontiguousarray(array)
    return found


@pytest.mark.parametrize("turn", [dict, turned])
def test_what_does_nothing_is_what_is_cut(turn):
    """A small brain grown into a large one, with all parts shuffled, is found again."""
    small = init_params(SMALL, 1)
    small["embedding"] *= 40   # so that the norms' eps is nothing beside it
    rng = np.random.default_rng(0)

    def some(of: int, n: int) -> np.ndarray:
        return np.sort(rng.permutation(of)[:n])
    heads = tuple(some(4, 2) if kind == "S" else some(2, 1) for kind in SMALL.layer_kinds)
    hidden = submodel.Selection((0, 3, 4), some(64, 32), heads, tuple(some(64, 32) for _ in range(3)))
    params = turn(grow.grow(SMALL, small, LARGE, seed=2, chosen=hidden))
    tokens = realized(batches(1)[0].tokens)
    whole = WaveCore(LARGE, params)(tokens)[0].numpy()
    assert distance(whole, WaveCore(SMALL, small)(tokens)[0].numpy()) < 1e-5
    cut = shrink.shrink(LARGE, params, SMALL, batches(), threads=1)
    assert distance(WaveCore(SMALL, cut)(tokens)[0].numpy(), whole) < 1e-4


def test_what_is_left_takes_over_what_is_gone(monkeypatch):
    """The first layer sees what the second does, which alone says something of it, and is gone."""
    monkeypatch.setattr(reconstruct, "RIDGE", 1e-9)   # so that nothing is in the way of the squares
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


def test_a_child_of_the_parent_s_own_shape_is_the_parent():
    params = init_params(SMALL, 3)
    cut = shrink.shrink(SMALL, params, SMALL, batches(1), threads=1)
    assert cut.keys() == params.keys()
    assert all(np.array_equal(cut[key], params[key]) for key in params)


@pytest.mark.parametrize("child, says", [
    (ModelConfig(d_model=96), "d_model is 96 in the smaller and 64 in the larger brain: use no"),
    (ModelConfig(head_dim=64), "head_dim is 64 in the smaller and 32 in the larger brain: use the"),
    (ModelConfig(n_layers=2, pattern="AA"), "gives AA, which is not within SSAS")])
def test_what_cannot_be_cut_is_refused(child, says):
    with pytest.raises(ConfigError, match=says):
        submodel.check(child, ModelConfig())


def parent_in(run_dir, *overrides: str):
    """A run directory with an untrained brain."""
    profile = load_profile("toy", [*LESSONS, "model.n_layers=3", *overrides])
    run_dir.mkdir()
    RunDir(run_dir).save(Learner(profile, 1).state_dict(), {
        "profile": profile.to_dict(), "step": 0, "skipped": 0, "elapsed_s": 0.0, "rollbacks": 0,
        "plan": {"decay_start": None, "total_steps": None}, "curriculum": START})
    return profile


START = {"grade": 1, "unlocked": 1, "evals_since_unlock": 0, "evaluated_at": 0, "passed": [], "accuracy": {}}


def test_a_disk_that_refuses_the_parents_word_is_one_line(tmp_path):
    """A real limit of the size of files, over which writing fails."""
    parent_in(tmp_path / "parent")
    limited = ["prlimit", "--fsize=8000000", *command(tmp_path, "child", 3),
               "--set=distill.batches=6000"]   # 60 numbers of bytes for each of 64
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2 and "parent.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [p for p in (tmp_path / "child").iterdir() if "parent" in p.name]


def test_a_directory_with_the_child_of_another_parent_is_refused(tmp_path):
    for name in ("parent", "other"):
        parent_in(tmp_path / name)
    assert subprocess.run(command(tmp_path, "child", 3), capture_output=True).returncode == 0
    before = RunDir(tmp_path / "child").checkpoint.read_bytes()
    again = command(tmp_path, "child", 3)
    again[again.index("--run-dir") + 1] = str(tmp_path / "other")
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 2 and "was carved from" in done.stderr
    assert RunDir(tmp_path / "child").checkpoint.read_bytes() == before


def test_a_parent_that_does_not_fit_is_not_read(tmp_path):
    parent_in(tmp_path / "parent", "train.batch_size=64", "train.seq_len=256")
    done = subprocess.run([*command(tmp_path, "child", 3), "--set=governor.memory_mb=220"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "the parent is read as it was trained: this" in done.stderr
    assert not RunDir(tmp_path / "child").checkpoint.exists()


def command(tmp_path, out: str, steps: int) -> list[str]:
    return [sys.executable, "-m", "seed", "shrink", "--run-dir", str(tmp_path / "parent"), "--out",
            str(tmp_path / out), "--profile", "fast", f"--steps={steps}", "--json", "--threads=1",
            "--set", "train.batch_size=2", "--set", "train.seq_len=32", "--set",
            "distill.batches=5", "--set", "train.save_every_minutes=0.001", "--set",
            "train.write_gb_per_day=1e6", "--set", "selfplay.tasks={parity=4}"]


def test_a_killed_carving_goes_on_to_the_same_bits(tmp_path):
    parent_in(tmp_path / "parent")
    whole = subprocess.run(command(tmp_path, "whole", 60), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    found = json.loads(whole.stdout)
    assert found["step"] == 60 and found["parent"] and 0 <= found["agreement"] <= 1
    assert "soft targets of 5 of 5 batches made" in whole.stderr
    child = checkpoint.read(RunDir(tmp_path / "whole").checkpoint).meta["profile"]
    assert child["selfplay"]["tasks"] == {}   # the parent alone teaches
    for delay in (1.0, 2.5):
        process = subprocess.Popen(command(tmp_path, "killed", 60), stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path, "killed", 60), capture_output=True, check=True)
    assert RunDir(tmp_path / "whole").checkpoint.read_bytes() == \
        RunDir(tmp_path / "killed").checkpoint.read_bytes()


def test_bad_input_to_carve_is_one_line(tmp_path):
    parent_in(tmp_path / "parent")
    for options, says in (
            (["--run-dir", str(tmp_path / "none"), "--out", str(tmp_path / "c")], "has no brain"),
            (["--run-dir", str(tmp_path / "parent"), "--out", str(tmp_path / "parent")],
             "--out is the parent's own directory"),
            (["--run-dir", str(tmp_path / "parent"), "--out", str(tmp_path / "c"), "--profile",
              "seed"], "model.d_model is 96 in the smaller and 64 in the larger brain")):
        done = subprocess.run([sys.executable, "-m", "seed", "shrink", *options],
                              capture_output=True, text=True)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
