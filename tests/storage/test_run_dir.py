"""The paths of a run directory."""
from pathlib import Path

import pytest

from seed.errors import ConfigError, InUse
from seed.storage import RunDir
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


def test_a_directory_without_a_brain_is_named(tmp_path):
    for recover in (False, True):
        with pytest.raises(ConfigError, match=f"{tmp_path} has no brain: train one with"):
            RunDir(tmp_path).load_brain(print, recover)
