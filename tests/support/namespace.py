"""Commands in a mount namespace of their own, where files of /proc and /sys are those of a test."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def needs_mounts() -> None:
    """Skips the test where no mount namespace can be made."""
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(
            ["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root and unshare")


def with_mounts(setup: str, *command: str | Path) -> list[str]:
    """The command after the shell text `setup`; its process id stays that of the shell."""
    return ["unshare", "-m", "bash", "-euc", f'{setup}\nexec "$@"', "_", *map(str, command)]


def thermal_zones(folder: Path, **temps: str) -> str:
    """Writes zones into the folder; returns the setup that shows them as those of the board."""
    for i, (name, text) in enumerate(temps.items()):
        zone = folder / f"thermal_zone{i}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(name + "\n")
        (zone / "temp").write_text(text + "\n")
    return f"mount --bind '{folder}' /sys/class/thermal"


def memory_groups(folder: Path, groups: str, limits: dict[str, str]) -> str:
    """Writes limits, by their path below the mount; returns the setup that shows them."""
    for path, text in limits.items():
        (folder / "cgroup" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / path).write_text(text + "\n")
    (folder / "groups").write_text(groups)
    return (f"mount --rbind '{folder / 'cgroup'}' /sys/fs/cgroup\n"
            f"mount --bind '{folder / 'groups'}' /proc/$$/cgroup")
