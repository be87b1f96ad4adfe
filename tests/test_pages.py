"""Every command of the README runs, with less work where it names an amount."""
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
            for line in block.splitlines()]
SHORTER = (("--minutes 3", "--minutes 0.1"),
           *((f"--steps {n}", "--steps 3") for n in (16000, 2000, 3000, 6000, 4000, 400)),
           ("--seeds 3", "--seeds 1"),
           ("--out runs/carved", "--out runs/carved --set distill.batches=2"),
           ("--tokens-per-s 2000", "--probe-seconds 3 --threads 1 --set model.d_model=64 "
            "--set model.n_layers=4 --set train.batch_size=2"),
           ("--minutes 60", "--minutes 0.4 --probe-seconds 2 --bytes-per-parameter 0 --threads 1 "
            "--set model.d_model=64 --set model.n_layers=4 --set train.batch_size=2"),
           *((f"--items {n} ", "--items 2 ") for n in (10000, 1000)),
           ("--turns 10", "--turns 1 --set model.n_layers=1"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(runs, command):
    if command == "bin/test.sh":  # is running now; it must take pytest's options
        command += " --collect-only -q tests/test_rng.py"
    for long, short in SHORTER:
        command = command.replace(long, short)
    command = command.replace("runs/", f"{runs}/")
    if "train.sh" in command or "ablate" in command or "carve" in command or "grow.sh" in command:
        command += " --set curriculum.holdout_items=2"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True,
                          timeout=300, env={**os.environ, "PYTHONWARNINGS": "default"})
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_file_that_the_readme_names_is_there():
    names = re.findall(r"`((?:seed|tests|bin|profiles)/[\w./-]*)`", TEXT)
    assert len(names) > 30
    assert not [name for name in names if not (ROOT / name).exists()]


def test_every_module_has_its_line_in_the_file_map():
    mapped = TEXT[TEXT.index("## File map"):TEXT.index("## Contributing")]
    modules = [path.relative_to(ROOT) for path in (ROOT / "seed").rglob("*.py")
               if path.name != "__init__.py" and "bench" not in path.parts]
    assert not [str(m) for m in modules if f"`{m}`" not in mapped and f"`{m.name}`" not in mapped]
