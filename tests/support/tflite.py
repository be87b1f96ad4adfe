"""Exported files in the runtimes at hand: this Python's, and tflite-runtime 2.14 in an older."""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seed.runtime import Brain
from tests.support import brains

ROOT = Path(__file__).parents[2]
OLD = ROOT / ".venv-tflite/bin/python"   # Python 3.11, numpy 1.26, tflite-runtime 2.14
SMALL = ("model.n_layers=3", "model.d_model=32", "model.d_ff=48", "model.sliding_window=9",
         "model.head_dim=32")
# Operators outside the delegate: the embedding's lookup, and what makes its row float32.
LOOKUP = {("portable", "float32"): {"GATHER": 1}, ("litert", "float32"): {"GATHER": 1},
          ("portable", "float16"): {"DEQUANTIZE": 1, "GATHER": 1},
          ("litert", "float16"): {"DEQUANTIZE": 1, "GATHER": 1},
          ("portable", "int8"): {"CAST": 1, "GATHER": 2},
          ("litert", "int8"): {"EMBEDDING_LOOKUP": 1}}


def old_python() -> str:
    if not OLD.exists():
        pytest.skip("bin/test.sh found no Python 3.11, which tflite-runtime needs")
    return str(OLD)


def judged(python: str, path: Path, expected: Path) -> dict:
    """What tests/support/judge.py measures of a file in that Python's runtime."""
    done = subprocess.run([python, str(ROOT / "tests/support/judge.py"), str(path), str(expected)],
                          capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_prefill(file: Brain) -> None:
    """A prompt read in steps of several bytes leaves the state that single steps leave."""
    prompt = bytes(brains.some_bytes(23))
    prefilled = file.prefill(prompt), file.step(65)
    file.reset()
    stepped = [file.step(byte) for byte in prompt][-1], file.step(65)
    assert np.abs(np.array(prefilled) - stepped).max() < 1e-5 * np.ptp(stepped)
