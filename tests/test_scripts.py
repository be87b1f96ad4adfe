"""bin/*.sh in other people's surroundings, with the environment of this Python; and what a wheel
holds. Environments that are made, mended and upgraded: tests/soak/attacks/test_installing.py."""
import configparser
import contextlib
import importlib.util
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from seed import profile_file
from seed.__main__ import make_parser
from seed.commands import options
from seed.interpreter import seed_command
from seed.live import fast_loop, real_time
from tests.support.checkout import ROOT, copy_checkout, environment, linked_checkout, run_in
from tests.support.processes import descendants

USAGE = "usage: seed train"
UNITS = [ROOT / "bin" / f"{name}.service" for name in ("seed-brain", "seed-live")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return linked_checkout(tmp_path_factory.mktemp("a folder with späces") / "seed-brain")


def fake_program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.attack
def test_train_runs_from_everywhere_with_cdpath_and_through_a_link(checkout, tmp_path):
    """Report 23: CDPATH is exported."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "seed-train").symlink_to(checkout / "bin/train.sh")
    for command, folder in ((checkout / "bin/train.sh", tmp_path), ("bin/train.sh", checkout),
                            (tmp_path / "seed-train", tmp_path), ("./train.sh", checkout / "bin")):
        done = run_in(folder, command, "--help", CDPATH=f".:{tmp_path}:/", PYTHONHOME="/nowhere")
        assert USAGE in done.stdout and not done.stderr and done.returncode == 0


@pytest.mark.attack
def test_modules_in_the_current_folder_are_not_run(checkout, tmp_path):
    """Report 21: started where there is a seed.py or numpy.py."""
    for name in ("seed", "numpy", "json", "tomllib", "pip", "shutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was run')")
    (tmp_path / "tinygrad").mkdir()
    done = run_in(tmp_path, checkout / "bin/train.sh", "--help")
    assert USAGE in done.stdout and "it was run" not in done.stderr and done.returncode == 0


@pytest.mark.attack
def test_scripts_without_their_executable_bits_run(tmp_path):
    """Report 25: from a zip file or a FAT stick."""
    copy = linked_checkout(tmp_path / "copy")
    for script in (copy / "bin").iterdir():
        script.chmod(0o644)
    done = run_in(tmp_path, "bash", copy / "bin/train.sh", "--help")
    assert USAGE in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.attack
def test_a_copy_runs_its_own_code(tmp_path):
    """Report 20: a copied checkout."""
    copy = linked_checkout(tmp_path / "copy")
    (copy / "seed/commands/train_command.py").write_text("raise SystemExit('the code of the copy')")
    done = run_in(tmp_path, copy / "bin/train.sh", "--help", PYTHONPATH=str(ROOT))
    assert "the code of the copy" in done.stderr


@pytest.mark.attack
@pytest.mark.parametrize("broken, named, code", [
    ("raise RuntimeError('my own failure')", "RuntimeError: my own failure", 1),
    ("import no_such_module", "No module named 'no_such_module'", 1)])
def test_another_failure_than_a_missing_clang_is_shown_and_installs_nothing(
        tmp_path, broken, named, code):
    """Report 22: no failure is taken for a missing clang."""
    copy = linked_checkout(tmp_path / "copy")
    (copy / "seed/wavecore/compiler.py").write_text(broken)
    fake_program(tmp_path / "fake", "apt-get", f"touch {tmp_path}/called")
    done = run_in(tmp_path, copy / "bin/find-clang.sh", sys.executable,
                  PATH=f"{tmp_path}/fake:{os.environ['PATH']}")
    assert done.returncode == code and named in done.stderr
    assert not (tmp_path / "called").exists()


@pytest.mark.attack
def test_a_cc_that_is_not_there_is_named_and_installs_nothing(checkout, tmp_path):
    """Report 22: a CC that is not there."""
    fake_program(tmp_path / "fake", "apt-get", f"touch {tmp_path}/called")
    done = run_in(tmp_path, checkout / "bin/find-clang.sh", sys.executable, CC="/no/clang-99",
                  PATH=f"{tmp_path}/fake:{os.environ['PATH']}")
    assert done.returncode == 2 and "/no/clang-99" in done.stderr
    assert not (tmp_path / "called").exists()


def test_a_missing_clang_is_installed_where_that_is_allowed(checkout, tmp_path):
    """The dummies stand for apt, sudo and a PATH without a compiler."""
    fake_program(tmp_path / "fake", "apt-get", f'echo "$*" >> {tmp_path}/called')
    fake_program(tmp_path / "fake", "sudo", 'shift; exec "$@"')
    for tool in ("env", "id", "dirname", "readlink", "cut", "bash", "sh"):
        path = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
        (tmp_path / "fake" / tool).symlink_to(path)
    done = run_in(tmp_path, checkout / "bin/find-clang.sh", sys.executable,
                  PATH=str(tmp_path / "fake"))
    assert done.returncode == 0 and "installing clang with apt" in done.stderr
    assert "install -y -qq clang" in (tmp_path / "called").read_text()


def on_a_terminal(answer: str, *command, **environment) -> tuple[int, str]:
    """Exit code, and what a person saw who typed the answer."""
    master, slave = pty.openpty()
    process = subprocess.Popen(list(map(str, command)), stdin=slave, stdout=slave, stderr=slave,
                               env={**os.environ, **environment})
    os.close(slave)
    os.write(master, answer.encode())
    seen = b""
    with contextlib.suppress(OSError):   # the last writer has ended
        while data := os.read(master, 4096):
            seen += data
    os.close(master)
    return process.wait(), seen.decode()


@pytest.mark.parametrize("answer, options, is_installed", [
    ("y\n", (), True), ("n\n", (), False), ("\n", (), False), ("", ("--yes",), True)])
def test_sudo_is_used_if_a_person_or_a_flag_says_so(checkout, tmp_path, answer, options,
                                                    is_installed):
    fake_program(tmp_path / "fake", "apt-get", f'echo "$*" >> {tmp_path}/called')
    fake_program(tmp_path / "fake", "sudo", 'shift; exec "$@"')
    fake_program(tmp_path / "fake", "id", "echo 1000")
    for tool in ("env", "dirname", "readlink", "cut", "bash", "sh", "sleep",
                 "true"):
        (tmp_path / "fake" / tool).symlink_to(shutil.which(tool))
    code, text = on_a_terminal(answer, checkout / "bin/find-clang.sh", sys.executable, *options,
                               PATH=str(tmp_path / "fake"))
    assert (tmp_path / "called").exists() == is_installed and code == (0 if is_installed else 2)
    assert ("may sudo install it with apt?" in text) == (not options)
    assert is_installed or "Type: sudo apt install clang" in text


def test_a_long_wait_tells_its_seconds_to_a_person_and_ends_without_a_trace(checkout):
    script = f". {shlex.quote(str(checkout / 'bin/checkout.sh'))}\n{{}}"
    waiting = script.format("tell_seconds words; read -r a; stop_telling; echo end; read -r a")
    master, slave = pty.openpty()
    process = subprocess.Popen(["bash", "-euc", waiting], stdin=subprocess.PIPE, stdout=slave,
                               stderr=slave)
    os.close(slave)
    seen = b""
    while b"words: 2 s" not in seen:
        seen += os.read(master, 4096)
    process.stdin.write(b"\n")
    process.stdin.flush()
    while b"end" not in seen:
        seen += os.read(master, 4096)
    assert not descendants(process.pid) and seen.endswith(b"\r\x1b[Kend\r\n")
    process.communicate(b"\n")
    os.close(master)
    done = run_in("/", "bash", "-euc", script.format("tell_seconds words; sleep 1.1; stop_telling"))
    assert done.returncode == 0 and done.stderr == ""


def test_a_script_that_is_killed_tells_no_more(checkout):
    path = shlex.quote(str(checkout / "bin/checkout.sh"))
    master, slave = pty.openpty()
    process = subprocess.Popen(["bash", "-euc", f". {path}; tell_seconds words; read -r line"],
                               stdin=subprocess.PIPE, stdout=slave, stderr=slave)
    os.close(slave)
    assert os.read(master, 4096)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with contextlib.suppress(OSError):   # the last writer has ended
        while os.read(master, 4096):
            pass
    process.stdin.close()
    os.close(master)


def test_an_installation_is_taken_away_when_nothing_runs_from_it_and_runs_stay(tmp_path):
    copy, elsewhere = copy_checkout(tmp_path / "a folder"), tmp_path / "elsewhere"
    for name in (".venv/lib", "seed_brain.egg-info", "runs/first"):
        (copy / name).mkdir(parents=True)
    elsewhere.mkdir()
    library = copy / ".venv/lib/library.so"
    library.write_bytes(bytes(4096))
    script = ("import mmap, sys; file = open(sys.argv[1], 'rb'); loaded = mmap.mmap(file.fileno(), "
              "0, prot=mmap.PROT_READ); print(flush=True); input()")
    user = subprocess.Popen([sys.executable, "-c", script, library], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    user.stdout.readline()
    done = run_in(tmp_path, copy / "bin/install.sh", "--remove", HOME="/home/me",
                  XDG_CACHE_HOME="")
    assert done.returncode == 2 and library.exists()
    assert f"is used by process {user.pid}: end it first" in done.stderr
    user.communicate(b"\n")
    for _ in range(2):   # again: nothing is left to do
        done = run_in(tmp_path, copy / "bin/install.sh", "--remove", HOME="/home/me",
                      XDG_CACHE_HOME="")
        assert done.returncode == 0, done.stderr
        assert "/home/me/.cache/seed-brain" in done.stderr and len(done.stderr.splitlines()) == 1
        assert not (copy / ".venv").exists() and not (copy / "seed_brain.egg-info").exists()
    assert (copy / "runs/first").is_dir() and (copy / "seed/__main__.py").is_file()
    (copy / ".venv").symlink_to(elsewhere)
    assert run_in(tmp_path, copy / "bin/install.sh", "--remove").returncode == 0
    assert elsewhere.is_dir() and not (copy / ".venv").is_symlink()


@pytest.fixture
def check_arm64(tmp_path):
    """bin/check-arm64.sh with dummies for what it downloads with; the one for the part that `fails`
    leaves half of it. Gives the exit code, the parts that were begun, beside what, and stderr."""
    (tmp_path / "half").mkdir()
    make = ('[ ! -e "$dir" ] || part="$part beside $(ls "$dir")"\n'
            f'echo "$part" >>{tmp_path}/called; mkdir -p "$dir"; touch "$dir/half"\n'
            f'[ ! -e "{tmp_path}/half/$part" ] && mv "$dir/half" "$dir/all"')
    fake_program(tmp_path / "fake", "mmdebstrap",
                 f'part=root; for word; do case $word in */root) dir=$word ;; esac; done\n{make}')
    for name in ("qemu-aarch64-static", "aarch64-linux-gnu-ld"):
        fake_program(tmp_path / "fake", name, "exit 1")
    python = fake_program(tmp_path / "fake", "python", (
        f'[ "$2" = pip ] || exec {sys.executable} "$@"\n'
        f'while [ "$1" != --target ]; do shift; done; dir=$2 part=${{2##*/}}\n{make}'))

    def run(*words: object, fails: str = "") -> tuple[int, list[str], str]:
        for path in (*(tmp_path / "half").iterdir(), tmp_path / "called"):
            path.unlink(missing_ok=True)
        (tmp_path / "half" / (fails or "nothing")).touch()
        done = run_in(tmp_path, "bash", ROOT / "bin/check-arm64.sh", *words,
                      HOST_PYTHON=str(python), PATH=f"{tmp_path}/fake:{os.environ['PATH']}")
        called = tmp_path / "called"
        return (done.returncode, called.read_text().splitlines() if called.exists() else [],
                done.stderr)
    return run


def test_a_half_made_arm64_system_is_made_anew_and_a_whole_one_stays(check_arm64, tmp_path):
    arm = tmp_path / "arm"
    assert check_arm64("bookworm", arm, fails="root")[:2] == (1, ["root"])
    assert [path.name for path in (arm / "bookworm/root").iterdir()] == ["half"]
    assert check_arm64("bookworm", arm, fails="packages")[:2] == (1, ["root", "packages"])
    assert check_arm64("bookworm", arm, fails="packages-old")[:2] == (
        1, ["packages", "packages-old"])
    assert check_arm64("trixie", arm, fails="packages")[:2] == (1, ["root", "packages"])
    for folder in ("bookworm/root", "bookworm/packages", "trixie/root"):
        assert (arm / folder / "all").exists() and not (arm / folder / "half").exists()


def test_another_release_for_arm64_is_refused_in_one_line(check_arm64, tmp_path):
    code, called, message = check_arm64("sid", tmp_path / "arm")
    assert (code, called) == (2, []) and message == "seed: sid: use bookworm or trixie\n"
    assert not (tmp_path / "arm").exists()


@pytest.fixture
def environment_check():
    """bin/environment.py as a module."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "bin/environment.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.attack
def test_versions_are_compared_and_not_only_presence(environment_check):
    """Report 19: another pin than the installed one."""
    import numpy
    version = numpy.__version__
    assert environment_check.missing_packages([f"numpy=={version}", "numpy>=1.26"]) == []
    assert environment_check.missing_packages(["numpy>=99", "no-such-package==1"]) == [
        f"numpy>=99 in place of {version}", "no-such-package==1"]


def test_every_package_is_named_in_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {".".join(path.parent.relative_to(ROOT).parts)
                for path in (ROOT / "seed").rglob("__init__.py")}
    assert set(setup["options"]["packages"].split()) == packages | {"seed.profiles"}


@pytest.mark.attack
def test_profiles_are_those_of_the_package_or_else_of_the_checkout(tmp_path, monkeypatch):
    """Report 28: profiles are package data."""
    assert profile_file.profiles_dir().joinpath("toy.toml").is_file()
    (tmp_path / "seed/profiles").mkdir(parents=True)
    for name in ("base.toml", "mine.toml", "notes.txt"):
        (tmp_path / "seed/profiles" / name).write_text("")
    (tmp_path / "profiles").mkdir()   # of another package that is installed beside
    monkeypatch.setattr(resources, "files", lambda package: tmp_path / package)
    assert profile_file.shipped_profiles() == ["mine"]


@pytest.mark.attack
def test_the_default_number_of_threads_is_one_that_is_accepted(tmp_path):
    """Report 32: 96 cores."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nos.sched_getaffinity = lambda pid: range(96)\n")
    code = ("from seed.__main__ import make_parser\n"
            "print(*[make_parser().parse_args([name]).threads for name in ('train', 'bench')])")
    done = run_in(tmp_path, sys.executable, "-c", code, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.stdout.split() == [str(options.MAX_THREADS)] * 2, done.stderr


@pytest.mark.parametrize("flags", [[], ["-P"]])
def test_a_child_looks_into_the_current_folder_only_if_its_parent_does(tmp_path, flags):
    (tmp_path / "marker.py").write_text("print('it was run')")
    code = ("import subprocess; from seed.interpreter import seed_command\n"
            "print(subprocess.run(seed_command(module='marker')).returncode)")
    done = run_in(tmp_path, sys.executable, *flags, "-c", code, PYTHONPATH=str(ROOT))
    assert ("it was run" in done.stdout) == (not flags)


def test_a_command_of_seed_names_this_python():
    assert seed_command("health", "--json")[0] == sys.executable
    assert seed_command("health", "--json")[-4:] == ["-m", "seed", "health", "--json"]
    assert "PYTHONPATH" not in environment()


def settings_of(unit: Path) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_service_keeps_kernels_and_brain_to_its_own_user(unit):
    settings = settings_of(unit)
    assert settings["Environment"] == ["XDG_CACHE_HOME=/var/cache"]
    assert settings["CacheDirectory"] == ["seed-brain"] and settings["UMask"] == ["0077"]
    assert settings["CacheDirectoryMode"] == settings["StateDirectoryMode"] == ["0700"]
    assert settings["Restart"] == ["on-failure"] and settings["MemoryMax"]
    assert settings["ProtectProc"] == ["invisible"]
    # A training that a person has to mend waits for that; a robot may find its sensors later.
    prevented = ["2"] if unit.stem == "seed-brain" else []
    assert settings.get("RestartPreventExitStatus", []) == prevented


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_service_runs_a_command_of_seed(unit):
    program, *arguments = settings_of(unit)["ExecStart"][0].split()
    args = make_parser().parse_args(arguments)
    assert program.endswith("/bin/seed") and args.command in ("train", "live")
    assert str(args.run_dir.path).startswith("/var/lib/seed-brain/")


def test_the_life_of_a_service_may_be_real_time_reach_devices_and_outlive_a_full_memory():
    settings = settings_of(ROOT / "bin/seed-live.service")
    assert int(settings["LimitRTPRIO"][0]) >= real_time.TICK_PRIORITY
    assert settings["LimitMEMLOCK"] == ["infinity"] and settings["OOMPolicy"] == ["continue"]
    assert not {"PrivateDevices", "RestrictRealtime", "CPUSchedulingPolicy"} & {*settings}
    assert "char-ttyUSB rw" in settings["DeviceAllow"] and settings["RestartSec"] == ["1"]
    rules = [re.findall(r'KERNEL=="watchdog".*MODE="0660"', path.read_text()) for path in (
        ROOT / "bin/seed-live.service", ROOT / "docs/robot.md")]
    assert rules[0] == rules[1] and f'GROUP="{settings["User"][0]}"' in rules[0][0]
    assert "/dev/watchdog w" in settings["DeviceAllow"]   # for the user that the rule names
    learner_s, loop_s = 15, fast_loop.MAX_SILENT_S
    assert int(settings["WatchdogSec"][0]) > learner_s + loop_s


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_understands_a_service(unit, tmp_path):
    text = unit.read_text().replace("/opt/seed-brain/bin/seed", sys.executable)
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / unit.name],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
