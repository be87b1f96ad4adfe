"""The machine around a training: containers, limits, users, folders, flags of Python. The weights
stay those of a plain training."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from seed.commands.options import MIN_ADDRESS_SPACE_MB
from tests.soak.same_bits import weights_sha256
from tests.support.checkout import ROOT
from tests.support.namespace import needs_mounts, with_mounts
from tests.support.tiny_run import (rows, start_tiny, tiny_command, wait_and_read_stderr,
                                    wait_for_step)

pytestmark = pytest.mark.long

LIMIT = 'ulimit -v "$1"; shift; exec "$@"'


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    """The weights of a plain training."""
    run_dir = tmp_path_factory.mktemp("plain") / "run"
    subprocess.run(tiny_command(run_dir), check=True, capture_output=True, timeout=300)
    return weights_sha256(run_dir)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=300, **options)


def test_a_machine_of_96_cores_trains_without_threads(tmp_path, plain):
    """Report 32: the default number of threads is one that is accepted."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import os\nos.cpu_count = lambda: 96\n")
    command = [word for word in tiny_command(tmp_path / "run") if word != "--threads=1"]
    done = run(*command, env={**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"})
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_as_the_first_process_of_a_container_a_stop_saves(tmp_path):
    """Report 45: docker stop, with the trainer as PID 1."""
    needs_mounts()
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
         *tiny_command(tmp_path / "run", steps=10 ** 8)], stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "run", 5, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[0]), signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and time.monotonic() - began < 10, errors
    assert rows(tmp_path / "run", "save")[-1]["step"] == rows(tmp_path / "run", "step")[-1]["step"]


@pytest.mark.parametrize("setup", [
    "mount -t tmpfs -o noexec none '{0}/mnt'; export TMPDIR='{0}/mnt'",
    "export TMPDIR='{0}/gone'", "mount --bind -o ro /var/tmp /var/tmp",
    "mount -t tmpfs -o ro none /dev/shm"], ids=["noexec", "gone", "/var/tmp", "/dev/shm"])
def test_temporary_folders_do_not_matter(tmp_path, plain, setup):
    """Report 46: /tmp noexec, TMPDIR gone or read-only. Attack 114: /dev/shm read-only."""
    needs_mounts()
    (tmp_path / "mnt").mkdir()
    done = run(*with_mounts(setup.format(tmp_path), *tiny_command(tmp_path / "run")))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_a_user_without_a_name_and_a_home(plain):
    """Report 47: docker run --user 54321, HOME is not set, the run directory is another user's."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = tiny_command(Path(folder) / "run")
        done = run("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *command,
                   cwd=ROOT, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert weights_sha256(Path(folder) / "run") == plain


def test_a_run_directory_that_cannot_be_written_is_read(tmp_path):
    """Report 48: generate and eval of a read-only run directory; train names it."""
    needs_mounts()
    run(*tiny_command(tmp_path / "run"))
    setup = f"mount --bind -o ro '{tmp_path / 'run'}' '{tmp_path / 'run'}'"
    seed = [sys.executable, "-m", "seed"]
    for command in (["generate", "--prompt=ab>"], ["eval", "--items=1"],
                    ["export", "--no-verify", f"--out={tmp_path / 'brain.tflite'}"]):
        done = run(*with_mounts(setup, *seed, *command, f"--run-dir={tmp_path / 'run'}"))
        assert done.returncode == 0 and done.stdout, done.stderr
    done = run(*with_mounts(setup, *tiny_command(tmp_path / "run", steps=40)))
    assert done.returncode in (2, 75) and len(done.stderr.strip().splitlines()) < 5


def test_a_run_directory_on_overlayfs(tmp_path, plain):
    """Report 48: the writable layer of a container."""
    needs_mounts()
    setup = (f"mount -t tmpfs none '{tmp_path}'; cd '{tmp_path}'; mkdir low up work all\n"
             "mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work all")
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from pathlib import Path; from tests.soak.same_bits import weights_sha256\n"
            f"print(weights_sha256(Path({str(tmp_path / 'all/run')!r})))")
    train = " ".join(f"'{word}'" for word in tiny_command(tmp_path / "all/run"))
    done = run(*with_mounts(f"{setup}\ncd '{ROOT}'; {train} >&2", sys.executable, "-c", code))
    assert done.stdout.strip() == plain, done.stderr


def test_one_core_by_taskset_with_the_default_of_two_threads(tmp_path, plain):
    """Report 51: the default number of threads on one core."""
    core = min(os.sched_getaffinity(0))
    done = run("taskset", "-c", str(core), *tiny_command(tmp_path / "run", "--threads=2"))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain


def test_a_run_directory_whose_name_is_no_utf_8(tmp_path, plain):
    """Report 55: a byte that is no UTF-8, spaces and umlauts."""
    run_dir = tmp_path / os.fsdecode(b"r\xfcn \xc3\xa4")
    done = subprocess.run(tiny_command(run_dir), capture_output=True, timeout=300)
    assert done.returncode == 0 and weights_sha256(run_dir) == plain, done.stderr


@pytest.mark.parametrize("flags, variables", [
    (["-O"], {}), (["-OO"], {}), (["-X", "dev"], {}), (["-W", "error"], {}), (["-P"], {}),
    (["-s"], {}), ([], {"PYTHONHASHSEED": "0"}), ([], {"PYTHONDONTWRITEBYTECODE": "1"})], ids=str)
def test_flags_of_python_change_no_bit(tmp_path, plain, flags, variables):
    """Report 56: python -O, -OO, -W error, -X dev, PYTHONHASHSEED."""
    python, *rest = tiny_command(tmp_path / "run")
    done = run(python, *flags, *rest, env={**os.environ, "PYTHONPATH": str(ROOT), **variables})
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


@pytest.mark.parametrize("limit_mb", [600, 900])
def test_a_limit_on_the_address_space_changes_no_bit(tmp_path, plain, limit_mb):
    """Attack 110: RLIMIT_AS."""
    done = run("bash", "-c", LIMIT, "_", str(1024 * limit_mb), *tiny_command(tmp_path / "run"))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def is_too_small(done: subprocess.CompletedProcess) -> bool:
    """Whether it says in one line that there is too little address space."""
    assert done.returncode == 75 and "ulimit -v" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "OpenBLAS" not in done.stderr
    return True


@pytest.mark.parametrize("limit_mb", [100, 170, 230])
def test_too_small_an_address_space_is_one_line_and_75(tmp_path, limit_mb):
    """Attack 111: RLIMIT_AS 170 MB and 230 MB."""
    assert is_too_small(run("bash", "-c", LIMIT, "_", str(1024 * limit_mb),
                            *tiny_command(tmp_path / "run")))


def test_wherever_a_training_runs_out_of_address_space_it_is_one_line_and_75(tmp_path, plain):
    """Own: from what numpy needs to what a training needs, whatever that has come to."""
    too_small_mb = []
    for limit_mb in range(MIN_ADDRESS_SPACE_MB, 600, 3):
        done = run("bash", "-c", LIMIT, "_", str(1024 * limit_mb), *tiny_command(tmp_path / "run"))
        if done.returncode == 0:
            break
        assert is_too_small(done)
        too_small_mb.append(limit_mb)
    assert too_small_mb and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_a_small_stack_of_the_main_thread(tmp_path, plain):
    """Attack 113: a stack of 1 MB; 100 KB is what no real system has."""
    done = run("bash", "-c", 'ulimit -s 1024; exec "$@"', "_", *tiny_command(tmp_path / "run"))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


@pytest.mark.parametrize("setup", [
    "mount -t tmpfs none /sys", "mount -t tmpfs none /proc",
    "mount -t proc -o hidepid=2 none /proc"], ids=["no /sys", "no /proc", "hidepid=2"])
def test_without_proc_or_sys(tmp_path, plain, setup):
    """Attack 114: no /proc, no /sys, hidepid=2."""
    needs_mounts()
    done = run(*with_mounts(setup, *tiny_command(tmp_path / "run")))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_the_service_is_a_valid_unit(tmp_path):
    """Attack 117: systemd-analyze verify and security."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    text = (ROOT / "bin/seed-brain.service").read_text()
    unit = tmp_path / "seed-brain.service"
    unit.write_text(text.replace("/opt/seed-brain/bin/seed", sys.executable))
    done = run("systemd-analyze", "verify", unit)
    assert done.returncode == 0 and not done.stderr
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
    assert done.returncode == 0, done.stdout


def test_a_trial_of_sizes_takes_no_module_of_the_current_folder(tmp_path):
    """Own: seed scale starts itself again, where there is a numpy.py."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('it was run')")
    (tmp_path / "seed.py").write_text("raise SystemExit('it was run')")
    done = run(sys.executable, "-P", "-m", "seed", "scale", "--trial-seconds=1", "--threads=1",
               "--memory=0.6", "--set=model.d_model=32", "--set=model.n_layers=2", "--json",
               "--set=train.batch_size=2", "--run-dir=scale", cwd=tmp_path,
               env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "it was run" not in done.stdout + done.stderr and done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_a_current_folder_that_is_deleted(tmp_path, plain):
    """Own: the shell stands in a folder that another has deleted."""
    (tmp_path / "gone").mkdir()
    done = run("bash", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "_", tmp_path / "gone",
               *tiny_command(tmp_path / "run"), env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_a_limit_of_one_file_more_than_is_open(tmp_path, plain):
    """Own: ulimit -n 40 and ulimit -u are enough, or one line."""
    done = run("bash", "-c", 'ulimit -n 40; exec "$@"', "_", *tiny_command(tmp_path / "run"))
    assert done.returncode == 0 and weights_sha256(tmp_path / "run") == plain, done.stderr


def test_a_clock_of_another_zone_and_a_foreign_locale(tmp_path, plain):
    """Own: TZ and LC_ALL that are not installed, COLUMNS=1, TERM unset."""
    process = start_tiny(tmp_path / "run", env={
        **os.environ, "TZ": "Nowhere/At_all", "LC_ALL": "xx_YY.ISO-8859-15", "COLUMNS": "1",
        "TERM": "", "PYTHONPATH": str(ROOT)})
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0 and weights_sha256(tmp_path / "run") == plain, errors
