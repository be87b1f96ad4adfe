"""Deletes a run directory: nothing else than what a run has written."""
import os
import shutil

from seed.errors import ConfigError, InUse
from seed.interpreter import shown_command
from seed.storage import atomic_file, replay
from seed.storage.lock import is_held
from seed.storage.run_dir import RUN_FILE_NAMES, RunDir

FOLDERS = ("trial", "adapting", "live")   # of a run directory
ACTING = "live/fast_loop.lock"           # of a loop, also without what learns beside it
REMOVED = ".removed-"                     # beginning of the name of what is being deleted


def check_removable(run_dir: RunDir) -> None:
    """Raises ConfigError unless it is a directory with a brain and nothing that is not a run's."""
    path = run_dir.path
    if path.is_symlink():
        raise ConfigError(f"{path} is a link: name the directory itself")
    if not path.is_dir():
        raise ConfigError(f"{path} is no directory: {shown_command('runs')} lists the brains")
    if not run_dir.checkpoint.is_file():
        raise ConfigError(f"{path} has no brain: delete it by hand")
    foreign = sorted(name for name in os.listdir(path)
                     if name not in RUN_FILE_NAMES and name not in FOLDERS
                     and not replay.FILE_NAME.fullmatch(name)
                     and not atomic_file.TEMPORARY.fullmatch(name))
    if foreign:
        raise ConfigError(f"{path} has what is not of its run ({foreign[0]}): move that away first")
    if os.path.commonpath([os.getcwd(), path.resolve()]) == str(path.resolve()):
        raise ConfigError(f"{path} is the current folder: leave it first")


def remove(run_dir: RunDir) -> None:
    """Raises InUse if another process has the directory, OSError. It has another name as soon as
    the first file is gone: what a power cut leaves is never taken for a run."""
    with run_dir.locked():
        path = run_dir.path.absolute()
        if is_held(path / ACTING):
            raise InUse(f"a brain of {run_dir} acts: stop its fast loop first")
        hidden = path.with_name(f"{REMOVED}{path.name}")
        if hidden.exists():   # of one that a power cut has ended
            shutil.rmtree(hidden)
        os.rename(path, hidden)
        atomic_file.sync_directory(path.parent)
        shutil.rmtree(hidden)
