"""Environments that are half made, outdated, copied, moved or of another scheme. Each test installs
packages, so it needs a package index or PIP_FIND_LINKS."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, copy_checkout, environment, run_in
from tests.support.namespace import needs_mounts, with_mounts

pytestmark = pytest.mark.long

BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
USAGE = "usage: seed train"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere", "PIP_CONFIG_FILE": "/dev/null"}


def install(checkout: Path, **changes: str) -> subprocess.CompletedProcess:
    return run_in(Path("/"), "bash", checkout / "bin/install.sh", timeout_s=600,
                  **{"PYTHON": BASE_PYTHON, **changes})


def packages(checkout: Path) -> Path:
    return next((checkout / ".venv/lib").glob("python3*/site-packages"))


def assert_whole(checkout: Path) -> None:
    """It runs from everywhere, by its script and by its own command; a second install is quick."""
    done = run_in(Path("/"), checkout / "bin/train.sh", "--help")
    assert USAGE in done.stdout and done.returncode == 0, done.stderr
    code = "import numpy, tinygrad, flatbuffers, safetensors, seed; print(seed.__file__)"
    done = run_in(Path("/"), checkout / ".venv/bin/python", "-c", code)
    assert done.stdout.strip() == str(checkout / "seed/__init__.py"), done.stderr
    again = install(checkout, **OFFLINE)
    assert again.returncode == 0 and not again.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A checkout with its own environment. Whoever breaks it mends it."""
    checkout = copy_checkout(tmp_path_factory.mktemp("own") / "seed bräin")
    done = install(checkout)
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    checkout = copy_checkout(folder / "source")
    done = run_in(folder, BASE_PYTHON, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder,
                  checkout)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_half_an_environment_is_made_anew(tmp_path):
    """Report 17: Debian without python3-venv leaves a Python without pip behind."""
    checkout, python = copy_checkout(tmp_path / "deb"), tmp_path / "python3"
    python.write_text(
        '#!/bin/bash\nif [ "$1 $2" = "-m venv" ] && ! [ -e "$(dirname "$0")/installed" ]; then'
        f'\n{BASE_PYTHON} -m venv --without-pip "$3"\necho "ensurepip is not available"'
        f' >&2; exit 1; fi\nexec {BASE_PYTHON} "$@"\n')
    python.chmod(0o755)
    done = install(checkout, PYTHON=str(python))
    assert done.returncode == 2 and "sudo apt install python3-venv" in done.stderr
    assert (checkout / ".venv/bin/python").exists()
    (tmp_path / "installed").touch()
    assert install(checkout, PYTHON=str(python)).returncode == 0
    assert_whole(checkout)


def test_an_environment_of_another_python_is_made_anew(installed):
    """Report 18: an upgrade of the system changes the Python under the environment."""
    folder = packages(installed).parent
    folder.rename(folder.with_name("python3.1"))
    assert install(installed).returncode == 0
    assert not folder.with_name("python3.1").exists()
    assert_whole(installed)


@pytest.mark.parametrize("name", ["flatbuffers", "numpy", "safetensors"])
def test_a_package_that_is_missing_is_installed(installed, name):
    """Report 19: git pull brings a release that needs one more package."""
    run_in(Path("/"), installed / ".venv/bin/python", "-m", "pip", "uninstall", "-q", "-y", name)
    done = install(installed)
    assert done.returncode == 0 and f"installing {name}" in done.stderr
    assert_whole(installed)


def test_a_package_of_another_version_is_replaced(installed):
    """Report 19: git pull brings a release that pins another tinygrad."""
    info = next(packages(installed).glob("tinygrad-*.dist-info"))
    text = (info / "METADATA").read_text()
    version = info.name.removeprefix("tinygrad-").removesuffix(".dist-info")
    (info / "METADATA").write_text(text.replace(f"Version: {version}", "Version: 0.13.0", 1))
    done = install(installed)
    assert done.returncode == 0 and f"tinygrad=={version} in place of 0.13.0" in done.stderr
    assert_whole(installed)


@pytest.mark.parametrize("version, changes", [("7.7", {}), ("COPY", {}), ("7.7", OFFLINE)], ids=str)
def test_a_copied_checkout_runs_its_own_code(installed, tmp_path, version, changes):
    """Report 20: the environment of a copy names the first checkout."""
    copy = tmp_path / "experiment"
    shutil.copytree(installed, copy, symlinks=True)
    (copy / "seed/__init__.py").write_text(f'__version__ = "{version}"\n')
    assert install(copy, **changes).returncode == 0
    for checkout, expected in ((copy, version), (installed, "0.1.0")):
        done = run_in(tmp_path, checkout / ".venv/bin/python", "-m", "seed", "--version")
        assert done.stdout.strip() == expected, done.stderr
    if not changes and version != "COPY":
        done = run_in(tmp_path, copy / ".venv/bin/seed", "--version")
        assert done.stdout.strip() == version
    second = tmp_path / "second"
    shutil.copytree(copy, second, symlinks=True)
    (second / "seed/__init__.py").write_text('__version__ = "9.9"\n')
    assert install(second, **changes).returncode == 0
    done = run_in(tmp_path, second / ".venv/bin/python", "-m", "seed", "--version")
    assert done.stdout.strip() == "9.9"


@pytest.mark.parametrize("name", ["seed", "numpy", "tinygrad", "json", "pip", "sitecustomize"])
def test_a_folder_with_modules_of_its_own_changes_nothing(installed, tmp_path, name):
    """Report 21: started where there is a seed.py, numpy.py ..."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit('it was run')")
    for command in ([installed / "bin/train.sh", "--help"],
                    [installed / ".venv/bin/seed", "train", "--help"]):
        done = run_in(tmp_path, *command, CDPATH=".:/tmp")
        assert USAGE in done.stdout and "it was run" not in done.stderr + done.stdout


@pytest.mark.parametrize("variable", ["PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", ""])
def test_settings_of_pip_do_not_move_the_packages(installed, tmp_path, variable):
    """Report 27: pip.conf says user = true. Own: PIP_TARGET, PIP_PREFIX and PIP_ROOT."""
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    value = "1" if variable == "PIP_USER" else str(tmp_path / "elsewhere")
    changes = {variable: value} if variable else {}
    python = installed / ".venv/bin/python"
    run_in(Path("/"), python, "-m", "pip", "uninstall", "-q", "-y", "flatbuffers")
    links = environment().get("PIP_FIND_LINKS", "")
    done = install(installed, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), PIP_FIND_LINKS=links,
                   **changes)
    assert done.returncode == 0, done.stderr
    assert_whole(installed)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("scheme", ["--target", "--user", "--prefix"])
def test_every_scheme_of_pip_brings_the_profiles(wheel, tmp_path, scheme):
    """Report 28: pip install --user, --target, or into the system's Python."""
    place = tmp_path / "place"
    options = {"--target": ["--target", place], "--user": ["--user"],
               "--prefix": ["--prefix", place]}[scheme]
    changes = {"PYTHONUSERBASE": str(place), "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    done = run_in(tmp_path, BASE_PYTHON, "-m", "pip", "install", "-q", "--no-deps",
                  "--ignore-installed", *options, wheel, **changes)
    assert done.returncode == 0, done.stderr
    folder = next(place.rglob("seed/profiles")).parents[1]
    changes["PYTHONPATH"] = f"{folder}:{sysconfig.get_path('purelib')}"
    for command in (["info", "--profile", "toy"], ["health"]):
        done = run_in(tmp_path, BASE_PYTHON, "-m", "seed", *command, **changes)
        assert done.returncode == 0 and done.stdout, done.stderr
    done = run_in(tmp_path, BASE_PYTHON, "-m", "seed", "info", "--profile", "tay", **changes)
    assert "use control, fast, mid, seed, slow, toy" in done.stderr


def test_the_wheel_has_a_command(wheel):
    """Report 29: pipx and uv tool install refuse a package without a console script."""
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith("entry_points.txt"))
        assert b"seed = seed.__main__:main" in content.read(name)


def test_a_checkout_that_is_moved_trains_without_a_network(installed, tmp_path):
    """Report 55: in a folder with spaces and umlauts, moved afterwards."""
    moved = tmp_path / "the näw place"
    shutil.copytree(installed, moved, symlinks=True)
    away = installed.rename(installed.with_name("away"))
    try:
        done = run_in(tmp_path, moved / "bin/train.sh", "--help", **OFFLINE)
        assert USAGE in done.stdout and done.returncode == 0, done.stderr
    finally:
        away.rename(installed)


def test_two_installations_at_once_both_succeed(tmp_path):
    """Own: two scripts are started together in a fresh checkout."""
    checkout = copy_checkout(tmp_path / "twice")
    started = [subprocess.Popen(["bash", checkout / "bin/install.sh"], stderr=subprocess.PIPE,
                                text=True, env=environment(PYTHON=BASE_PYTHON)) for _ in range(2)]
    errors = [process.communicate(timeout=600)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    assert sum("making" in text for text in errors) == 1
    assert_whole(checkout)


@pytest.mark.parametrize("seconds", [0.4, 3.0, 8.0])
def test_an_installation_that_is_killed_is_finished_by_the_next(tmp_path, seconds):
    """Own: the power fails while packages are installed."""
    checkout = copy_checkout(tmp_path / "killed")
    process = subprocess.Popen(["bash", checkout / "bin/install.sh"], start_new_session=True,
                               stderr=subprocess.DEVNULL, env=environment(PYTHON=BASE_PYTHON))
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert install(checkout).returncode == 0
    assert_whole(checkout)


def test_a_first_installation_without_a_network_says_so(tmp_path):
    """Own: no index can be reached; the next call continues."""
    checkout = copy_checkout(tmp_path / "offline")
    done = install(checkout, **OFFLINE)
    assert done.returncode == 2 and "connect to the network" in done.stderr.splitlines()[-1]
    assert install(checkout).returncode == 0
    assert_whole(checkout)


@pytest.mark.parametrize("kind", ["file", "lost link", "link to an empty folder"])
def test_an_environment_that_is_none_is_named(tmp_path, kind):
    """Own: .venv is a file, or a link to what is no environment: nothing behind it is deleted."""
    checkout, elsewhere = copy_checkout(tmp_path / "odd"), tmp_path / "elsewhere"
    if kind == "file":
        (checkout / ".venv").write_text("mine")
    else:
        (checkout / ".venv").symlink_to(elsewhere)
    if kind == "link to an empty folder":
        elsewhere.mkdir()
        (elsewhere / "mine").touch()
    done = install(checkout)
    assert done.returncode == 2 and ".venv" in done.stderr.splitlines()[-1]
    assert kind != "link to an empty folder" or (elsewhere / "mine").exists()


def test_an_old_python_is_named(tmp_path):
    """Own: python3 is older than 3.11."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    checkout = copy_checkout(tmp_path / "checkout")
    for python in (tmp_path / "python3", "/no/python"):
        done = install(checkout, PYTHON=str(python))
        assert done.returncode == 2 and "is not Python 3.11 or newer" in done.stderr


def test_profiles_of_another_package_beside_are_not_taken(wheel, tmp_path):
    """Own: site-packages has a top level folder `profiles` of somebody else."""
    place = tmp_path / "place"
    run_in(tmp_path, BASE_PYTHON, "-m", "pip", "install", "-q", "--no-deps", "--target", place,
           wheel)
    (place / "profiles").mkdir()
    (place / "profiles/toy.toml").write_text("this is no profile of seed")
    changes = {"PYTHONPATH": f"{place}:{sysconfig.get_path('purelib')}"}
    done = run_in(tmp_path, BASE_PYTHON, "-m", "seed", "info", "--profile", "toy", **changes)
    assert done.returncode == 0, done.stderr


def test_a_source_distribution_has_the_profiles_and_the_kernels(tmp_path):
    """Own: pip install of an sdist, as packagers build it."""
    checkout = copy_checkout(tmp_path / "source")
    code = ("from setuptools import build_meta; import os; os.chdir('source')\n"
            "print(build_meta.build_sdist('..'))")
    made = subprocess.run([BASE_PYTHON, "-m", "venv", tmp_path / "v"])
    assert made.returncode == 0
    python = tmp_path / "v/bin/python"
    run_in(tmp_path, python, "-m", "pip", "install", "-q", "setuptools>=68", timeout_s=600)
    done = run_in(tmp_path, python, "-c", code)
    assert done.returncode == 0 and checkout.exists(), done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as content:
        names = content.getnames()
    for end in ("profiles/toy.toml", "profiles/base.toml", "csrc/ssm.c", "csrc/simd.h"):
        assert any(name.endswith(end) for name in names), end


def test_a_foreign_environment_is_not_used(installed, tmp_path):
    """Own: variables of another Python: PYTHONHOME, PYTHONPATH with another seed, VIRTUAL_ENV."""
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/__init__.py").write_text("raise SystemExit('it was run')")
    done = run_in(tmp_path, installed / "bin/train.sh", "--help", PYTHONHOME="/nowhere",
                  PYTHONPATH=str(tmp_path), VIRTUAL_ENV="/nowhere", PYTHONSTARTUP="/nowhere")
    assert USAGE in done.stdout and not done.stderr


def test_a_home_that_is_mounted_noexec_is_named_with_the_way_out(tmp_path):
    """Report 25: no library can be loaded from there: one line says where to put them."""
    needs_mounts()
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    copy_checkout(tmp_path / "source")
    script = (f"cp -r '{tmp_path / 'source'}' '{home}/seed'\n"
              f"bash '{home}/seed/bin/install.sh' && exit 9\n"
              f"[ ! -e '{home}/seed/.venv' ] || exit 8\n"
              f"'{BASE_PYTHON}' -m venv '{elsewhere}'; ln -s '{elsewhere}' '{home}/seed/.venv'\n"
              f"bash '{home}/seed/bin/train.sh' --help; bash '{home}/seed/bin/train.sh' --steps=1 "
              f"--run-dir='{home}/run' --profile=fast --set=curriculum.holdout_items=1")
    done = run_in(tmp_path, *with_mounts(f"mount -t tmpfs -o noexec,size=1g none '{home}'", "bash",
                                         "-c", script), PYTHON=BASE_PYTHON, timeout_s=600)
    refusal = next(line for line in done.stderr.splitlines() if line.startswith("seed: "))
    assert "is mounted noexec" in refusal and "ln -s /opt/seed-venv" in refusal
    assert done.returncode == 0 and USAGE in done.stdout, done.stderr
    assert "Done: 1 step " in done.stdout


@pytest.mark.parametrize("seen", ["before", "meanwhile"])
def test_a_full_disk_is_named_and_the_next_installation_succeeds(tmp_path, seen):
    """Own: Python leaves files of bytecode cut short there, which it could never import again."""
    needs_mounts()
    home, path = tmp_path / "home", os.environ["PATH"]
    home.mkdir()
    copy_checkout(tmp_path / "source")
    if seen == "meanwhile":
        (tmp_path / "df").write_text("#!/bin/sh\necho / 9 9 999999999 1% /\n")
        (tmp_path / "df").chmod(0o755)
        path = f"{tmp_path}:{path}"
    script = (f"cp -r '{tmp_path / 'source'}' '{home}/seed'\n"
              f"bash '{home}/seed/bin/install.sh' && exit 9\n"
              f"mount -o remount,size=1g '{home}'\n"
              f"bash '{home}/seed/bin/train.sh' --help")
    done = run_in(tmp_path, *with_mounts(f"mount -t tmpfs -o size=60m none '{home}'", "bash", "-c",
                                         script), PYTHON=BASE_PYTHON, PATH=path, timeout_s=600)
    refusal = next(line for line in done.stderr.splitlines() if line.startswith("seed: "))
    assert refusal == f"seed: the disk of {home}/seed is full: free 300 MB and try again"
    assert done.returncode == 0 and USAGE in done.stdout, done.stderr


def test_a_fresh_checkout_that_cannot_be_written_is_named(tmp_path):
    """Own: packages have no place there; bash alone said that it may not make a lock."""
    needs_mounts()
    checkout = copy_checkout(tmp_path / "foreign")
    done = run_in(tmp_path, *with_mounts(f"mount --bind -o ro '{checkout}' '{checkout}'", "bash",
                                         checkout / "bin/install.sh"), PYTHON=BASE_PYTHON)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"may not write to {checkout}" in done.stderr and "git clone" in done.stderr


def test_a_checkout_that_cannot_be_written_runs(installed, tmp_path):
    """Report 48: a read-only checkout."""
    code = f'mount --bind -o ro "{installed}" "{installed}" && cd "{tmp_path}" && '
    done = run_in(tmp_path, "unshare", "-m", "bash", "-c",
                  f'{code} "{installed}/bin/train.sh" --help')
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("needs root")
    assert USAGE in done.stdout and not done.stderr
    assert (ROOT / "bin/install.sh").exists()
