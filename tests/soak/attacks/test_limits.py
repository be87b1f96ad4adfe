"""Limits on files and space, and what a command touches outside of its run directory."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.attack_run import seed, train, works
from tests.support.namespace import needs_mounts, with_mounts
from tests.support.tiny_run import rows, tiny_command, wait_for_step

pytestmark = pytest.mark.long
ENDLESS = 10 ** 8


def traced(folder: Path, calls: str, *words: object) -> list[str]:
    """The system calls of a command and its children that succeed."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    done = subprocess.run(["strace", "-f", "-qq", "-y", "-z", "-o", folder / "trace", "-e",
                           f"trace={calls}", *map(str, words)], capture_output=True, timeout=600)
    assert works(done)
    return [line for line in (folder / "trace").read_text(errors="replace").splitlines()
            if "resumed>" not in line and "exited with" not in line]


def test_a_training_opens_no_socket(tmp_path):
    """Attack 22: strace -f -e network, from the first import to the last save."""
    assert not traced(tmp_path, "network", *tiny_command(tmp_path / "run"))
    code = f"import socket; socket.create_server(('127.0.0.1', 0)); {socket.AF_UNIX}"
    assert traced(tmp_path, "network", sys.executable, "-c", code)   # what it would look like


WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT)|^\d+ +(rename|unlink|link|symlink|mkdir|rmdir|mknod|"
                    r"truncate|chmod|chown)")
HARMLESS = re.compile(r"/dev/(null|tty|pts/\d+|shm/sem\S*)|/proc/self/\S*|\w+:\[\d+\]")


def places(lines: list[str], start: Path) -> set[str]:
    """Every path that was made, changed or removed."""
    paths = set()
    for line in filter(WRITES.search, lines):
        folder = re.search(r"\((?:AT_FDCWD|\d+)<([^>]*)>", line)
        for name in re.findall(r'"([^"]*)"', line):
            paths.add(os.path.normpath(os.path.join(folder[1] if folder else start, name)))
    return {path for path in paths if not HARMLESS.fullmatch(path)}


@pytest.mark.parametrize("words", [
    ["train", "--steps=22"], ["export"], ["eval", "--items=1"], ["generate", "--prompt=x"],
    ["info"]], ids=lambda words: words[0])
def test_a_command_writes_into_its_run_directory_and_the_kernel_cache_alone(base, tmp_path, words):
    """Attack 23: strace -e openat, rename, unlink, with every kernel still to be compiled. Export
    reads its file back from a temporary one, which is gone at the end."""
    run_dir, cache = tmp_path / "run", tmp_path / "cache"
    shutil.copytree(base, run_dir)
    lines = traced(tmp_path, "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
                   "mkdirat,rmdir,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat",
                   "env", f"XDG_CACHE_HOME={cache}", "PYTHONDONTWRITEBYTECODE=1", sys.executable,
                   "-m", "seed", words[0], f"--run-dir={run_dir}", *words[1:])
    written = {path for path in places(lines, Path.cwd())
               if not path.startswith(tempfile.gettempdir() + "/") or os.path.lexists(path)
               or path.startswith(str(tmp_path))}
    assert written or words[0] == "info"
    assert not {path for path in written if not path.startswith((f"{run_dir}/", str(cache)))}
    if words[0] in ("eval", "generate", "info"):
        assert not {path for path in written if path.startswith(f"{run_dir}/")}


@pytest.mark.parametrize("n_files", [6, 8, 12, 16])
def test_too_few_files_are_one_line(tmp_path, n_files):
    """Attack 108: ulimit -n 6, the least that Python starts with; from 8 on it trains."""
    command = tiny_command(tmp_path / "run")
    done = subprocess.run(["bash", "-c", f'ulimit -n {n_files}; exec "$@"', "_", *command],
                          capture_output=True, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == 0 if n_files > 6 else (
        done.returncode == 75 and len(done.stderr.splitlines()) <= 2), done.stderr.decode()


def test_a_limit_on_the_size_of_files_keeps_the_old_checkpoint(base, tmp_path):
    """Attack 109: RLIMIT_FSIZE of 100 KB."""
    shutil.copytree(base, tmp_path / "run")
    run_dir = RunDir(tmp_path / "run")
    whole = run_dir.checkpoint.read_bytes()
    assert len(whole) > 150_000
    command = tiny_command(run_dir.path, "--set=train.save_grace_minutes=0", steps=40)
    done = subprocess.run(["bash", "-c", 'ulimit -f 100; exec "$@"', "_", *command],
                          capture_output=True, timeout=120)
    assert done.returncode in (2, 75) and b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"File too large" in done.stderr.splitlines()[-1]
    assert run_dir.checkpoint.read_bytes() == whole
    assert not list(run_dir.path.glob(".*partial"))
    assert works(train(run_dir.path, steps=40))


def on_a_small_disk(folder: Path, *command: str, size: str = "3m") -> subprocess.Popen:
    """The command in `folder`, a file system of its own that is full of `filler`."""
    setup = (f"mount -t tmpfs -o size={size} none '{folder}'; cp -r '{folder}.base' '{folder}/run'"
             f"\ndd if=/dev/zero of='{folder}/filler' bs=4096 2>/dev/null || true")
    return subprocess.Popen(with_mounts(setup, *command), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("is_cleared", [True, False])
def test_a_disk_that_is_full_at_the_start(base, tmp_path, is_cleared):
    """Attack 115: it continues and warns; a save works as soon as there is space again."""
    needs_mounts()
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copytree(base, f"{disk}.base")
    process = on_a_small_disk(disk, *tiny_command(
        disk / "run", "--set=train.save_every_minutes=0.01", "--set=train.write_gb_per_day=1e6",
        f"--set=train.save_grace_minutes={10 if is_cleared else 0.1}", steps=ENDLESS))
    inside = Path(f"/proc/{process.pid}/root{disk}")
    if is_cleared:
        time.sleep(12)
        assert process.poll() is None
        (inside / "filler").unlink()
        wait_for_step(inside / "run", 400, process)
        process.terminate()
        step = rows(inside / "run", "step")[-1]["step"]
        assert checkpoint.read(RunDir(inside / "run").checkpoint).meta["step"] >= 20 < step
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == (0 if is_cleared else 75), errors
    assert "No space left" in errors and "Traceback" not in errors


def test_a_run_directory_of_others_is_refused_in_one_line(base, tmp_path):
    """Own: another user's directory, which cannot even be read."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    shutil.copytree(base, tmp_path / "run")
    (tmp_path / "run").chmod(0o700)
    for words in (["train", "--steps=22"], ["generate", "--prompt=x"], ["info"]):
        done = subprocess.run(
            ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable, "-m",
             "seed", *words, f"--run-dir={tmp_path / 'run'}"], capture_output=True, timeout=120)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr.decode()


def test_a_limit_on_cpu_time_saves(tmp_path):
    """Own: ulimit -t: SIGXCPU at the soft limit is an end like any other."""
    done = subprocess.run(["bash", "-c", 'ulimit -S -t 8; exec "$@"', "_",
                           *tiny_command(tmp_path, steps=ENDLESS)], capture_output=True,
                          timeout=300)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    saved = checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"]
    assert saved == rows(tmp_path, "step")[-1]["step"] > 0


def test_a_umask_that_opens_everything_opens_no_brain(tmp_path):
    """Own: umask 0 makes neither the lock nor the kernels writable for others."""
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert works(train(tmp_path / "run", env=env, preexec_fn=lambda: os.umask(0)))
    for path in (tmp_path / "cache/seed-brain").rglob("*"):
        assert not path.stat().st_mode & 0o077, path
    assert not RunDir(tmp_path / "run").lock.stat().st_mode & 0o077
    assert works(seed("info", f"--run-dir={tmp_path / 'run'}"))
