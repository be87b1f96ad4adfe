"""What is left of a file when the power is cut at any moment of its writing.

The long test of whole commands is tests/soak/attacks/test_power_cuts.py.
"""
import fcntl
import os
import sys
from pathlib import Path

import pytest

from seed.errors import CheckpointError
from seed.storage import RunDir, atomic_file, checkpoint
from seed.storage.jsonl_log import JsonlLog
from tests.support import power_cut
from tests.support.preloaded import build_library

START = """
import os, sys
from pathlib import Path
from seed.storage import RunDir, atomic_file
from seed.storage.jsonl_log import JsonlLog
root = Path(sys.argv[1])
path, new = root / "file", b"new" * 3000
"""
WRITE, SAVE = "atomic_file.write(path, new)", """
from tests.support.small_checkpoint import META, TENSORS
with RunDir(root / "deep/run").locked() as run_dir:
    for step in (1, 2):
        run_dir.save(TENSORS, {**META, "step": step})
        print("saved", step, flush=True)
"""
METRICS = """
from seed.storage.metrics import Metrics
from tests.support.small_checkpoint import META, TENSORS
with RunDir(root / "run").locked() as run_dir:
    rows = Metrics(run_dir.metrics, 0, held=run_dir.held)
    rows.write("step", 1, loss=1.0)
    rows.sync()
    run_dir.save(TENSORS, {**META, "step": 1})
"""
APPEND = """
log = JsonlLog(path, dict)
for i in range(3):
    assert log.append([{"i": i}], [{"i": i}])
    print("saved", i, flush=True)
"""
NO_SYNC = "os.fsync = lambda descriptor: None"
NO_SYNC_OF_FILES = """
import stat
fsync = os.fsync
os.fsync = lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode) and fsync(fd)
"""
NO_SYNC_OF_DIRECTORIES = NO_SYNC_OF_FILES.replace("stat.S_ISDIR", "stat.S_ISREG")
RENAMED_FIRST = """
with open(root / "temporary", "wb") as file:
    file.write(new)
    os.replace(root / "temporary", path)
    file.flush()
    os.fsync(file.fileno())
atomic_file.sync_directory(root)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_library("recorder.c", tmp_path_factory.mktemp("library"))


def states(tmp_path: Path, library: Path, script: str) -> list[power_cut.State]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"old" * 1000 if "JsonlLog(" not in script else b"")
    if "JsonlLog(" in script:
        (root / "file").unlink()
    disk, changes, code = power_cut.record(
        [sys.executable, "-c", f"{START}\n{script}\nprint('done', flush=True)", str(root)], root,
        library, tmp_path / "log", cwd=Path(__file__).parents[2])
    assert code == 0, changes
    return power_cut.states(disk, changes, 60, seed=1)


def is_old_or_new(state: power_cut.State) -> bool:
    new = state.tree["file"] == b"new" * 3000
    return new or state.tree["file"] == b"old" * 1000 and "done" not in state.told


def has_rows(state: power_cut.State, tmp_path: Path) -> bool:
    path = tmp_path / "log of rows"
    path.write_bytes(state.tree.get("file") or b"")
    rows = [row["i"] for row in JsonlLog(path, dict).rows]
    return rows == list(range(len(rows))) and len(rows) >= state.told.count("saved")


def has_checkpoint(state: power_cut.State, tmp_path: Path) -> bool:
    """Whether the newest whole generation is at least the one that was told to be saved."""
    step, run_dir = 0, RunDir(Path("deep/run"))
    for data in filter(None, (state.tree.get(str(path)) for path in (
            run_dir.checkpoint, run_dir.previous_checkpoint))):
        (tmp_path / "one generation").write_bytes(data)
        try:
            step = max(step, checkpoint.read(tmp_path / "one generation").meta["step"])
        except CheckpointError:
            return False   # it was renamed before it was synced
    return step >= state.told.count("saved")


def test_a_file_is_the_old_or_the_new_one_after_any_power_cut(tmp_path, library):
    sampled = states(tmp_path, library, WRITE)
    assert len(sampled) > 10 and all(map(is_old_or_new, sampled))


@pytest.mark.parametrize("fault, change", [
    (NO_SYNC, WRITE), (NO_SYNC_OF_FILES, WRITE), (NO_SYNC_OF_DIRECTORIES, WRITE),
    ("", RENAMED_FIRST)], ids=["none", "no files", "no directories", "renamed first"])
def test_a_missing_or_late_sync_is_seen(tmp_path, library, fault, change):
    assert not all(map(is_old_or_new, states(tmp_path, library, f"{fault}\n{change}")))


@pytest.mark.parametrize("fault, held", [("", True), (NO_SYNC_OF_FILES, False),
                                         (NO_SYNC_OF_DIRECTORIES, False)])
def test_what_was_told_to_be_saved_is_there_after_any_power_cut(tmp_path, library, fault, held):
    """Rows of a log and generations of a checkpoint; also in directories that are new."""
    for name, script, is_kept_fn in (("rows", APPEND, has_rows), ("save", SAVE, has_checkpoint)):
        (tmp_path / name).mkdir()
        sampled = states(tmp_path / name, library, f"{fault}\n{script}")
        assert len(sampled) > 10
        assert all(is_kept_fn(state, tmp_path) for state in sampled) is held, name


def test_a_checkpoint_is_never_there_without_the_metrics_that_lead_to_it(tmp_path, library):
    """Its rename may be on the disk before the name of a new file in the same directory."""
    sampled = states(tmp_path, library, METRICS)
    checkpoint_path, metrics_path = (f"run/{path.name}" for path in (
        RunDir(tmp_path).checkpoint, RunDir(tmp_path).metrics))
    saved = [state for state in sampled if checkpoint_path in state.tree]
    assert saved and all(b'"loss"' in (state.tree.get(metrics_path) or b"") for state in saved)


def test_a_temporary_file_that_nobody_writes_is_removed_and_no_other(tmp_path):
    """By the next writer of that name, and by whoever locks the run directory."""
    left, written, foreign = (tmp_path / name for name in (
        f".file.{'a' * 16}.partial", f".file.{'b' * 16}.partial", ".file.b.partial"))
    for path in (left, written, foreign):
        path.write_bytes(b"half")
    with open(written) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        atomic_file.write(tmp_path / "file", b"whole")
        assert not left.exists() and written.exists()
        left.write_bytes(b"half")
        atomic_file.write(tmp_path / "other", b"whole")
        assert left.exists()
        with RunDir(tmp_path).locked():
            assert not left.exists() and written.exists()
    with RunDir(tmp_path).locked():
        assert {path.name for path in tmp_path.iterdir()} == {"file", "other", "lock", foreign.name}


def test_a_temporary_file_that_was_taken_for_abandoned_is_made_again(tmp_path, monkeypatch):
    """Another process removes it after it was made, before it is locked; or has just locked it."""
    real, calls = fcntl.flock, []

    def slow_flock(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            next(tmp_path.glob(".file.*")).unlink()
        if len(calls) == 2:
            next(tmp_path.glob(".file.*")).unlink()
            raise BlockingIOError
        real(descriptor, operation)
    monkeypatch.setattr(fcntl, "flock", slow_flock)
    descriptors = len(os.listdir("/proc/self/fd"))
    atomic_file.write(tmp_path / "file", b"whole")
    assert len(calls) == 3 and os.listdir(tmp_path) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError("no locks")))
    atomic_file.write(tmp_path / "file", b"without locks")
    assert (tmp_path / "file").read_bytes() == b"without locks"


def test_a_new_directory_is_made_with_its_parents_and_a_file_is_not_replaced(tmp_path):
    atomic_file.make_directory(tmp_path / "a/b/c")
    atomic_file.make_directory(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OSError, match=str(tmp_path / "file")):
            atomic_file.make_directory(path)
