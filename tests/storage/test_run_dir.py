"""The paths of a run directory."""
import os
import shutil
import threading
from pathlib import Path

import pytest

from seed.errors import ConfigError, InUse, RunDirLost
from seed.storage import RunDir, lock
from seed.storage.jsonl_log import JsonlLog
from seed.storage.metrics import Metrics
from seed.storage.run_dir import _File


def test_each_file_of_a_run_directory_has_a_name_of_its_own():
    run_dir = RunDir(Path("brain"))
    files = [name for name, value in vars(RunDir).items() if isinstance(value, _File)]
    paths = {getattr(run_dir, name) for name in files}
    paths |= {run_dir.trial.path, run_dir.adaptation.path}
    assert len(paths) == len(files) + 2 and all(path.parent == run_dir.path for path in paths)


def test_a_directory_is_locked_once_and_free_afterwards(tmp_path):
    run_dir = RunDir(tmp_path / "new")
    with run_dir.locked():
        with pytest.raises(InUse, match="is in use by process"), run_dir.locked():
            raise AssertionError("locked twice")
    with run_dir.locked():
        assert run_dir.lock.exists()


def test_journals_follow_a_directory_that_moves_and_end_with_its_lock(tmp_path):
    with RunDir(tmp_path / "run").locked() as run_dir:
        log = JsonlLog(run_dir.selfplay_log, dict, held=run_dir.held)
        metrics = Metrics(run_dir.metrics, 0, held=run_dir.held)
        moved = RunDir(run_dir.path.rename(tmp_path / "moved"))
        run_dir.path.mkdir()
        assert log.append([{"step": 1}], [{"step": 1}])
        metrics.write("step", 1, loss=1.0)
        assert not list(run_dir.path.iterdir())
        moved.lock.unlink()
        files = [moved.selfplay_log, moved.metrics]
        lines = [path.read_text() + "of another trainer\n" for path in files]
        for path, text in zip(files, lines):
            path.write_text(text)
        with pytest.raises(RunDirLost, match="deleted or replaced"):
            log.append([{"step": 2}], [{"step": 2}])
        with pytest.raises(RunDirLost, match="deleted or replaced"):
            metrics.write("step", 2, loss=1.0)
        assert [path.read_text() for path in files] == lines


def test_a_directory_without_a_brain_is_named(tmp_path):
    for recover in (False, True):
        with pytest.raises(ConfigError, match=f"{tmp_path} has no brain: train one with"):
            RunDir(tmp_path).load_brain(print, recover)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_who_waits_for_a_directory_that_is_moved_or_deleted_gets_one_of_that_name(
        tmp_path, monkeypatch, is_deleted):
    """As `seed rm` does it, while a training waits."""
    run_dir, entered, waits = RunDir(tmp_path / "run"), [], threading.Event()

    def wait() -> None:
        with run_dir.locked() as held:
            entered.append((held.held.moved_to(), run_dir.lock.exists()))
    with run_dir.locked():
        waiting = threading.Thread(target=wait)
        monkeypatch.setattr(lock, "HOLDER_WAIT_S", 60.0)   # however busy the machine is
        monkeypatch.setattr(lock.time, "sleep", lambda s: waits.set() or threading.Event().wait(s))
        waiting.start()
        assert waits.wait(60)
        os.rename(run_dir.path, tmp_path / "moved")
        if is_deleted:
            shutil.rmtree(tmp_path / "moved")
    waiting.join(60)
    assert entered == [(None, True)]
    assert is_deleted or os.listdir(tmp_path / "moved") == ["lock"]
