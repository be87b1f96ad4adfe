"""The self-test of a file: it says what it was verified on, and tells of other arithmetic."""
import json
import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from seed.export import Options, build
from seed.export.brain_file import BrainFile
from seed.runtime import Brain, BrainError, describe, installed_runtime, measure_selftest
from seed.runtime import selftest as module, tflite
from seed.storage import RunDir
from tests.support import acting_brains, brains
from tests.support.descriptions import described
from tests.support.tflite import ROOT, SMALL, old_python

KINDS = [("portable", "float32"), ("portable", "float16"), ("portable", "int8"),
         ("litert", "float32"), ("litert", "int8")]


def with_selftest(brain, path, **changes):
    """A file with the self-test of its own logits, changed."""
    file = BrainFile(brain, Options(**{key: changes.pop(key) for key in ("target", "weights")
                                       if key in changes}))
    path.write_bytes(file.tobytes([]))
    fields = measure_selftest(Brain(path))
    path.write_bytes(file.tobytes([], {**fields, **changes}))
    return path


@pytest.mark.parametrize("target, weights", KINDS)
def test_a_file_passes_where_it_was_verified(brain, tmp_path, target, weights):
    file = Brain(with_selftest(brain, tmp_path / "f", target=target, weights=weights))
    file.step(65)
    test = file.selftest()
    assert test.delta < 1e-6 and test.is_same_machine
    here = f"{platform.machine()} with {installed_runtime()}"
    assert test.describe().endswith(f"verified on {here}, this is {here}")
    after, fresh = file.step(66), Brain(tmp_path / "f").step(66)
    assert np.array_equal(after, fresh)   # the state is a fresh one


def test_export_writes_it_when_it_verifies_and_a_file_without_says_so(tmp_path):
    brains.untrained(tmp_path, "toy", *SMALL, "curriculum.holdout_items=1",
                     "curriculum.tasks={copy=1}")
    run_dir = RunDir(tmp_path)
    build(run_dir)
    fields = describe(run_dir.exported_brain.read_bytes(), "f")["selftest"]
    assert (fields["machine"], fields["runtime"]) == (platform.machine(), installed_runtime())
    assert len(fields["logits"]) == 256 and fields["tolerance"] == module.TOLERANCE
    assert Brain(run_dir.exported_brain).selftest().delta < 1e-6
    build(run_dir, verified=False)
    with pytest.raises(BrainError, match="brain.tflite has no self-test: it was not verified"):
        Brain(run_dir.exported_brain).selftest()


def test_other_arithmetic_is_told_in_one_line_with_both_machines(brain, tmp_path, monkeypatch):
    """As that of int8 on arm64, whose logits differ by a thirtieth of their range."""
    path = with_selftest(brain, tmp_path / "f", target="litert", weights="int8")
    logits = np.array(describe(path.read_bytes(), "f")["selftest"]["logits"])
    logits[7] += np.ptp(logits) / 30
    path = with_selftest(brain, tmp_path / "f", target="litert", weights="int8",
                         logits=logits.tolist(), machine="x86_64")
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    with pytest.raises(BrainError, match=re.escape(
            "gives other logits here than where it was verified: logits within 3.")) as error:
        Brain(path).selftest()
    message = str(error.value)
    assert "verified on x86_64 with" in message and "this is aarch64 with" in message
    assert "export and verify it on this machine" in message and "\n" not in message
    near = with_selftest(brain, tmp_path / "f", target="litert", weights="int8", machine="armv7l")
    assert "int8 arithmetic differs between machines" in Brain(near).selftest().describe()
    floats = with_selftest(brain, tmp_path / "f", machine="armv7l")
    assert "int8" not in Brain(floats).selftest().describe()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_fail(brain, tmp_path, monkeypatch, wrong):
    file = Brain(with_selftest(brain, tmp_path / "f"))
    monkeypatch.setattr(Brain, "step", lambda brain, byte: np.full(256, wrong, np.float32))
    with pytest.raises(BrainError, match="gives other logits here"):
        file.selftest()


def test_a_file_of_an_acting_brain_is_tested_between_episodes(tmp_path):
    trained = acting_brains.untrained()
    file = Brain(with_selftest(trained, tmp_path / "f"))
    file.begin("rover")
    file.act(np.zeros(len(file.description["bodies"]["rover"]["codec"]["channels"])))
    assert file.selftest().delta < 1e-6
    assert file.body == "rover" and file.bodies["rover"].choices is None


def test_a_self_test_that_another_has_written_is_checked(brain, tmp_path):
    path = with_selftest(brain, tmp_path / "f")
    whole = path.read_bytes()
    good = describe(whole, "f")["selftest"]
    for change in ({"machine": "x" * 99}, {"machine": "a\nb"}, {"runtime": 5}, {"bytes": []},
                   {"bytes": [256]}, {"bytes": [65] * 65}, {"bytes": 4}, {"logits": [0.0] * 255},
                   {"logits": ["x"] * 256}, {"tolerance": 0}, {"tolerance": 2}, {"tolerance": "1"}):
        path.write_bytes(described(whole, {"selftest": {**good, **change}}))
        with pytest.raises(BrainError, match="wrong description of its selftest"):
            Brain(path)
    for change in ([], "x", {"machine": "x86_64"}):
        path.write_bytes(described(whole, {"selftest": change}))
        with pytest.raises(BrainError, match="wrong description of its selftest"):
            Brain(path)


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_the_older_runtime_passes_it_too(brain, tmp_path, weights):
    path = with_selftest(brain, tmp_path / "f", weights=weights)
    code = (f"import json, sys\nfrom seed.runtime import Brain\n"
            f"test = Brain({str(path)!r}).selftest()\nprint(json.dumps([test.delta, test.here]))")
    done = subprocess.run([old_python(), "-c", code], capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT)})
    delta, here = json.loads(done.stdout or "[9, ''] " + done.stderr)
    assert delta < 1e-5 and "tflite-runtime 2.14.0" in here


def test_it_takes_sixteen_steps_and_three_kilobytes(brain, tmp_path):
    file = Brain(with_selftest(brain, tmp_path / "f"))
    size = (tmp_path / "f").stat().st_size - len(BrainFile(brain, Options()).tobytes([]))
    file.selftest()
    assert len(file.step_times_s) == 16 and size < 4096


def test_a_brain_that_is_opened_says_nothing_of_its_runtime(brain, tmp_path):
    path = with_selftest(brain, tmp_path / "f")
    done = subprocess.run([sys.executable, "-c", "import sys; from seed.runtime import Brain; "
                           "Brain(sys.argv[1]).step(65)", str(path)], cwd=ROOT,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_others_write_meanwhile_is_not_lost(capfd):
    with pytest.raises(ValueError), tflite.without_notes():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nhot\n")
        raise ValueError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "hot\nafter\n"
