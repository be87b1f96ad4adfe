"""Exported files in the runtimes at hand: this Python's, and tflite-runtime 2.14 in an older."""
import json
import os
import subprocess
from pathlib import Path

import pytest

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
