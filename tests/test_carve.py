"""A child that is cut out of its parent, and learns from it."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from seed.config import ConfigError, ModelConfig, load_profile
from seed.training import carve, checkpoint, distill
from seed.training.learner import Learner
from seed.wavecore.model import WaveCore, init_params
from test_kernels import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=32, n_layers=3)
LARGE = ModelConfig(d_model=64, d_ff=64, n_layers=5, pattern="SSASA")
LESSONS = ["curriculum.tasks={copy=1.0,parity=1.0}", "train.batch_size=2", "train.seq_len=32"]


def batches(n: int = 4):
    return carve.lessons(load_profile("toy", LESSONS), n)


def hidden_in(large: ModelConfig, rng) -> tuple[dict, dict]:
    """A small brain, and a large one that computes the same with parts that do nothing between."""
    small = init_params(SMALL, 1)
    small["embedding"] *= 10
    params = init_params(large, 2)
    for key in params:
        if key.endswith("out_proj"):
            params[key][...] = 0
    channels = np.sort(rng.permutation(large.d_model)[:SMALL.d_model])
    params["embedding"][...] = 0
    params["embedding"][:, channels] = small["embedding"]
    layers = {0: 0, 1: 3, 2: 4}   # S, S and A of the large pattern SSASA
    gain = np.float32(np.sqrt(SMALL.d_model / large.d_model))

    def widen(gains: np.ndarray) -> np.ndarray:
        wide = np.ones(large.d_model, np.float32)
        wide[channels] = gains * gain
        return wide

    params["norm_f"] = widen(small["norm_f"])
    for new, old in layers.items():
        for part in ("mixer", "mlp"):
            own, to = f"layers.{new}.{part}", f"layers.{old}.{part}"
            names = [key.removeprefix(own + ".") for key in small if key.startswith(own + ".")]
            units = {"mlp": SMALL.d_ff}.get(part, SMALL.d_model)
            for name in names:
                source, target = small[f"{own}.{name}"], params[f"{to}.{name}"]
                if name == "norm":
                    params[f"{to}.norm"] = widen(source)
                elif name == "out_proj":
                    target[np.ix_(channels, np.arange(source.shape[1]))] = source
                elif name == "in_proj" and part == "mlp":
                    for half in (0, 1):
                        target[np.ix_(np.arange(units) + half * large.d_ff, channels)] = \
                            source[half * units:][:units]
                elif name == "qkv_proj":
                    for third in range(3):
                        target[np.ix_(np.arange(units) + third * large.d_model, channels)] = \
                            source[third * units:][:units]
                elif name == "in_proj":
                    h, gates = SMALL.ssm_heads, large.ssm_heads * 2 * (
                        large.d_state + large.head_dim)
                    own_rows = h * 2 * (SMALL.d_state + SMALL.head_dim)
                    rows = np.concatenate([np.arange(own_rows), gates + np.arange(h),
                                           gates + large.ssm_heads + np.arange(h)])
                    target[np.ix_(rows, channels)] = source
                elif name == "conv1d":
                    target[:, :source.shape[1]] = source
                else:
                    target[:len(source)] = source
    return small, params


def test_what_does_nothing_is_what_is_cut():
    small, params = hidden_in(LARGE, np.random.default_rng(0))
    tokens = realized(batches(1)[0].tokens)
    whole = WaveCore(LARGE, params)(tokens)[0].numpy()
    assert distance(whole, WaveCore(SMALL, small)(tokens)[0].numpy()) < 1e-4
    cut = carve.carve(LARGE, params, SMALL, batches(), threads=1)
    assert distance(WaveCore(SMALL, cut)(tokens)[0].numpy(), whole) < 1e-4


def test_a_child_of_the_parent_s_own_shape_is_the_parent():
    params = init_params(SMALL, 3)
    cut = carve.carve(SMALL, params, SMALL, batches(1), threads=1)
    assert cut.keys() == params.keys()
    assert all(np.array_equal(cut[key], params[key]) for key in params)


@pytest.mark.parametrize("child, says", [
    (ModelConfig(d_model=96), "model.d_model is 96: use at most the parent's, 64"),
    (ModelConfig(d_state=32), "model.d_state is 32, the parent's is 16: use the same"),
    (ModelConfig(n_layers=2, pattern="AA"), "which is not in the parent's SSAS")])
def test_what_cannot_be_cut_is_refused(child, says):
    with pytest.raises(ConfigError, match=says):
        carve.check(ModelConfig(), child)


def parent_in(run_dir, *overrides: str):
    """A run directory with an untrained brain."""
    profile = load_profile("toy", [*LESSONS, "model.n_layers=3", *overrides])
    run_dir.mkdir()
    checkpoint.save(run_dir, Learner(profile, 1).state_dict(), {
        "profile": profile.to_dict(), "step": 0, "skipped": 0, "elapsed_s": 0.0, "rollbacks": 0,
        "plan": {"decay_start": None, "total_steps": None}, "school": START})
    return profile


START = {"grade": 1, "opened": 1, "exams": 0, "examined_at": 0, "passed": [], "accuracy": {}}


def test_the_parent_s_word_is_kept_on_disk_and_the_parent_is_not_needed_again(tmp_path):
    parent = parent_in(tmp_path / "parent")
    (tmp_path / "child").mkdir()
    profile = load_profile("fast", [*LESSONS, f"distill.source={tmp_path / 'parent'}",
                                    "distill.batches=3", "distill.top=4"])
    said = distill.prepare(profile, tmp_path / "child", 1, print, lambda: False)
    model = WaveCore(parent.model, distill.read_parent(tmp_path / "parent", print).params)
    for step in range(3):
        batch = said.batch(step)
        logits = model(realized(batch.tokens))[0].numpy()
        z = logits.astype(np.float64) / profile.distill.temperature
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        learnt = batch.targets >= 0
        assert learnt.any() and (batch.places[~learnt] == -1).all()
        likeliest = np.sort(p[learnt], -1)[:, :-5:-1]
        assert np.allclose(np.sort(batch.probs[learnt], -1)[:, ::-1], likeliest, atol=1e-6)
        assert np.allclose(np.take_along_axis(p[learnt], batch.places[learnt].astype(int), -1),
                           batch.probs[learnt], atol=1e-6)
    assert np.array_equal(said.batch(3).tokens, said.batch(0).tokens)
    shutil.rmtree(tmp_path / "parent")
    again = distill.prepare(profile, tmp_path / "child", 1, print, lambda: False)
    assert all(np.array_equal(a, b) for a, b in zip(said.batch(1), again.batch(1)))


def test_a_damaged_or_foreign_file_is_made_again_and_a_stop_leaves_nothing(tmp_path):
    parent_in(tmp_path / "parent")
    child = tmp_path / "child"
    child.mkdir()
    options = [*LESSONS, f"distill.source={tmp_path / 'parent'}", "distill.batches=2"]

    def prepare(*more: str, stopped=lambda: False):
        return distill.prepare(load_profile("fast", [*options, *more]), child, 1, print, stopped)
    assert prepare(stopped=lambda: True) is None and not list(child.iterdir())
    prepare()
    whole = (child / distill.NAME).read_bytes()
    (child / distill.NAME).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    prepare()
    assert (child / distill.NAME).read_bytes() == whole
    prepare("distill.temperature=3")
    assert (child / distill.NAME).read_bytes() != whole


def command(tmp_path, out: str, steps: int) -> list[str]:
    return [sys.executable, "-m", "seed", "carve", "--run-dir", str(tmp_path / "parent"), "--out",
            str(tmp_path / out), "--profile", "fast", f"--steps={steps}", "--json", "--threads=1",
            "--set", "train.batch_size=2", "--set", "train.seq_len=32", "--set",
            "distill.batches=5", "--set", "train.save_every_minutes=0.001", "--set",
            "train.write_gb_per_day=1e6"]


def test_a_killed_carving_goes_on_to_the_same_bits(tmp_path):
    parent_in(tmp_path / "parent")
    whole = subprocess.run(command(tmp_path, "whole", 60), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["step"] == 60
    assert "the parent has read 5 of 5 batches" in whole.stderr
    for delay in (1.0, 2.5):
        process = subprocess.Popen(command(tmp_path, "killed", 60), stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path, "killed", 60), capture_output=True, check=True)
    assert (tmp_path / "whole" / checkpoint.NAME).read_bytes() == \
        (tmp_path / "killed" / checkpoint.NAME).read_bytes()


def test_bad_input_to_carve_is_one_line(tmp_path):
    parent_in(tmp_path / "parent")
    for options, says in (
            (["--run-dir", str(tmp_path / "none"), "--out", str(tmp_path / "c")], "has no brain"),
            (["--run-dir", str(tmp_path / "parent"), "--out", str(tmp_path / "parent")],
             "--out is the parent's own directory"),
            (["--run-dir", str(tmp_path / "parent"), "--out", str(tmp_path / "c"), "--profile",
              "seed"], "model.d_model is 96: use at most the parent's, 64")):
        done = subprocess.run([sys.executable, "-m", "seed", "carve", *options],
                              capture_output=True, text=True)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
