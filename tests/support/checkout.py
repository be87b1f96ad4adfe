"""Copies of the checkout, whose scripts run in strange surroundings."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTENT = ("bin", "seed", "profiles", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "HOME", "PIP_CERT",
             "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE")


def copy_checkout(folder: Path) -> Path:
    """What the scripts need of it, with an environment of its own still to be made."""
    folder.mkdir(parents=True)
    for name in CONTENT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name,
                            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def linked_checkout(folder: Path) -> Path:
    """A copy whose environment is a link to that of this Python."""
    (copy_checkout(folder) / ".venv").symlink_to(sys.prefix)
    return folder


def environment(**changes: str) -> dict[str, str]:
    """The environment of a plain shell: nothing in it points at this checkout."""
    plain = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**plain, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **changes}


def run_in(folder: Path, *command: str | Path, timeout_s: float = 300,
           **changes: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], cwd=folder, capture_output=True,
                          text=True, timeout=timeout_s, env=environment(**changes),
                          stdin=subprocess.DEVNULL)
