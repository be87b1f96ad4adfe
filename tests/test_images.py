"""What bin/image.sh makes runs where nothing can be written but one directory, and is small."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seed.storage import RunDir
from tests.support.attack_run import train, works
from tests.support.tiny_run import TINY

ROOT = Path(__file__).parents[1]
PYTHON = getattr(sys, "_base_executable")   # without the packages of this environment
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


def test_a_training_needs_no_package_of_the_exporter(tmp_path):
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in (
        "flatbuffers", "ai_edge_litert", "tflite_runtime"))
    code = f"import sys\n{blocked}from seed.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "train", "--steps=2",
                           f"--run-dir={tmp_path / 'run'}", *TINY], capture_output=True, cwd=ROOT)
    assert works(done)


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
