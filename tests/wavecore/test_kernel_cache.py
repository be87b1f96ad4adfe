"""Compiled kernels come from a private directory alone, exactly as they were written."""
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seed.wavecore import kernel_cache
from seed.wavecore.kernel_cache import KernelCache, default_folder

CODE = bytes(range(256)) * 8


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "seed-brain" / "kernels"


@pytest.fixture
def cache(folder):
    cache = KernelCache(folder)
    yield cache
    cache.close()


def objects(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if len(path.name) == 40]


def warnings_of(cache: KernelCache) -> list[str]:
    lines: list[str] = []
    cache.report(lines.append)
    return lines


def test_an_object_is_returned_for_its_key_alone(cache, folder):
    assert cache.get("a") is None
    cache.put("a", CODE)
    cache.put("b", b"other")
    assert cache.get("a") == CODE and cache.get("b") == b"other" and cache.get("c") is None
    cache.put("a", b"newer")
    assert cache.get("a") == b"newer" and len(objects(folder)) == 2


def test_the_directory_is_for_this_user_alone(cache, folder):
    cache.put("a", CODE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(objects(folder)[0].stat().st_mode) == 0o600


@pytest.mark.attack
def test_every_flipped_bit_and_every_cut_is_a_missing_object(cache, folder):
    """Attacks 101, 102: every bit of an object."""
    cache.put("a", b"some machine code")
    path, = objects(folder)
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert cache.get("a") is None
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert cache.get("a") is None
    path.write_bytes(whole)
    assert cache.get("a") == b"some machine code"


@pytest.mark.attack
def test_an_object_under_the_name_of_another_key_is_not_returned(cache, folder):
    """Own: two objects are exchanged."""
    cache.put("a", CODE)
    path, = objects(folder)
    cache.put("b", b"other")
    other, = set(objects(folder)) - {path}
    other.write_bytes(path.read_bytes())
    assert cache.get("b") is None


@pytest.mark.attack
@pytest.mark.parametrize("make_fn", [
    lambda path, victim: path.symlink_to(victim), lambda path, victim: os.mkfifo(path),
    lambda path, victim: path.mkdir()], ids=["a link", "a pipe", "a directory"])
def test_what_is_no_file_is_neither_read_nor_written_through(cache, folder, tmp_path, make_fn):
    """Own: links, FIFOs and folders in the cache."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    cache.put("a", CODE)
    path, = objects(folder)
    path.unlink()
    make_fn(path, victim)
    assert cache.get("a") is None
    cache.put("a", CODE)
    assert victim.read_bytes() == b"precious"


@pytest.mark.attack
@pytest.mark.parametrize("spoil_fn, reason", [
    (lambda folder: folder.chmod(0o770), "others may write"),
    (lambda folder: os.chown(folder, 12345, -1), "another user"),
    (lambda folder: (folder.rename(f"{folder}2"), folder.symlink_to(f"{folder}2")), "directory")])
def test_a_directory_that_others_control_is_not_used(folder, spoil_fn, reason):
    """Attack 1: a cache that somebody else has made."""
    first = KernelCache(folder)
    first.put("a", CODE)
    first.close()
    spoil_fn(folder)
    cache = KernelCache(folder)
    cache.put("a", CODE)
    assert cache.get("a") is None
    line, = warnings_of(cache)
    assert reason in line and "XDG_CACHE_HOME" in line
    cache.close()


def test_the_place_is_the_one_of_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "seed-brain" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")   # not valid, by its specification
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "seed-brain" / "kernels"


def test_without_a_place_nothing_is_kept_and_nothing_fails():
    cache = KernelCache(None)
    cache.put("a", CODE)
    assert cache.get("a") is None and warnings_of(cache) == []
    cache.close()


CRASH = """
import os, sys
from pathlib import Path
from seed.wavecore.kernel_cache import KernelCache
cache = KernelCache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.attack
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGILL, signal.SIGBUS])
def test_after_a_crash_no_object_is_trusted(cache, folder, number):
    """Attacks 101, 102: a kernel that crashes does so once."""
    cache.put("a", CODE)
    process = subprocess.Popen([sys.executable, "-c", CRASH, folder, str(int(number))], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    during = KernelCache(folder)
    assert during.get("a") == CODE and warnings_of(during) == []
    during.close()
    process.communicate()
    assert process.returncode == -number
    after = KernelCache(folder)
    assert after.get("a") is None
    line, = warnings_of(after)
    assert "crashed" in line and "Traceback" not in line
    assert "<string>" in (folder / kernel_cache.LAST_CRASH).read_text()
    after.put("a", CODE)
    after.close()
    again = KernelCache(folder)
    assert again.get("a") == CODE and warnings_of(again) == []
    again.close()


def test_a_kill_leaves_the_objects_trusted(cache, folder):
    cache.put("a", CODE)
    process = subprocess.Popen([sys.executable, "-c", CRASH, folder, str(int(signal.SIGKILL))],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.communicate()
    after = KernelCache(folder)
    assert after.get("a") == CODE and warnings_of(after) == []
    after.close()
    assert len([path for path in folder.iterdir() if path.name.startswith("crash-")]) == 1


def test_the_oldest_objects_go_when_there_are_too_many(cache, folder, monkeypatch):
    monkeypatch.setattr(kernel_cache, "MAX_OBJECTS", 6)
    for i in range(8):
        cache.put(str(i), CODE)
        newest, = [path for path in objects(folder) if path.stat().st_mtime > 10 ** 6]
        os.utime(newest, (i, i))
    after = KernelCache(folder)
    assert [after.get(str(i)) is not None for i in range(8)] == [False] * 4 + [True] * 4
    after.close()


def test_a_forked_child_that_ends_leaves_the_crash_file_of_its_parent(folder):
    """Else no crash of the parent is seen, and its end complains."""
    script = """
import atexit, os, sys
from pathlib import Path
from seed.wavecore.kernel_cache import KernelCache
atexit.register(KernelCache(Path(sys.argv[1])).close)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(*os.listdir(sys.argv[1]))"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True,
                          text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("crash-")
    assert not [*folder.iterdir()]


def test_a_directory_that_is_removed_meanwhile_is_no_error(cache, folder):
    shutil.rmtree(folder)
    cache.put("a", CODE)
    assert cache.get("a") is None
    cache.close()


def test_files_of_processes_that_end_meanwhile_are_no_error(cache, folder, monkeypatch):
    """Between the look at the directory and the look at a file."""
    monkeypatch.setattr(kernel_cache, "MAX_OBJECTS", 1)
    for key in "abc":
        cache.put(key, CODE)
    listed = os.listdir(folder)
    gone = ["crash-1-0", "0" * 40]
    monkeypatch.setattr(os, "listdir", lambda path: [*gone, *listed])
    other = KernelCache(folder)
    assert not warnings_of(other) and len([*folder.glob("crash-*")]) == 2
    other.close()
