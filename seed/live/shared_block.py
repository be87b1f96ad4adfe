"""The block of memory that the fast loop and the processes around it share: 8-byte words.

A file in memory (a directory in /dev/shm), to which the link `block` in the live directory leads:
on a disk, the kernel's writing would hold up whoever writes a word. Version 2:

    words 0 to 2         MAGIC, VERSION, number of words
    LOOP, from 8 on      what the tick loop writes, in the order of this table
    PARENT, from 64 on   what its parent writes
    LATENESS, TICK_TIME  from 96 on, histograms of BINS words each, written by the tick loop
    ACTION, FAULT_TIMES  from 272 and 480 on: what a tick loop that was killed leaves to the next

`stop`: the loop ends cleanly; `hold`: the safe action while it is not 0, as for teleoperation;
`clear`: how often a person has cleared latched faults; `next_generation`: of the brain that is to
act; `explore`: in episodes that begin while it is not 0 actions are drawn by their probabilities,
so that something can be learnt of them. `state` and `fault` are of safety.py.

Integers are int64, those in FLOATS float64, in the machine's byte order. A word is written by one
side, whole; words are not consistent with each other. Reading and writing need no system call.
"""
import fcntl
import mmap
import os
import secrets
import shutil
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seed.errors import ConfigError, SeedError
from seed.live.safety import MAX_FAULTS
from seed.regular_file import open_regular, reader

NAME, PREFIX, MEMORY = "block", "seed-live-", Path("/dev/shm")
MAGIC, VERSION = int.from_bytes(b"seedlive", "little"), 2
BINS, NS = 88, 1e9
LOOP = ("pid", "state", "fault", "started_ns", "heartbeat_ns", "ticks", "missed", "late",
        "worst_late_ns", "worst_tick_ns", "late_brain", "late_body", "faults", "episodes",
        "last_return", "surprise", "value", "clipped", "absent", "clamped", "slewed", "generation",
        "swaps", "swaps_anew", "period_ns", "episode_return", "episode_ticks", "steps",
        "total_reward", "latched", "action_numbers")
PARENT = ("stop", "next_generation", "hold", "clear", "explore")
FLOATS = {"last_return", "surprise", "value", "episode_return", "total_reward"}
FIRST_LOOP, FIRST_PARENT, FIRST_LATENESS = 8, 64, 96
FIRST_TICK_TIME = FIRST_LATENESS + BINS
FIRST_ACTION, FIRST_FAULT_TIME = FIRST_TICK_TIME + BINS, 480
MAX_ACTION_NUMBERS = FIRST_FAULT_TIME - FIRST_ACTION
WORDS = 512                          # a page
AT = {name: first + i for names, first in ((LOOP, FIRST_LOOP), (PARENT, FIRST_PARENT))
      for i, name in enumerate(names)}


def bin_of(us: int) -> int:
    """Of a time: four bins for each doubling, from 1 us to 2 s."""
    bits = us.bit_length()
    if bits < 3:
        return us
    index = 4 * (bits - 2) + (us >> (bits - 3) & 3)
    return index if index < BINS else BINS - 1


def bin_end_us(index: int) -> int:
    """The least time of the next bin."""
    index += 1
    return index if index < 4 else (4 + index % 4) << (index // 4 - 1)


def quantile_us(counts: list[int], q: float) -> int:
    """A bound that the fraction q of the counted times is below; 0 without any."""
    left = q * sum(counts)
    for index, count in enumerate(counts):
        left -= count
        if count and left <= 0:
            return bin_end_us(index)
    return 0


class Slip(NamedTuple):
    """How well the loop kept its deadlines between two looks."""
    ticks: int
    missed: int
    late: int
    p999_us: int            # of lateness
    silent_s: float         # since its last tick began
    overdue: int = 0        # deadlines since then, which its next tick counts as missed

    @property
    def fraction(self) -> float:
        """Of the deadlines, missed or late."""
        missed = self.missed + self.overdue
        return (missed + self.late) / max(1, self.ticks + missed)


class Block:
    """`block["ticks"]` reads a word by its name, `block["stop"] = 1` writes it."""

    def __init__(self, path: Path):
        """Raises ConfigError unless a block of this version is there."""
        try:
            descriptor = open_regular(path, os.O_RDWR)
            weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)   # it is not abandoned
            self._map = mmap.mmap(descriptor, 8 * WORDS)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is no block of a fast loop: "
                              f"{getattr(error, 'strerror', None) or error}; start seed live"
                              ) from None
        self.integers = memoryview(self._map).cast("q")
        self.floats = memoryview(self._map).cast("d")
        if self.integers[:3].tolist() != [MAGIC, VERSION, WORDS]:
            raise ConfigError(f"{path} is the block of another version of seed: start seed live "
                              f"again")
        self._looked_at = [0, 0, 0, *[0] * BINS]

    @classmethod
    def open(cls, live_dir: Path | str) -> "Block":
        """That of the live directory. Raises ConfigError."""
        return cls(Path(live_dir) / NAME)

    @classmethod
    def create(cls, live_dir: Path) -> "Block":
        """A new one, in place of what an earlier loop has left. Raises SeedError."""
        memory = MEMORY if os.access(MEMORY, os.W_OK) else live_dir
        folder, link = memory / f"{PREFIX}{secrets.token_hex(8)}", live_dir / NAME
        data = b"".join(n.to_bytes(8, sys.byteorder) for n in (MAGIC, VERSION, WORDS))
        try:
            link.unlink(missing_ok=True)   # where the directory was copied, a loop has its target
            for place in {memory, live_dir}:
                remove_abandoned(place)
            folder.mkdir(0o700)
            with open(folder / NAME, "xb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)   # before it has a size
                file.write(data.ljust(8 * WORDS, b"\0"))
                file.flush()
                os.symlink(folder / NAME, link)
                return cls(link)
        except OSError as error:
            raise SeedError(f"{live_dir}: {error.strerror}: the fast loop needs a block of shared "
                            f"memory; use another directory") from None

    def __getitem__(self, name: str) -> float:
        return (self.floats if name in FLOATS else self.integers)[AT[name]]

    def __setitem__(self, name: str, value: float) -> None:
        if name in FLOATS:
            self.floats[AT[name]] = value
        else:
            self.integers[AT[name]] = int(value)

    def count(self, first: int, us: int) -> None:
        """One more time in a histogram."""
        self.integers[first + bin_of(us)] += 1

    @property
    def action(self) -> list[float] | None:
        """The last one that the body got; None where there is none, or it is too long."""
        n = int(self["action_numbers"])
        return [float(x) for x in self.floats[FIRST_ACTION:FIRST_ACTION + n]] if n else None

    @action.setter
    def action(self, numbers: Sequence[float] | None) -> None:
        n = len(numbers) if numbers and len(numbers) <= MAX_ACTION_NUMBERS else 0
        for i in range(n):
            self.floats[FIRST_ACTION + i] = numbers[i]   # type: ignore[index]
        self["action_numbers"] = n

    @property
    def fault_times(self) -> list[float]:
        """Of the last faults, in s of CLOCK_MONOTONIC."""
        times = self.floats[FIRST_FAULT_TIME:FIRST_FAULT_TIME + MAX_FAULTS].tolist()
        return [time_s for time_s in times if time_s]

    @fault_times.setter
    def fault_times(self, times_s: Sequence[float]) -> None:
        for i in range(MAX_FAULTS):
            self.floats[FIRST_FAULT_TIME + i] = times_s[i] if i < len(times_s) else 0.0

    def lateness(self) -> list[int]:
        """Counts of how late ticks began, by `bin_of`."""
        return self.integers[FIRST_LATENESS:FIRST_LATENESS + BINS].tolist()

    def tick_times(self) -> list[int]:
        """Counts of how long ticks took, by `bin_of`."""
        return self.integers[FIRST_TICK_TIME:FIRST_TICK_TIME + BINS].tolist()

    def slip(self, now_ns: int) -> Slip:
        """Since this reader's last call; `now_ns` of CLOCK_MONOTONIC."""
        now = [int(self[name]) for name in ("ticks", "missed", "late")] + self.lateness()
        if now[0] < self._looked_at[0]:   # the loop has started again
            self._looked_at = [0] * len(now)
        changes = [a - b for a, b in zip(now, self._looked_at)]
        self._looked_at = now
        heartbeat_ns, period_ns = int(self["heartbeat_ns"]), int(self["period_ns"])
        silent_ns = max(0, now_ns - heartbeat_ns) if heartbeat_ns else 0
        # The deadline after the last tick is missed for sure when a second period has passed.
        overdue = max(0, silent_ns // period_ns - 1) if period_ns else 0
        return Slip(changes[0], changes[1], changes[2], quantile_us(changes[3:], 0.999),
                    silent_ns / NS, overdue)

    def words(self) -> dict[str, float]:
        """All by name."""
        return {name: self[name] for name in AT}


def folder_of(live_dir: Path) -> Path:
    """The directory in memory that the block is in; for what processes hand over. Raises OSError.
    """
    return Path(os.readlink(live_dir / NAME)).parent


def remove_abandoned(memory: Path) -> None:
    """What loops whose processes were all killed have left there."""
    for folder in memory.glob(f"{PREFIX}*/"):
        with suppress(OSError), reader(folder / NAME) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_size:   # else it is being made
                shutil.rmtree(folder)


def remove_folder(folder: Path) -> None:
    """That of one loop. Raises OSError."""
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder)


def remove(live_dir: Path) -> None:
    """What a loop that has ended has left in memory."""
    with suppress(OSError):
        remove_folder(folder_of(live_dir))
    (live_dir / NAME).unlink(missing_ok=True)
