"""What bin/image.sh makes runs where nothing can be written but one directory, and is small."""
import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pip._vendor.packaging.requirements import Requirement

from seed.export.brain_file import MIN_RUNTIMES
from seed.storage import RunDir
from tests.support.attack_run import is_refused, train, works
from tests.support.tiny_run import TINY

ROOT = Path(__file__).parents[1]
PYTHON = getattr(sys, "_base_executable")   # without the packages of this environment
RUNTIMES = ("ai_edge_litert", "tflite_runtime")
MAX_INFERENCE_BYTES, MAX_TRAINING_BYTES = 8e6, 50e6
# All of this machine, read-only and without a network, for a user without any privilege: IMAGE is
# at /mnt, and STATE, all that can be written, at /srv.
READ_ONLY = """
mount --make-rprivate / && mount --rbind / "$ROOT" &&
mount --bind "$IMAGE" "$ROOT/mnt" && mount --bind "$STATE" "$ROOT/srv" &&
mount -t tmpfs -o ro none "$ROOT/tmp" && mount -o remount,ro,bind "$ROOT" &&
mount -o remount,ro,bind "$ROOT/mnt" && cd / &&
exec chroot "$ROOT" setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def image(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", ROOT / "bin/image.sh", *map(str, words)], text=True,
                          capture_output=True, env={**os.environ, "HOST_PYTHON": sys.executable})


def size_of(folder: Path) -> int:
    """Of the files that FILES names, which are all."""
    rows = [line.split(" ", 1) for line in (folder / "FILES").read_text().splitlines()]
    files = {str(path.relative_to(folder)): path.stat().st_size
             for path in folder.rglob("*") if path.is_file() and path.name != "FILES"}
    assert {name: int(size) for size, name in rows} == files
    return sum(files.values())


@pytest.mark.parametrize("words, reason", [
    ((), "without a kind"), (("boot", "x"), "boot: use inference or training"),
    (("training",), "name the folder"), (("training", ROOT), "exists"),
    (("training", ROOT / "none/x"), "is not a directory"),
    (("training", ROOT / "x", "z80"), "z80: use cortex-a76")])
def test_wrong_words_are_one_line(words, reason):
    done = image(*words)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert reason in done.stderr and not (ROOT / "x").exists()


def without(packages: tuple[str, ...], *words: object) -> subprocess.CompletedProcess:
    """A command of seed where these packages are not installed."""
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in packages)
    code = f"import sys\n{blocked}from seed.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True,
                          cwd=ROOT)


def test_a_training_needs_no_package_of_the_exporter_and_no_runtime(tmp_path):
    run, file = f"--run-dir={tmp_path / 'run'}", tmp_path / "run/brain.tflite"
    assert works(without(("flatbuffers", *RUNTIMES), "train", "--steps=2", run, *TINY))
    assert works(without(("flatbuffers", *RUNTIMES), "eval", "--items=1", run))
    assert is_refused(without(("flatbuffers",), "export", run),
                      "flatbuffers is not installed", "pip install flatbuffers")
    assert is_refused(without(RUNTIMES, "export", run), "no TFLite runtime: pip install "
                      "ai-edge-litert, or export with --no-verify")
    assert not file.exists()
    done = without(RUNTIMES, "export", "--no-verify", run)
    assert works(done) and b"not verified" in done.stdout
    assert is_refused(without(RUNTIMES, "run", file, "--prompt=1"),
                      "no TFLite runtime: pip install ai-edge-litert")
    assert works(without(("tinygrad", "flatbuffers", "safetensors", "tflite_runtime"),
                         "run", file, "--prompt=1"))


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "examples/image" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_packages_of_images_are_those_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needs = {each.name: each for each in map(
        Requirement, config["options"]["install_requires"].split("\n")[1:])}
    training, inference = pinned("training.txt"), pinned("inference.txt")
    assert training.keys() == needs.keys() - {"ai-edge-litert"}
    assert all(needs[name].specifier.contains(version) for name, version in training.items())
    assert inference.keys() == {"numpy", "tflite-runtime"}
    assert inference["tflite-runtime"] == MIN_RUNTIMES["portable"]["tflite-runtime"]
    assert needs["numpy"].specifier.contains(inference["numpy"])


@pytest.mark.long
def test_what_the_lists_of_packages_install_is_enough(tmp_path):
    """In two environments: one trains and writes a file without a runtime, the other runs it."""
    for part in ("seed", "profiles"):
        shutil.copytree(ROOT / part, tmp_path / "tree" / part)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "tree")
    for name in ("training", "inference"):
        subprocess.run([PYTHON, "-m", "venv", tmp_path / name], check=True)
        subprocess.run([tmp_path / name / "bin/python", "-m", "pip", "install", "--quiet",
                        "--no-deps", "-r", ROOT / f"examples/image/{name}.txt",
                        *([tmp_path / "tree"] if name == "training" else [])], check=True)
    seed, run = tmp_path / "training/bin/seed", f"--run-dir={tmp_path / 'run'}"
    for words in (["train", "--steps=2", *TINY], ["eval", "--items=1"], ["export", "--no-verify"]):
        assert works(subprocess.run([seed, *words, run], capture_output=True, cwd=tmp_path))
    shutil.copytree(ROOT / "seed/runtime", tmp_path / "robot/runtime")
    code = f"from runtime import Brain; Brain({str(tmp_path / 'run/brain.tflite')!r}).generate('1')"
    assert works(subprocess.run([tmp_path / "inference/bin/python", "-c", code],
                                capture_output=True, cwd=tmp_path / "robot"))


@pytest.mark.long
def test_an_image_for_inference_is_small(tmp_path):
    for cpu in ("cortex-a76", "native"):
        done = image("inference", tmp_path / cpu, cpu)
        assert done.returncode == 0, done.stderr
        assert size_of(tmp_path / cpu) < MAX_INFERENCE_BYTES


@pytest.mark.long
def test_an_image_trains_in_a_read_only_system_without_a_compiler(tmp_path):
    done = image("training", tmp_path / "image", "native", "--for=train,eval", *TINY)
    assert done.returncode == 0, done.stderr
    assert size_of(tmp_path / "image") < MAX_TRAINING_BYTES
    for name in ("root", "state"):
        (tmp_path / name).mkdir()
    for words in (["train", "--steps=22", *TINY], ["eval", "--threads=1"]):
        command = ["env", "-i", "PATH=/usr/bin:/bin", "CC=/nonexistent", "PYTHONPATH=/mnt",
                   PYTHON, "-P", "-B", "-m", "seed", *words, "--run-dir=/srv/run"]
        assert works(subprocess.run(
            ["unshare", "-rmn", "sh", "-c", READ_ONLY, "sh", *command], capture_output=True,
            env={**os.environ, **{name.upper(): str(tmp_path / name)
                                  for name in ("root", "image", "state")}}))
    assert works(train(tmp_path / "run"))
    assert (RunDir(tmp_path / "run").checkpoint.read_bytes()
            == RunDir(tmp_path / "state/run").checkpoint.read_bytes())
