"""Exported files against the numpy reference and the trainer, in both runtimes."""
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinygrad import Tensor

import brains
from seed.config import load_profile
from seed.export.graph import Options
from seed.export.reference import Reference
from seed.export.translate import Source, translate
from seed.export.verify import free_run, plan_of
from seed.runtime import Brain, BrainError, describe
from seed.system_health import rss_mb
from seed.training.checkpoint import NAME
from seed.wavecore.decode import Decoder
from seed.wavecore.model import WaveCore

ROOT = Path(__file__).parent.parent
OLD = ROOT / ".venv-tflite/bin/python"   # Python 3.11, numpy 1.26, tflite-runtime 2.14
SMALL = ("model.n_layers=3", "model.d_model=32", "model.d_ff=48", "model.sliding_window=9",
         "model.head_dim=32")
LOOKUPS = {"GATHER", "EMBEDDING_LOOKUP", "CAST", "DEQUANTIZE"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return Source(brains.untrained(tmp_path_factory.mktemp("source"), "toy", *SMALL))


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
    source = Source(tmp_path / "run" / NAME)
    brain = Brain(exported(source, tmp_path, target=target))
    agreement = free_run(brain, [reference_of(source).step], 400)[0]
    assert agreement.agreed == 400 and agreement.relative < 1e-5, agreement


@pytest.mark.parametrize("name", ["toy", "fast", "mid", "slow", "seed"])
def test_every_profile_is_one_partition_with_only_the_lookup_outside(tmp_path, name):
    source = Source(brains.untrained(tmp_path, name))
    for target in ("portable", "litert"):
        for weights in ("float32", "float16", "int8"):
            brain = Brain(exported(source, tmp_path, target=target, weights=weights))
            plan = plan_of(brain.interpreter)
            assert plan.partitions == 1 and set(plan.outside) <= LOOKUPS, (target, weights, plan)
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
    source = Source(brains.untrained(tmp_path, "toy"))
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


def test_the_same_checkpoint_gives_the_same_bytes_and_is_not_changed(tmp_path):
    path = brains.untrained(tmp_path, "fast")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    files = [translate(Source(path), Options(), None) for _ in range(2)]
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
    done = subprocess.run([python, str(ROOT / "tests/judge.py"), str(path), str(expected)],
                          capture_output=True, text=True, timeout=200,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **more})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory) -> Path:
    """What the reference says to some bytes."""
    return brains.expect(tmp_path_factory.mktemp("expected") / "expected.npz", source, 500)


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_a_portable_file_does_the_same_in_tflite_runtime_2_14(source, tmp_path, expected, weights):
    path = exported(source, tmp_path, weights=weights)
    old = judged(old_python(), path, expected)
    new = judged(sys.executable, path, expected)
    assert (old["runtime"], new["runtime"]) == ("tflite-runtime", "ai-edge-litert")
    assert old["text"] == new["text"]
    for found in (old, new):
        assert found["partitions"] == 1 and set(found["outside"]) <= LOOKUPS
        assert found["relative"] < {"float32": 1e-5, "float16": 0.02, "int8": 0.4}[weights]


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
    monkeypatch.setattr("seed.runtime._find_interpreter", lambda: pytest.fail("it was asked"))
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
    for bad, says in ((["export", *where, "--prefill", "1"], "--prefill is 1"),
                      (["run", out, "--prompt", "x", "--temperature=-1"], "--temperature is -1"),
                      (["run", out, "--prompt", "x", "--max-bytes", "0"], "--max-bytes is 0"),
                      (["export", "--run-dir", out + "/none"], "checkpoint.safetensors: ")):
        done = seed(*bad)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


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
