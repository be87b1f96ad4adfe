"""Imports point down: what a robot or a checker needs never pulls in tinygrad."""
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", [
    "seed.config", "seed.rng", "seed.curriculum.grades", "seed.system_health", "seed.__main__",
    "seed.training.checkpoint", "seed.training.evaluate", "seed.training.loop"])
def test_the_module_imports_without_tinygrad(module):
    code = f"import sys, {module}; sys.exit('tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
