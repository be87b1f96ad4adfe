"""Sensors of the board and of this process. Read-only; no public function raises.

Every reader takes the root of the file system, so that a test can give another. What cannot be read
is a Reading without a value but with a reason: unknown is never 0. Memory is in MB of 2**20 bytes.
Source of the bits of `get_throttled` and of the paths in sysfs: the Raspberry Pi's documentation.
"""
import errno
import functools
import math
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
MB = 2 ** 20
THROTTLE_BITS = ("under_voltage", "frequency_capped", "throttled", "soft_limit")   # bits 0 to 3
ALL_BITS = 2 ** 32 - 1
WHOLE_DEGREES = range(10, 131)   # of a board that runs: a hundredth of a degree is no reading
NO_LIMIT_V1 = 2 ** 60   # bytes; without a limit cgroup v1 shows the largest number of pages
SINCE_BOOT_BIT = 16   # the first of the four that say what happened at any time since boot


@dataclass(frozen=True)
class Reading:
    """A number, or None with the reason why it is unknown."""
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Throttled:
    """The firmware's throttle bits, or None with a reason. Only those set in `mask` are known."""
    bits: int | None
    reason: str = ""
    mask: int = ALL_BITS

    def _bit(self, number: int) -> bool | None:
        if self.bits is None or not self.mask >> number & 1:
            return None
        return bool(self.bits >> number & 1)

    def now(self) -> dict[str, bool | None]:
        return {name: self._bit(i) for i, name in enumerate(THROTTLE_BITS)}

    @property
    def since_boot(self) -> list[str]:
        """What happened at any time since boot, by the names of now()."""
        return [name for i, name in enumerate(THROTTLE_BITS, SINCE_BOOT_BIT) if self._bit(i)]


@dataclass(frozen=True)
class Health:
    """One reading of every sensor."""
    board: str                       # model in the device tree; empty on a PC or a server
    zones_c: dict[str, Reading]      # temperature of every thermal zone, by its type
    throttled: Throttled
    clock_fraction: Reading          # slowest core's clock / its maximum
    fan_rpm: Reading
    rss_mb: Reading                  # of this process and its descendants, swapped out included
    peak_rss_mb: Reading             # sum of the peaks of those that are alive
    mem_available_mb: Reading
    swap_used_mb: Reading
    cgroup_limit_mb: Reading         # the smallest that applies to this process
    disk_free_mb: Reading
    inodes_free: Reading

    def readings(self) -> dict[str, Reading]:
        """Every number by name; those of the thermal zones as `temp_c ZONE`."""
        zones = {f"temp_c {name}": r for name, r in self.zones_c.items()} or {"temp_c": self.temp_c}
        return zones | {name: r for name, r in vars(self).items() if isinstance(r, Reading)}

    @property
    def temp_c(self) -> Reading:
        """The hottest zone's temperature."""
        return _hottest(self.zones_c)


def read(run_dir: Path, root: Path = ROOT) -> Health:
    """All sensors, now; the disk is that of `run_dir`."""
    disk, inodes = free_space(run_dir)
    rss, peak = tree_mb(root)
    return Health(board(root), zones_c(root), throttled(root), clock_fraction(root), fan_rpm(root),
                  rss, peak, mem_available_mb(root), swap_used_mb(root), cgroup_limit_mb(root),
                  disk, inodes)


def _hottest(zones_c: dict[str, Reading]) -> Reading:
    temps = [reading.value for reading in zones_c.values() if reading.value is not None]
    unknown = [*zones_c.values(), Reading(None, "no thermal zone")][0]
    return Reading(max(temps)) if temps else unknown


def _text(path: Path) -> str:
    """The stripped contents of a file. Raises OSError."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _text_or_empty(path: Path) -> str:
    try:
        return _text(path)
    except OSError:
        return ""


def _reading(read_fn: Callable[[], float]) -> Reading:
    try:
        return Reading(read_fn())
    except OSError as error:
        return Reading(None, f"{error.filename or 'file'}: {error.strerror}")
    except (ValueError, IndexError, KeyError, ArithmeticError) as error:
        return Reading(None, f"not a valid value: {str(error)[:80]}")


def board(root: Path = ROOT) -> str:
    """The board's model in the device tree; empty where there is none."""
    return _text_or_empty(root / "proc/device-tree/model").rstrip("\0")


def machine(root: Path = ROOT) -> str:
    """The board's model; of a PC or a server that of its processor. Empty if neither is known."""
    processors = (line.partition(":")[2].strip() for line in _text_or_empty(
        root / "proc/cpuinfo").splitlines() if line.startswith("model name"))
    return board(root) or next(processors, "")


def boot_id(root: Path = ROOT) -> str:
    """The kernel's id of this boot; empty where it gives none."""
    return _text_or_empty(root / "proc/sys/kernel/random/boot_id")


def zones_c(root: Path = ROOT) -> dict[str, Reading]:
    """Every zone's temperature, by its type; the zone's name follows a type that is taken."""
    temps: dict[str, Reading] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name = _text_or_empty(zone / "type") or zone.name
        name = name if name not in temps else f"{name} {zone.name}"
        temps[name] = _reading(lambda: _celsius(int(_text(zone / "temp"))))
    return temps


def _celsius(number: int) -> float:
    """Thousandths of a degree, as the kernel documents it; whole degrees, as some drivers give."""
    return float(number) if number in WHOLE_DEGREES else number / 1000


def temp_c(root: Path = ROOT) -> float | None:
    """The hottest zone's temperature, or None if no zone can be read."""
    return _hottest(zones_c(root)).value


@functools.cache
def _throttle_nodes(root: Path) -> list[Path]:
    """Cached: the node's path differs between models, and the search is slow."""
    return sorted(root.glob("sys/devices/platform/**/*firmware*/get_throttled"))


def throttled(root: Path = ROOT) -> Throttled:
    """The firmware's bits from sysfs; where there are none, the under-voltage alarm alone."""
    nodes = _throttle_nodes(root)
    if nodes:
        return _throttled(lambda: int(_text(nodes[0]), 16))
    for name in sorted(root.glob("sys/class/hwmon/hwmon*/name")):
        if _text_or_empty(name) == "rpi_volt":
            return _throttled(lambda: int(_text(name.with_name("in0_lcrit_alarm"))), mask=1)
    return Throttled(None, "no get_throttled and no rpi_volt in sysfs")


def _throttled(read_fn: Callable[[], int], mask: int = ALL_BITS) -> Throttled:
    reading = _reading(read_fn)
    bits = None if reading.value is None else int(reading.value)
    return Throttled(bits, reading.reason, mask)


def clock_fraction(root: Path = ROOT) -> Reading:
    """The slowest core's clock as a fraction of its maximum."""
    cores = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    if not cores:
        return Reading(None, "no cpufreq in sysfs")
    return _reading(lambda: min(int(_text(core / "scaling_cur_freq"))
                                / int(_text(core / "cpuinfo_max_freq")) for core in cores))


def fan_rpm(root: Path = ROOT) -> Reading:
    """The speed of the first fan that reports one."""
    paths = sorted(root.glob("sys/class/hwmon/hwmon*/fan*_input"))
    if not paths:
        return Reading(None, "no fan in sysfs")
    return _reading(lambda: int(_text(paths[0])))


def _rows(path: Path) -> dict[str, str]:
    """The `NAME: VALUE` lines of a file of /proc. Raises OSError."""
    return dict(line.split(":", 1) for line in _text(path).splitlines() if ":" in line)


def _mb(size: str) -> float:
    """MB of `NUMBER kB`. Raises ValueError, IndexError."""
    return int(size.split()[0]) / 1024


def _memory_mb(process: Path) -> float:
    """Resident or swapped out: compressing memory (zram) frees nothing."""
    rows = _rows(process / "status")
    return _mb(rows["VmRSS"]) + _mb(rows.get("VmSwap", "0"))   # absent in a kernel without swap


def _peak_mb(process: Path) -> float:
    return _mb(_rows(process / "status")["VmHWM"])


def _children(folder: Path) -> list[str]:
    """Direct children by the kernel's list. Raises FileNotFoundError where a kernel has none."""
    return [pid for task in (folder / "task").iterdir() for pid in _text(task / "children").split()]


def _all_children(root: Path) -> dict[str, list[str]]:
    """The children of every process, from the parent that each process names."""
    children: dict[str, list[str]] = {}
    for path in root.glob("proc/[0-9]*/stat"):
        try:
            fields = _text(path).rpartition(")")[2].split()  # the name before may contain anything
            children.setdefault(fields[1], []).append(path.parent.name)
        except (OSError, IndexError):
            continue  # the process ended meanwhile
    return children


def _descendants(root: Path, pid: str) -> list[str]:
    """Process ids of its children, their children and so on."""
    tree = [pid]
    try:
        for parent in tree:
            tree += _children(root / "proc" / parent)
    except OSError:   # the kernel does not list them, or a process ended meanwhile
        tree, children = [pid], _all_children(root)
        for parent in tree:
            tree += children.get(parent, [])
    return tree[1:]


def tree_mb(root: Path = ROOT, pid: int | None = None) -> tuple[Reading, Reading]:
    """Memory now and the sum of the peaks, of a process (this one if None) and its descendants."""
    process = (root / "proc" / (str(pid) if pid else "self")).resolve()   # self links to a pid
    totals = [_reading(lambda: _memory_mb(process)), _reading(lambda: _peak_mb(process))]
    for descendant in _descendants(root, process.name):
        folder = root / "proc" / descendant
        try:
            sizes = [_memory_mb(folder), _peak_mb(folder)]
        except (OSError, ValueError, KeyError, IndexError):
            continue  # the process ended meanwhile
        totals = [Reading(total.value + mb) if total.value is not None else total
                  for total, mb in zip(totals, sizes)]
    return totals[0], totals[1]


def mem_available_mb(root: Path = ROOT) -> Reading:
    return _reading(lambda: _mb(_rows(root / "proc/meminfo")["MemAvailable"]))


def swap_used_mb(root: Path = ROOT) -> Reading:
    def read_fn() -> float:
        rows = _rows(root / "proc/meminfo")
        return _mb(rows["SwapTotal"]) - _mb(rows["SwapFree"])
    return _reading(read_fn)


def cgroup_limit_mb(root: Path = ROOT) -> Reading:
    """The smallest memory limit from this process's groups upwards, of cgroup v1 and v2; inf if
    none is set. In v2 memory.high counts too: above it the kernel slows a group until it stands."""
    return _reading(lambda: _cgroup_limit_mb(root))


def _cgroup_limit_mb(root: Path) -> float:
    top = root / "sys/fs/cgroup"
    lines = [line.split(":", 2) for line in _text(root / "proc/self/cgroup").splitlines()]
    v1 = [path for _, names, path in lines if "memory" in names.split(",")]
    v2 = [path for number, names, path in lines if number == "0" and not names]
    files = [folder / "memory.limit_in_bytes" for path in v1
             for folder in _upwards(top / "memory", path)]
    files += [folder / name for mount in (top, top / "unified") for path in v2 or ["/"]
              for folder in _upwards(mount, path) for name in ("memory.max", "memory.high")]
    limits = [_text(file) for file in files if file.exists()]
    if not limits:
        raise OSError(errno.ENOENT, "the memory controller is off", str(top))
    numbers = [math.inf if limit == "max" else int(limit) for limit in limits]
    return min(number / MB if 0 <= number < NO_LIMIT_V1 else math.inf for number in numbers)


def _upwards(mount: Path, group: str) -> list[Path]:
    """Folders of a group and its parents. In a container the first may be those of the host."""
    folder = Path(os.path.normpath(mount / group.strip("/")))
    return [path for path in (folder, *folder.parents) if path.is_relative_to(mount)] or [mount]


def address_space_mb() -> float:
    """The limit on this process's address space (ulimit -v); inf if there is none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit / MB


def free_space(folder: Path) -> tuple[Reading, Reading]:
    """MB and inodes that an ordinary user can still use on the file system of `folder`."""
    try:
        status = os.statvfs(folder)
    except OSError as error:
        unknown = Reading(None, f"{folder}: {error.strerror}")
        return unknown, unknown
    uncounted = Reading(None, "this file system does not count inodes")
    return (Reading(status.f_bavail * status.f_frsize / MB),
            Reading(status.f_favail) if status.f_files else uncounted)
