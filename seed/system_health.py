"""Sensors of the board and of this process. Read-only, and nothing here raises.

Every reader takes the root of the file system that it reads. What cannot be read is a Reading
without a value and with a reason: unknown is never 0. Memory is in MB of 2**20 bytes. Facts about
the Raspberry Pi 5: its firmware's `get_throttled` bits and sysfs, as its documentation gives them.
"""
import errno
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
MB = 2 ** 20


@dataclass(frozen=True)
class Reading:
    """A number, or None with the reason why it is unknown."""
    value: float | None
    reason: str = ""

    @property
    def known(self) -> bool:
        return self.value is not None


@dataclass(frozen=True)
class Throttled:
    """The firmware's word of throttle bits; `bits` is None with a reason where there is none, and
    only those of `known` mean something."""
    bits: int | None
    reason: str = ""
    known: int = 2 ** 32 - 1

    def _bit(self, number: int) -> bool | None:
        if self.bits is None or not self.known >> number & 1:
            return None
        return bool(self.bits >> number & 1)

    @property
    def under_voltage(self) -> bool | None:
        return self._bit(0)

    @property
    def frequency_capped(self) -> bool | None:
        return self._bit(1)

    @property
    def throttled(self) -> bool | None:
        return self._bit(2)

    @property
    def soft_limit(self) -> bool | None:
        return self._bit(3)

    def now(self) -> dict[str, bool | None]:
        return {"under_voltage": self.under_voltage, "frequency_capped": self.frequency_capped,
                "throttled": self.throttled, "soft_limit": self.soft_limit}

    @property
    def since_boot(self) -> list[str]:
        """Names of what has happened since boot (bits 16 to 19)."""
        return [name for i, name in enumerate(self.now()) if self._bit(16 + i)]


@dataclass(frozen=True)
class Health:
    """One look at everything."""
    board: str                       # model in the device tree; empty on a PC or a server
    zones_c: dict[str, Reading]      # temperature of every thermal zone, by its type
    throttled: Throttled
    clock_share: Reading             # slowest core's clock / its maximum
    fan_rpm: Reading
    rss_mb: Reading                  # of this process and its descendants
    peak_rss_mb: Reading             # sum of the peaks of those alive
    mem_available_mb: Reading
    swap_used_mb: Reading
    cgroup_limit_mb: Reading         # the smallest memory.max that holds for this process
    disk_free_mb: Reading
    inodes_free: Reading

    def readings(self) -> dict[str, Reading]:
        """Every number by name; zones as temp_c."""
        zones = {f"temp_c {name}": r for name, r in self.zones_c.items()} or {
            "temp_c": self.temp_c}
        return zones | {key: value for key, value in vars(self).items()
                        if isinstance(value, Reading)}

    @property
    def temp_c(self) -> Reading:
        """The hottest zone."""
        known = [r.value for r in self.zones_c.values() if r.value is not None]
        if known:
            return Reading(max(known))
        reasons = [r.reason for r in self.zones_c.values()]
        return Reading(None, reasons[0] if reasons else "no thermal zone")


def read(run_dir: Path, root: Path = ROOT) -> Health:
    """All sensors, now."""
    disk, inodes = free_space(run_dir)
    rss, peak = tree_mb(root)
    return Health(board(root), zones_c(root), throttled(root), clock_share(root), fan_rpm(root),
                  rss, peak, meminfo_mb("MemAvailable", root),
                  swap_used_mb(root), cgroup_limit_mb(root), disk, inodes)


def _text(path: Path) -> str:
    """Contents without the line's end; OSError or ValueError if it cannot be read."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _reading(read: Callable[[], float]) -> Reading:
    try:
        return Reading(read())
    except OSError as error:
        return Reading(None, f"{error.filename or 'file'}: {error.strerror}")
    except (ValueError, IndexError, KeyError, ArithmeticError) as error:
        return Reading(None, f"not understood: {str(error)[:80]}")


def board(root: Path = ROOT) -> str:
    """The model that the device tree names, or nothing where there is none."""
    try:
        return _text(root / "proc/device-tree/model").rstrip("\0")
    except OSError:
        return ""


def boot_id(root: Path = ROOT) -> str:
    """The kernel's name of this boot, or nothing where it gives none."""
    try:
        return _text(root / "proc/sys/kernel/random/boot_id")
    except OSError:
        return ""


def zones_c(root: Path = ROOT) -> dict[str, Reading]:
    """Degrees Celsius of every thermal zone, by its type, numbered if two have the same."""
    found: dict[str, Reading] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        try:
            name = _text(zone / "type") or zone.name
        except OSError:
            name = zone.name
        name = name if name not in found else f"{name} {zone.name}"
        found[name] = _reading(lambda: int(_text(zone / "temp")) / 1000)
    return found


def temp_c(root: Path = ROOT) -> float | None:
    """The hottest zone, or None."""
    return max((r.value for r in zones_c(root).values() if r.value is not None), default=None)


@functools.cache
def _throttle_nodes(root: Path) -> list[Path]:
    """Found once: the node's place differs between models, and the search takes a while."""
    return sorted(root.glob("sys/devices/platform/**/*firmware*/get_throttled"))


def throttled(root: Path = ROOT) -> Throttled:
    """The firmware's bits from sysfs; where it gives none, its alarm of under-voltage alone."""
    paths = _throttle_nodes(root)
    try:
        if not paths:
            return _voltage_alarm(root)
        return Throttled(int(_text(paths[0]), 16))
    except OSError as error:
        return Throttled(None, f"{error.filename or paths[0]}: {error.strerror}")
    except ValueError as error:
        return Throttled(None, f"not understood: {str(error)[:80]}")


def _voltage_alarm(root: Path) -> Throttled:
    """Bit 0 from the hwmon device rpi_volt. Raises OSError, ValueError."""
    for name in sorted(root.glob("sys/class/hwmon/hwmon*/name")):
        if _text(name) == "rpi_volt":
            return Throttled(int(_text(name.with_name("in0_lcrit_alarm"))), known=1)
    return Throttled(None, "no get_throttled and no rpi_volt in sysfs")


def clock_share(root: Path = ROOT) -> Reading:
    """The slowest core's clock as a share of its maximum."""
    cores = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    if not cores:
        return Reading(None, "no cpufreq in sysfs")
    return _reading(lambda: min(int(_text(core / "scaling_cur_freq"))
                                / int(_text(core / "cpuinfo_max_freq")) for core in cores))


def fan_rpm(root: Path = ROOT) -> Reading:
    """Turns a minute of the first fan that reports them."""
    paths = sorted(root.glob("sys/class/hwmon/hwmon*/fan*_input")) + sorted(
        root.glob("sys/devices/platform/*fan*/hwmon/hwmon*/fan*_input"))
    if not paths:
        return Reading(None, "no fan in sysfs")
    return _reading(lambda: int(_text(paths[0])))


def _status_mb(folder: Path, *fields: str) -> list[float]:
    """Those rows of a process's status."""
    rows = dict(line.split(":", 1) for line in _text(folder / "status").splitlines() if ":" in line)
    return [int(rows[field].split()[0]) / 1024 for field in fields]


def _held_mb(folder: Path) -> float:
    """What a process holds, resident or swapped out: memory is not freed by compressing it."""
    resident, = _status_mb(folder, "VmRSS")
    try:
        return resident + _status_mb(folder, "VmSwap")[0]
    except KeyError:
        return resident  # a kernel without swap


def _children(folder: Path) -> list[str]:
    """Direct children by the kernel's own list, which not every kernel has (FileNotFoundError)."""
    return [pid for task in (folder / "task").iterdir() for pid in _text(task / "children").split()]


def _parents(root: Path) -> dict[str, list[str]]:
    """Children of every process, by looking at all of them."""
    found: dict[str, list[str]] = {}
    for path in root.glob("proc/[0-9]*/stat"):
        try:
            fields = _text(path).rpartition(")")[2].split()  # the name before may hold anything
            found.setdefault(fields[1], []).append(path.parent.name)
        except (OSError, IndexError):
            continue  # it ended meanwhile
    return found


def _descendants(root: Path, pid: str) -> list[str]:
    """All processes below this one."""
    parents: dict[str, list[str]] | None = None
    tree = [pid]
    for one in tree:
        try:
            if parents is None:
                tree += _children(root / "proc" / one)
                continue
        except OSError:
            parents = _parents(root)
        tree += parents.get(one, [])
    return tree[1:]


def tree_mb(root: Path = ROOT, pid: int | None = None) -> tuple[Reading, Reading]:
    """Memory that is held now, and the sum of the peaks, of a process and its descendants; of this
    one unless another is named."""
    own = root / "proc" / (str(pid) if pid else "self")
    try:
        name = str(pid) if pid else own.readlink().name
    except OSError:
        name = str(os.getpid())
    totals = [_reading(lambda: _held_mb(own)), _reading(lambda: _status_mb(own, "VmHWM")[0])]
    for one in _descendants(root, name):
        folder = root / "proc" / one
        try:
            more = [_held_mb(folder), *_status_mb(folder, "VmHWM")]
        except (OSError, ValueError, KeyError, IndexError):
            continue  # it ended meanwhile
        totals = [Reading(t.value + m) if t.value is not None else t
                  for t, m in zip(totals, more)]
    return totals[0], totals[1]


def rss_mb(root: Path = ROOT) -> float | None:
    """Memory of this process alone that is resident now."""
    return _reading(lambda: _status_mb(root / "proc/self", "VmRSS")[0]).value


def peak_rss_mb(root: Path = ROOT) -> float | None:
    """The most it ever was."""
    return _reading(lambda: _status_mb(root / "proc/self", "VmHWM")[0]).value


def _meminfo(root: Path) -> dict[str, float]:
    rows = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    return {row[0].rstrip(":"): int(row[1]) / 1024 for row in rows if len(row) >= 2}


def meminfo_mb(field: str, root: Path = ROOT) -> Reading:
    """A row of /proc/meminfo."""
    return _reading(lambda: _meminfo(root)[field])


def swap_used_mb(root: Path = ROOT) -> Reading:
    def used() -> float:
        rows = _meminfo(root)
        return rows["SwapTotal"] - rows["SwapFree"]
    return _reading(used)


def cgroup_limit_mb(root: Path = ROOT) -> Reading:
    """The smallest memory.max from this process's group upwards (cgroup v2); inf if none is set."""
    def limit() -> float:
        lines = _text(root / "proc/self/cgroup").splitlines()
        place = next(line[3:] for line in [*lines, "0::"] if line.startswith("0::"))
        group = root / "sys/fs/cgroup" / place.strip("/")
        found = []
        for folder in (group, *group.parents):
            if (folder / "memory.max").exists():
                text = _text(folder / "memory.max")
                found.append(float("inf") if text == "max" else int(text) / MB)
            if folder == root / "sys/fs/cgroup":
                break
        if not found:
            raise OSError(errno.ENOENT, "the memory controller is off", str(group))
        return min(found)
    return _reading(limit)


def free_space(folder: Path) -> tuple[Reading, Reading]:
    """MB and inodes that an ordinary user may still take where `folder` is."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        unknown = Reading(None, f"{folder}: {error.strerror}")
        return unknown, unknown
    inodes = Reading(found.f_favail) if found.f_files else Reading(None, "it does not count inodes")
    return Reading(found.f_bavail * found.f_frsize / MB), inodes
