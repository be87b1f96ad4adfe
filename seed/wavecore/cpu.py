"""The CPUs that kernels are built for: that of this machine, or a named one."""
import functools
import hashlib
import platform
import re
from pathlib import Path
from typing import NamedTuple

from seed.errors import ConfigError
from seed.settings import nearest

# Words of /proc/cpuinfo for instructions that clang chooses by itself. A newer Linux adds words of
# other kinds, as for its mitigations, which must not make compiled kernels useless.
INSTRUCTION_SETS = re.compile(
    r"a(bm|dx|es)|amx\w*|apx\w*|avx\w*|bmi\d|cx16|f16c|fma4?|gfni|lzcnt|movbe|pclmul\w*|pni|popcnt"
    r"|s?sse\w*|sha\w*|tbm|vaes|vpclmul\w*|xop"   # x86-64
    r"|asimd\w*|atomics|bf16|crc32|dcpop|fcma|flagm2?|fp|fphp|frint|i8mm|i?lrcpc|jscvt"
    r"|lse\w*|mops|pmull|sm\d|sme\w*|sve\w*|uscat")   # arm64


class Target(NamedTuple):
    """A CPU that kernels are compiled for."""
    name: str               # as clang has it: -march on x86-64, -mcpu on arm64
    machine: str            # as platform.machine() has it
    needs: tuple[str, ...]  # words of /proc/cpuinfo: a CPU without them cannot run the kernels

    @property
    def arch(self) -> tuple[str, str]:
        """As tinygrad has it."""
        return {"aarch64": "arm64"}.get(self.machine, self.machine), self.name

    def lacks(self) -> str:
        """What this machine lacks to run its kernels; empty if nothing."""
        if platform.machine() != self.machine:
            return f"it is for {self.machine}, and this machine is {platform.machine()}"
        words = _cpuinfo_words()
        missing = [word for word in self.needs if word not in words]
        return f"this CPU has no {', '.join(missing)}" if missing else ""


NAMED = {target.name: target for target in (
    Target("cortex-a76", "aarch64", (
        "asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fphp", "lrcpc")),
    Target("x86-64-v3", "x86_64", (
        "abm", "avx", "avx2", "bmi1", "bmi2", "cx16", "f16c", "fma", "movbe", "pni", "popcnt",
        "sse4_1", "sse4_2", "ssse3")))}
NATIVE = "native"
TARGET_NAMES = (*NAMED, NATIVE)


def find_target(name: str) -> Target:
    """Raises ConfigError if there is none of that name."""
    if name == NATIVE:
        return Target(NATIVE, platform.machine(), tuple(instruction_sets()))
    if name not in NAMED:
        raise ConfigError(f"--cpu is {name!r}: use {', '.join(TARGET_NAMES)}"
                          f"{nearest(name, TARGET_NAMES)}")
    return NAMED[name]


def instruction_sets() -> list[str]:
    """Of this CPU, sorted."""
    return sorted(filter(INSTRUCTION_SETS.fullmatch, _cpuinfo_words()))


@functools.cache
def cpu() -> str:
    """Machine and a short hash of its instruction sets, the same on every CPU of a kind."""
    digest = hashlib.blake2b(" ".join(instruction_sets()).encode(), digest_size=6)
    return f"{platform.machine()} {digest.hexdigest()}"


def likely_name() -> str:
    """What to call this machine's CPU where kernels are built for it elsewhere."""
    return next((name for name, target in NAMED.items() if not target.lacks()), NATIVE)


def _cpuinfo_words() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())
