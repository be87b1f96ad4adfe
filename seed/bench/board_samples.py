"""The extremes of the board's sensors while something runs, from samples; what cannot be read stays
unknown, with its reason."""
from typing import Any

from seed.system_health import Health, Reading

NOT_READ = Reading(None, "not read")


def larger(a: Reading, b: Reading) -> Reading:
    known = [reading for reading in (a, b) if reading.value is not None]
    return max(known, key=lambda reading: reading.value or 0.0) if known else b


def smaller(a: Reading, b: Reading) -> Reading:
    known = [reading for reading in (a, b) if reading.value is not None]
    return min(known, key=lambda reading: reading.value or 0.0) if known else b


class BoardSamples:
    """`add` takes a sample; `tree_mb`: memory of the process tree that is watched."""

    def __init__(self) -> None:
        self.count = 0
        self.hottest_c = self.lowest_clock = self.fastest_fan = self.most_memory_mb = NOT_READ
        self.least_available_mb = self.most_swap_mb = self.least_disk_mb = NOT_READ
        self.throttle_reason = "not read"   # why the bits are unknown; empty if they are known
        self._now: set[str] = set()
        self._since_boot: list[str] = []

    def add(self, health: Health, tree_mb: Reading) -> None:
        self.count += 1
        self.hottest_c = larger(self.hottest_c, health.temp_c)
        self.lowest_clock = smaller(self.lowest_clock, health.clock_fraction)
        self.fastest_fan = larger(self.fastest_fan, health.fan_rpm)
        self.most_memory_mb = larger(self.most_memory_mb, tree_mb)
        self.least_available_mb = smaller(self.least_available_mb, health.mem_available_mb)
        self.most_swap_mb = larger(self.most_swap_mb, health.swap_used_mb)
        self.least_disk_mb = smaller(self.least_disk_mb, health.disk_free_mb)
        bits = health.throttled
        if bits.bits is None:
            self.throttle_reason = self.throttle_reason and bits.reason
        else:
            self.throttle_reason = ""
            self._now |= {name for name, is_set in bits.now().items() if is_set}
            self._since_boot = bits.since_boot

    def facts(self) -> dict[str, Any]:
        """JSON: {"value", "reason"} of each sensor; `throttled` names the bits that were set."""
        sensors = {name: vars(reading) for name, reading in vars(self).items()
                   if isinstance(reading, Reading)}
        bits = (None if self.throttle_reason else
                {"now": sorted(self._now), "since_boot": self._since_boot})
        return {"samples": self.count, **sensors,
                "throttled": {"value": bits, "reason": self.throttle_reason}}
