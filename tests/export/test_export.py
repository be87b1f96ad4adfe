"""Exported files against the numpy reference and the trainer, in both runtimes."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tinygrad import Tensor

from seed.storage import RunDir
from tests.support import brains
from seed.config import load_profile
from seed.curriculum.dataset import Dataset
from seed.export.graph import Options
from seed.export.reference import Reference
from seed.export.build import RUNTIMES, Source, translate
from seed.export.verify import Agreement, Plan, Report, fault, free_run, plan_of
from seed.runtime import Brain, BrainError, describe, seal
from seed.system_health import rss_mb
from seed.wavecore.decode import Decoder
from seed.wavecore.model import WaveCore

ROOT = Path(__file__).parents[2]
OLD = ROOT / ".venv-tflite/bin/python"   # Python 3.11, numpy 1.26, tflite-runtime 2.14
SMALL = ("model.n_layers=3", "model.d_model=32", "model.d_ff=48", "model.sliding_window=9",
         "model.head_dim=32")
# What is outside of the partition: the embedding's lookup, and what makes its row float32.
LOOKUP = {("portable", "float32"): {"GATHER": 1}, ("litert", "float32"): {"GATHER": 1},
          ("portable", "float16"): {"DEQUANTIZE": 1, "GATHER": 1},
          ("litert", "float16"): {"DEQUANTIZE": 1, "GATHER": 1},
          ("portable", "int8"): {"CAST": 1, "GATHER": 2},
          ("litert", "int8"): {"EMBEDDING_LOOKUP": 1}}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return brains.source_of(brains.untrained(tmp_path_factory.mktemp("source"), "toy", *SMALL))


def exported(source: Source, folder: Path, **options) -> Path:
    path = folder / "brain.tflite"
    path.write_bytes(translate(source, Options(**options), None))
    return path


def reference_of(source: Source) -> Reference:
    return Reference(source.profile.model, source.params)


@pytest.mark.parametrize("overrides", [[], ["model.transition=diagonal"], ["model.pattern=S"],
                                       ["model.pattern=SA", "model.d_state=32"]], ids=str)
def test_the_numpy_reference_equals_plain_tinygrad(tmp_path, overrides):
    """Two specifications written apart from each other."""
    profile = load_profile("toy", [*SMALL, *overrides])
    params = brains.weights(profile)
    tokens = brains.some_bytes(12)
    plain = WaveCore(profile.model, params, kernels=False)(Tensor([tokens]))[0].numpy()[0]
    reference = Reference(profile.model, params)
    found = np.stack([reference.step(byte) for byte in tokens])
    assert np.abs(found - plain).max() < 1e-5 * np.ptp(plain)


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_free_running_file_equals_reference_and_trainer(source, tmp_path, target, explicit):
    brain = Brain(exported(source, tmp_path, target=target, explicit_state=explicit))
    decoder = Decoder(WaveCore(source.profile.model, source.params))
    judges = [reference_of(source).step, lambda byte: decoder.prefill(bytes([byte]))]
    for agreement in free_run(brain, judges, 400):
        assert agreement.agreed == 400 and agreement.relative < 1e-5, agreement


@pytest.mark.parametrize("target", ["portable", "litert"])
def test_heads_as_long_training_leaves_them_keep_their_digits(tmp_path, target):
    """A step that is nearly none times a rate that is large: the decay of a head that remembers."""
    profile = load_profile("toy", SMALL)
    params = brains.weights(profile)
    for key in params:
        if key.endswith("A_log"):
            params[key][:] = 7.0
        if key.endswith("dt_bias"):
            params[key][:] = -11.0
    brains.save(tmp_path / "run", profile, params)
    source = brains.source_of(RunDir(tmp_path / "run").checkpoint)
    brain = Brain(exported(source, tmp_path, target=target))
    agreement = free_run(brain, [reference_of(source).step], 400)[0]
    assert agreement.agreed == 400 and agreement.relative < 1e-5, agreement


@pytest.mark.parametrize("name", ["toy", "fast", "mid", "slow", "seed"])
def test_every_profile_is_one_partition_with_only_the_lookup_outside(tmp_path, name):
    source = brains.source_of(brains.untrained(tmp_path, name))
    for target in ("portable", "litert"):
        for weights in ("float32", "float16", "int8"):
            brain = Brain(exported(source, tmp_path, target=target, weights=weights))
            plan = plan_of(brain.interpreter)
            assert plan.partitions == 1 and plan.outside == LOOKUP[target, weights], plan
            assert np.isfinite(brain.step(65)).all()


def test_float32_files_hold_and_narrow_weights_come_near(source, tmp_path):
    sizes, deltas = {}, {}
    for weights in ("float32", "float16", "int8"):
        path = exported(source, tmp_path, target="litert", weights=weights)
        agreement = free_run(Brain(path), [reference_of(source).step], 200)[0]
        sizes[weights], deltas[weights] = path.stat().st_size, agreement.relative
    assert deltas["float32"] < 1e-5 < deltas["float16"] < 0.02 < deltas["int8"] < 0.4
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("explicit", [False, True])
def test_prefill_equals_single_steps_and_both_go_on_alike(source, tmp_path, target, explicit):
    brain = Brain(exported(source, tmp_path, target=target, explicit_state=explicit, prefill=5))
    prompt = bytes(brains.some_bytes(23))
    leapt = brain.prefill(prompt), brain.step(65)
    brain.reset()
    stepped = [brain.step(byte) for byte in prompt][-1], brain.step(65)
    assert np.abs(np.array(leapt) - stepped).max() < 1e-5 * np.ptp(stepped)


@pytest.mark.long
@pytest.mark.parametrize("target", ["portable", "litert"])
def test_a_hundred_thousand_steps_do_not_drift_or_grow(tmp_path, target):
    source = brains.source_of(brains.untrained(tmp_path, "toy"))
    brain, reference = Brain(exported(source, tmp_path, target=target)), reference_of(source)
    free_run(brain, [reference.step], 1000)
    before, reference = rss_mb(), reference_of(source)
    agreement = free_run(brain, [reference.step], 100_000, seed=1)[0]
    assert agreement.relative < 1e-3 and agreement.steps == 100_000, agreement
    assert rss_mb() - before < 3
    print(f"{target}: {agreement}")


def test_reset_forgets_everything(source, tmp_path):
    brain = Brain(exported(source, tmp_path))
    first = [brain.step(byte) for byte in b"abc"]
    brain.reset()
    assert np.array_equal(first, [brain.step(byte) for byte in b"abc"])
    assert not np.array_equal(first[0], brain.step(ord("a")))


BYTES = """
import hashlib, sys
from tests.support import brains
from seed.export.graph import Options
from seed.export.build import translate
source = brains.source_of(brains.Path(sys.argv[1]))
for target in ("portable", "litert"):
    for weights in ("float32", "float16", "int8"):
        print(hashlib.sha256(translate(source, Options(target, weights, False, 3), [])).hexdigest())
"""


def test_the_bytes_are_the_same_on_a_cpu_with_fewer_instructions(tmp_path):
    path = brains.untrained(tmp_path, "toy", *SMALL)
    found = [subprocess.run([sys.executable, "-W", "ignore", "-c", BYTES, str(path)], text=True,
                            capture_output=True, cwd=ROOT / "tests", env={**os.environ, **more})
             for more in ({}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX X86_V3 "
                               "X86_V4 ASIMDHP ASIMDDP SVE"})]
    assert found[0].stdout.count("\n") == 6, found[0].stderr
    assert found[0].stdout == found[1].stdout


def test_the_same_checkpoint_gives_the_same_bytes_and_is_not_changed(tmp_path):
    path = brains.untrained(tmp_path, "fast")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    files = [translate(brains.source_of(path), Options(), None) for _ in range(2)]
    assert files[0] == files[1]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    said = describe(files[0], "file")
    assert said["checkpoint_sha256"] == before and said["verified"] is False
    assert said["profile"] == load_profile("fast").to_dict() and said["step"] == 7


def old_python() -> str:
    if not OLD.exists():
        pytest.skip("bin/test.sh found no Python 3.11, which tflite-runtime needs")
    return str(OLD)


def judged(python: str, path: Path, expected: Path, **more: str) -> dict:
    done = subprocess.run([python, str(ROOT / "tests/support/judge.py"), str(path), str(expected)],
                          capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **more})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory) -> Path:
    """What the reference says to some bytes."""
    return brains.expect(tmp_path_factory.mktemp("expected") / "expected.npz", source, 500)


@pytest.mark.parametrize("weights, more", [
    ("float32", {}), ("float16", {}), ("int8", {}),
    ("float32", {"explicit_state": True, "prefill": 4})], ids=str)
def test_a_portable_file_does_the_same_in_tflite_runtime_2_14(source, tmp_path, expected, weights,
                                                              more):
    path = exported(source, tmp_path, weights=weights, **more)
    old = judged(old_python(), path, expected)
    new = judged(sys.executable, path, expected)
    assert (old["runtime"], new["runtime"]) == ("tflite-runtime", "ai-edge-litert")
    assert old["text"] == new["text"]
    for found in (old, new):
        assert found["partitions"] == 1 and found["outside"] == LOOKUP["portable", weights]
        assert found["agreed"] == 500 or weights != "float32"
        assert found["relative"] < {"float32": 1e-5, "float16": 0.02, "int8": 0.4}[weights]


@pytest.mark.long
@pytest.mark.parametrize("name", ["toy", "fast", "mid", "slow", "seed"])
def test_a_trained_brain_is_the_same_in_both_runtimes_and_int8_costs_less_than_a_point(
        tmp_path, name):
    """After a minute and a half of training: 10,000 steps that it says to itself, its holdout."""
    subprocess.run([sys.executable, "-m", "seed", "train", "--profile", name, "--minutes", "1.5",
                    "--run-dir", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    source = brains.source_of(RunDir(tmp_path).checkpoint)
    dataset = Dataset(source.profile.curriculum, source.profile.identity,
                      source.profile.train.seed)
    items = list(dict.fromkeys(dataset.holdout(source.profile.curriculum.holdout_items)))
    expected = brains.expect(tmp_path / "expected.npz", source, 10_000, items)
    right = {}
    for target, python in (("portable", sys.executable), ("portable", old_python()),
                           ("litert", sys.executable)):
        for weights in ("float32", "int8"):
            path = exported(source, tmp_path, target=target, weights=weights)
            found = judged(python, path, expected)
            right[target, python, weights] = found["right"] / len(items)
            print(name, target, {**found, "text": ""})
            assert found["outside"] == LOOKUP[target, weights] and found["steps"] == 10_000
        lost = right[target, python, "float32"] - right[target, python, "int8"]
        assert lost <= 0.01, right


@pytest.mark.long
def test_the_oldest_litert_that_files_name_runs_them(source, tmp_path, expected):
    """Installed from the package index."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q",
                    f"ai-edge-litert=={RUNTIMES['ai-edge-litert']}"], check=True)
    for (target, weights), outside in LOOKUP.items():
        found = judged(python, exported(source, tmp_path, target=target, weights=weights), expected)
        assert found["outside"] == outside


def test_a_file_for_litert_is_refused_by_tflite_runtime(source, tmp_path):
    path = exported(source, tmp_path, target="litert")
    done = subprocess.run([old_python(), "-c", "import sys; from seed.runtime import *\n"
                           f"try: Brain({str(path)!r})\nexcept BrainError as e: print(e)"],
                          capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert "is for ai-edge-litert, this is tflite-runtime" in done.stdout, done.stderr


def test_runtime_py_alone_says_what_the_trainer_says(source, tmp_path):
    """Copied into an empty folder, in an environment with numpy and tflite-runtime only."""
    path = exported(source, tmp_path)
    (tmp_path / "robot").mkdir()
    (tmp_path / "robot/runtime.py").write_text((ROOT / "seed/runtime.py").read_text())
    decoder = Decoder(WaveCore(source.profile.model, source.params))
    for temperature in (0.0, 1.0):
        expected = bytes(decoder.generate(b"12+30=", 60, 0xFE, temperature, 5))
        decoder.reset()
        done = subprocess.run(
            [old_python(), "-c", "from runtime import Brain; print(list(Brain("
             f"{str(path)!r}).generate_bytes(b'12+30=', 60, None, {temperature}, 5)))"],
            capture_output=True, text=True, cwd=tmp_path / "robot", timeout=60)
        assert json.loads(done.stdout) == list(expected), done.stderr


def test_a_mutated_or_foreign_file_never_reaches_the_interpreter(source, tmp_path, monkeypatch):
    """10,000 files: cut, flipped, doubled; the interpreter would crash on many of them."""
    monkeypatch.setattr("seed.runtime.find_interpreter", lambda: pytest.fail("it was asked"))
    whole, path = exported(source, tmp_path).read_bytes(), tmp_path / "mutated.tflite"
    rng = brains.stream(0, brains.Stream.SAMPLE, 9)
    for i in range(10_000):
        at = int(rng.integers(len(whole)))
        data = {0: whole[:at], 1: whole[:at] + bytes([whole[at] ^ 1 << i % 8]) + whole[at + 1:],
                2: whole[:at] + whole[at:at + 9] + whole[at:], 3: whole[at:]}[i % 4]
        if data == whole:
            continue
        path.write_bytes(data)
        with pytest.raises(BrainError, match="mutated.tflite") as error:
            Brain(path)
        assert "\n" not in str(error.value)


def of_another_version(data: bytes) -> bytes:
    return seal(data.replace(b'"format":1', b'"format":9', 1))


def without_reset(data: bytes) -> bytes:
    return seal(data.replace(b"reset", b"rexet"))


@pytest.mark.parametrize("change, says", [
    (of_another_version, "another version of seed"), (without_reset, "no signature 'reset'")])
def test_a_whole_file_that_is_not_ours_to_run_is_named(source, tmp_path, change, says):
    path = exported(source, tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BrainError, match=says):
        Brain(path)


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/proc/self/mem", tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(BrainError, match=str(path)):
            Brain(path)


def test_an_older_runtime_is_refused(source, tmp_path, monkeypatch):
    path = exported(source, tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.1.5")
    with pytest.raises(BrainError, match="needs ai-edge-litert 2.1.6 or newer, this is 2.1.5: pip"):
        Brain(path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.10.0rc1")
    Brain(path)


def test_wrong_calls_raise_one_kind_of_error(source, tmp_path):
    path = exported(source, tmp_path)
    brain = Brain(path)
    for wrong in (lambda: brain.step(256), lambda: brain.step(-1), lambda: brain.prefill(b""),
                  lambda: Brain(path, threads=0), lambda: Brain(path).latency_us()):
        with pytest.raises(BrainError):
            wrong()
    assert len(brain.generate("12+30=", 9, stop=ord("\n")).encode()) <= 9 * 3


def report_of(**changes) -> Report:
    fine = Agreement(1000, 1e-6, 10.0, 1000)
    scores = [{"task": "copy", "level": 1, "correct": 90, "count": 100}]
    return replace(Report("ai-edge-litert", fine, fine, scores, scores, Plan(9, 8, 1), 30.0, 50.0),
                   **changes)


def test_what_makes_a_file_unfit_is_found():
    off = Agreement(1000, 0.01, 10.0, 999)
    assert fault(report_of(), "float32") == ""
    assert "the reference's by 1.0e-03" in fault(report_of(reference=off), "float32")
    assert "the trainer's by 1.0e-03" in fault(report_of(trainer=off), "float32")
    assert fault(report_of(reference=off, trainer=off), "int8") == ""
    worse = [{"task": "copy", "level": 1, "correct": 84, "count": 100}]
    assert "6.0 points less of the holdout" in fault(report_of(holdout=worse), "int8")
    nothing = Agreement()
    nothing.see(np.full(256, np.nan), np.arange(256.0))
    assert nothing.relative == float("inf") and fault(report_of(trainer=nothing), "int8")


def test_only_what_the_judge_cannot_tell_apart_is_a_tie():
    judge, agreement = np.arange(11.0), Agreement()     # a range of 10
    near, far = judge.copy(), judge.copy()
    near[9], far[9] = 10 - 1e-4, 10 - 3e-4              # 1e-5 and 3e-5 of it
    flipped = judge.copy()
    flipped[9] = 11
    for expected, counts in ((judge, (1, 0)), (near, (1, 1)), (far, (1, 1)), (judge, (1, 1))):
        agreement.see(flipped if counts[1] else judge, expected)
        assert (agreement.agreed, agreement.tied) == counts
    agreement.see(near, far)
    assert (agreement.agreed, agreement.tied) == (2, 1)


def test_a_brain_that_is_not_finite_is_never_written(tmp_path):
    profile = load_profile("toy", [*SMALL, "curriculum.holdout_items=1"])
    params = brains.weights(profile)
    params["norm_f"][:] = np.nan
    brains.save(tmp_path, profile, params)
    done = subprocess.run([sys.executable, "-m", "seed", "export", "--run-dir", str(tmp_path)],
                          capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "was not written: its logits differ" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "brain.tflite").exists()


@pytest.mark.parametrize("data, says", [
    (b"", "not a TFLite file"), (b"PK\3\4" + b"x" * 99, "not a TFLite file"),
    (b"\x1c\0\0\0TFL3" + b"\0" * 200, "not a brain of seed")])
def test_foreign_files_are_named(tmp_path, data, says):
    (tmp_path / "f.tflite").write_bytes(data)
    done = subprocess.run([sys.executable, "-m", "seed", "run", str(tmp_path / "f.tflite"),
                           "--prompt", "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and says in done.stderr


def test_the_command_exports_verifies_and_chats(tmp_path):
    brains.untrained(tmp_path, "fast", "curriculum.holdout_items=2")
    where, out = ["--run-dir", str(tmp_path)], str(tmp_path / "out.tflite")

    def seed(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "seed", *options], capture_output=True,
                              text=True, timeout=200)
    done = seed("export", *where, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["reference"]["agreed"] == report["trainer"]["agreed"] == 1000
    assert report["plan"]["partitions"] == 1 and report["holdout"] and report["p50_us"] > 0
    said = describe(Path(out).read_bytes(), out)
    assert said["verified"] and said["holdout"] == report["holdout"]
    assert "partition" in seed("export", *where).stdout
    chat = ["--prompt", "12+30=", "--max-bytes", "9", "--json"]
    assert json.loads(seed("run", out, *chat).stdout) == json.loads(
        seed("generate", *where, *chat).stdout)
    quick = seed("export", *where, "--no-verify", "--int8")
    assert quick.returncode == 0 and "not verified" in quick.stdout
    facts = seed("export", *where, "--no-verify", "--json", "--out", out)
    assert json.loads(facts.stdout) == {"size": Path(out).stat().st_size, "verified": False}
    brain, ask = RunDir(tmp_path).checkpoint, ["run", out, "--prompt"]
    before = brain.read_bytes()
    for bad, says in ((["export", *where, "--prefill", "1"], "--prefill is 1"),
                      ([*ask, "x", "--temperature=-1"], "--temperature is -1"),
                      ([*ask, "x", "--max-bytes", "0"], "--max-bytes is 0"),
                      ([*ask, "x", "--seed=-1"], "--seed is -1"),
                      ([*ask, b"\xff"], "--prompt is not UTF-8"),
                      (["export", *where, "--out", str(brain)], "is no TFLite file"),
                      (["export", *where, "--out", out + "/x/y"], "is no directory: make it"),
                      (["export", "--run-dir", out + "/none"], "has no brain: train one")):
        done = seed(*bad)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, (
            bad, done.stderr)
    assert brain.read_bytes() == before and seed("export", *where, "--set", "a=1").returncode == 2
    shutil.copy(brain, RunDir(tmp_path).previous_checkpoint)
    brain.write_bytes(before[:-9])
    fallen = seed("export", *where, "--no-verify")
    assert fallen.returncode == 0 and "using checkpoint.previous.safetensors" in fallen.stderr
    assert describe((tmp_path / "brain.tflite").read_bytes(), "")["checkpoint_sha256"] == (
        hashlib.sha256(before).hexdigest())


def test_the_writer_says_what_an_independent_reader_reads(source, tmp_path):
    from ai_edge_litert import schema_py_generated as schema
    data = exported(source, tmp_path, prefill=4).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert model.version == 3 and schema.Model.ModelBufferHasIdentifier(data, 0)
    assert [s.signatureKey.decode() for s in model.signatureDefs] == ["step", "prefill_4", "reset"]
    step = model.subgraphs[0]
    assert [i.name.decode() for i in model.signatureDefs[0].inputs] == ["token"]
    assert step.tensors[step.outputs[0]].shape.tolist() == [1, 256]
    names = {m.name.decode(): model.buffers[m.buffer].data for m in model.metadata}
    assert bytes(names["min_runtime_version"]) == b"2.14.0".ljust(16, b"\0")
    assert json.loads(bytes(names["seed"]))["step"] == 7
    offsets = [data.find(bytes(b.data)) for b in model.buffers if b.data is not None
               and len(b.data) > 64 and any(b.data)]
    assert offsets and all(at % 16 == 0 for at in offsets)
