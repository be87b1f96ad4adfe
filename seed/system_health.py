"""Sensors of the board. Read-only; a value that cannot be read is None, and nothing raises."""
from pathlib import Path

ROOT = Path("/")


def rss_mb(root: Path = ROOT) -> float | None:
    """Memory of this process that is resident now, in MB (2**20 bytes)."""
    return _status_mb(root, "VmRSS")


def peak_rss_mb(root: Path = ROOT) -> float | None:
    """The most it ever was."""
    return _status_mb(root, "VmHWM")


def temp_c(root: Path = ROOT) -> float | None:
    """The hottest thermal zone in degrees Celsius."""
    found = []
    for zone in root.glob("sys/class/thermal/thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)


def _status_mb(root: Path, field: str) -> float | None:
    try:
        for line in (root / "proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
