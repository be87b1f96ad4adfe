"""Imports point down: what a robot or a checker needs never pulls in tinygrad."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", [
    "seed.config", "seed.rng", "seed.curriculum.dataset", "seed.system_health", "seed.__main__",
    "seed.storage.checkpoint", "seed.evaluation.exact_match", "seed.training.loop",
    "seed.export.build", "seed.export.verify", "seed.runtime"])
def test_the_module_imports_without_tinygrad(module):
    code = f"import sys, {module}; sys.exit('tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


EXPORT = """
import sys
import seed.export.build
loaded = {name.split(".")[0] for name in sys.modules}
sys.exit(bool(loaded & {"ai_edge_litert", "tflite_runtime", "tinygrad", "torch"}))
"""
ALONE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("alone", "seed/runtime.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
sys.exit(any(name.split(".")[0] in ("seed", "tinygrad") for name in sys.modules))
"""


@pytest.mark.parametrize("code", [EXPORT, ALONE], ids=["export", "runtime"])
def test_export_needs_no_runtime_and_the_runtime_nothing_of_ours(code):
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
