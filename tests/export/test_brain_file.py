"""From a checkpoint to a verified file: the same bytes, nothing written that is not right."""
import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from seed.errors import CheckpointError, ConfigError
from seed.evaluation import TrainedBrain
from seed.export import Options, build
from seed.export.brain_file import BrainFile
from seed.profile_file import load_profile
from seed.runtime import describe
from seed.storage import RunDir, checkpoint
from tests.support import brains
from tests.support.tflite import ROOT, SMALL

BYTES = """
import hashlib, sys
from pathlib import Path
from seed.export import Options
from seed.export.brain_file import BrainFile
from tests.support import brains
brain = brains.trained(Path(sys.argv[1]))
for target in ("portable", "litert"):
    for weights in ("float32", "float16", "int8"):
        data = BrainFile(brain, Options(target, weights, False, 3)).tobytes([])
        print(hashlib.sha256(data).hexdigest())
"""


def test_the_bytes_are_the_same_on_a_cpu_with_fewer_instructions(tmp_path):
    path = brains.untrained(tmp_path, "toy", *SMALL)
    full, reduced = [
        subprocess.run([sys.executable, "-W", "ignore", "-c", BYTES, str(path)], text=True,
                       capture_output=True, cwd=ROOT, env={**os.environ, **env})
        for env in ({}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX X86_V3 X86_V4 "
                         "ASIMDHP ASIMDDP SVE"})]
    assert full.stdout.count("\n") == 6, full.stderr
    assert full.stdout == reduced.stdout


def test_the_same_checkpoint_gives_the_same_bytes_and_is_not_changed(tmp_path):
    path = brains.untrained(tmp_path, "fast")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    files = [BrainFile(brains.trained(path), Options()).tobytes() for _ in range(2)]
    assert files[0] == files[1]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    description = describe(files[0], "file")
    assert description["checkpoint_sha256"] == before and description["verified"] is False
    assert description["profile"] == load_profile("fast").to_dict() and description["step"] == 7


def test_scores_are_all_that_verification_changes_in_a_file(brain):
    file = BrainFile(brain, Options())
    unverified, scores = file.tobytes(), [{"task": "copy", "level": 1, "correct": 1, "count": 1}]
    verified = describe(file.tobytes(scores), "file")
    assert (verified["verified"], verified["holdout"]) == (True, scores)
    assert file.tobytes() == unverified == BrainFile(brain, Options()).tobytes()


def test_the_newest_usable_brain_is_exported_and_a_damaged_one_named(tmp_path):
    path, run_dir, lines = brains.untrained(tmp_path, "toy", *SMALL), RunDir(tmp_path), []
    before = path.read_bytes()
    shutil.copy(path, run_dir.previous_checkpoint)
    path.write_bytes(before[:-9])
    file = build(run_dir, verified=False, log=lines.append)
    assert len(lines) == 1 and run_dir.previous_checkpoint.name in lines[0]
    data = run_dir.exported_brain.read_bytes()
    assert file.path == run_dir.exported_brain and file.size == len(data) and not file.report
    assert describe(data, "")["checkpoint_sha256"] == hashlib.sha256(before).hexdigest()


def test_a_brain_that_is_not_finite_is_never_written(tmp_path):
    profile = load_profile("toy", [*SMALL, "curriculum.holdout_items=1"])
    params = brains.weights(profile)
    params["norm_f"][:] = np.nan
    brains.save(tmp_path, profile, params)
    with pytest.raises(CheckpointError, match="norm_f is not finite"):
        build(RunDir(tmp_path))
    assert not (tmp_path / "brain.tflite").exists()


def test_a_checkpoint_without_one_of_its_weights_is_refused(tmp_path):
    path = brains.untrained(tmp_path, "toy", *SMALL)
    read = checkpoint.read(path)
    del read.tensors["norm_f"]
    with pytest.raises(CheckpointError, match="norm_f is missing or misshaped: train on"):
        TrainedBrain.of(read)


def test_other_files_are_never_replaced(tmp_path):
    path = brains.untrained(tmp_path, "toy", *SMALL)
    before = path.read_bytes()
    for out, message in ((path, "is not a TFLite file"), (tmp_path, "is not a TFLite file"),
                         (tmp_path / "no/f", "create it first")):
        with pytest.raises(ConfigError, match=message):
            build(RunDir(tmp_path), out=out, verified=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("prefill", [-1, 1, 65])
def test_options_refuse_a_prefill_that_no_graph_has(prefill):
    with pytest.raises(ConfigError, match=f"--prefill is {prefill}: use 2 to 64"):
        Options(prefill=prefill)


def test_a_file_is_verified_where_no_temporary_file_can_be_made(tmp_path, monkeypatch):
    brains.untrained(tmp_path, "toy", *SMALL, "curriculum.holdout_items=1",
                     "curriculum.tasks={copy=1}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert build(RunDir(tmp_path)).report
