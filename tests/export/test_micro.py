"""tflite-micro, for microcontrollers: its interpreter from PyPI, in an environment of its own."""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seed.runtime import Brain
from tests.support import brains
from tests.support.tflite import ROOT

ARENA = re.compile(r"arena of (\d+) KB")


@pytest.fixture(scope="module")
def micro(tmp_path_factory) -> Path:
    """A Python with tflite-micro, of which there are no releases but daily ones."""
    folder = tmp_path_factory.mktemp("micro") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-compile",
                    "--pre", "tflite-micro", "numpy"], check=True)
    return folder / "bin/python"


def run(micro: Path, path: Path, expected: Path, arena_bytes: int) -> subprocess.CompletedProcess:
    return subprocess.run([micro, ROOT / "tests/support/run_in_micro.py", path, expected,
                           str(arena_bytes)], capture_output=True, text=True)


@pytest.mark.long
def test_fast_runs_in_the_arena_that_the_page_states_and_integer_files_do_not(micro, tmp_path):
    fast = brains.trained(brains.untrained(tmp_path / "fast", "fast"))
    files = {target: brains.exported(fast, tmp_path / target, target=target, weights="int8",
                                     explicit_state=True) for target in ("portable", "litert")}
    here, data = Brain(files["portable"]), brains.some_bytes(200)
    np.savez(tmp_path / "e.npz", bytes=data, logits=[here.step(byte) for byte in data])
    arena_bytes = 1000 * int(ARENA.search((ROOT / "docs/export.md").read_text())[1])
    done = run(micro, files["portable"], tmp_path / "e.npz", arena_bytes)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["agreed"] == 200 and measured["relative_delta"] < 1e-5
    done = run(micro, files["litert"], tmp_path / "e.npz", 10 * arena_bytes)
    assert done.returncode and "Node FULLY_CONNECTED" in done.stdout + done.stderr
