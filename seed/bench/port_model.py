"""Estimates a training step on four Cortex-A76 cores (a Raspberry Pi 5), kernel by kernel, by LLVM
19's port model. Nothing of it is measured.

    python -m seed.bench.port_model [--profile seed] [--llvm-mca llvm-mca-19]

Each kernel runs once in emulation, which counts its basic blocks (arm64_blocks.py); llvm-mca says
how many cycles a block takes in the long run, with all data in the first cache. LLVM's cortex-a76
has the ports of a Cortex-A57, so the model is that of neoverse-n1, the same core for servers; it
leaves out that a Cortex-A76 decodes four instructions a cycle, which is added here.
"""
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from seed.bench import command_line
from seed.bench.arm64_blocks import EMULATOR, LINKER, Block, counted
from seed.bench.step_kernels import Step, compiled_anew
from seed.errors import BenchError, ConfigError
from seed.profile_file import load_profile
from seed.wavecore.compiler import find_compiler

MODEL, VERSION = "neoverse-n1", "19."
CORES, HZ = 4, 2.4e9
DECODED = 4               # instructions a cycle
VECTOR_PORTS = 2
MIN_BUSY = 0.9            # of the cycles, for a port that is what a block waits for
CALLS = ("bl", "blr")     # whose blocks are counted by themselves; llvm-mca takes 100 cycles each
PORTS = {"V": "vector", "L": "load", "D": "store", "B": "branch", "M": "integer", "S": "integer"}
PACKAGES = {LINKER: "binutils-aarch64-linux-gnu", EMULATOR: "qemu-user-static"}
MIN_STEP_SHARE = 0.01     # of a step's time, for a kernel that has a row
MIN_SHARE = 0.15          # of a kernel's time, for a block that has one


class Cost(NamedTuple):
    """Of a block that runs again and again."""
    cycles: float
    bound: str             # what it waits for: a kind of port, decode, or latency
    multiply_adds: int     # instructions


class Hot(NamedTuple):
    """A block that takes much of its kernel's time."""
    function: str
    share: float
    cost: Cost


class Kernel(NamedTuple):
    name: str
    launches: int          # of a step
    cycles: float          # of a launch
    multiply_adds: int
    blocks: list[Hot]

    @property
    def step_ms(self) -> float:
        """On one core."""
        return 1e3 * self.launches * self.cycles / HZ

    @property
    def peak_share(self) -> float:
        """Multiply-adds of those that the vector ports could do."""
        return self.multiply_adds / (VECTOR_PORTS * self.cycles)


def regions(blocks: Sequence[Block]) -> str:
    """What llvm-mca reads: one region a block."""
    lines: list[str] = []
    for i, block in enumerate(blocks):
        lines += [f"# LLVM-MCA-BEGIN {i}", *_modelled(block), f"# LLVM-MCA-END {i}"]
    return "\n".join([*lines, ""])


def _modelled(block: Block) -> list[str]:
    rest = [word for word in block.instructions if word.split()[0] not in CALLS]
    return rest or ["nop"]


def costs(report: dict[str, Any]) -> list[Cost]:
    """Of the regions in the JSON that llvm-mca prints."""
    resources = report["TargetInfo"]["Resources"]
    return [_cost(region, resources) for region in report["CodeRegions"]]


def _cost(region: dict[str, Any], resources: Sequence[str]) -> Cost:
    summary, instructions = region["SummaryView"], region["Instructions"]
    cycles = summary["TotalCycles"] / summary["Iterations"]
    usage: dict[str, float] = {}
    for row in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if row["InstructionIndex"] == len(instructions):   # of all of them
            name = resources[row["ResourceIndex"]].removeprefix("N1Unit")
            usage[name] = row["ResourceUsage"]
    port, busy = max(usage.items(), key=lambda item: item[1], default=("", 0.0))
    decode = len(instructions) / DECODED
    bound = "decode" if decode >= cycles else "latency"
    cycles = max(cycles, decode)
    if busy >= MIN_BUSY * cycles:
        bound = PORTS[port[0]]
    return Cost(cycles, bound, sum(text.split()[0] in ("fmla", "fmls") for text in instructions))


def simulate(program: str, blocks: Sequence[Block]) -> list[Cost]:
    """Raises BenchError."""
    done = subprocess.run([program, "-mtriple=aarch64", f"-mcpu={MODEL}", "--json",
                           "-instruction-info=false", "-skip-unsupported-instructions=lack-sched"],
                          input=regions(blocks), text=True,
                          capture_output=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise BenchError(f"{program} ended with {done.returncode}: {' '.join(errors[:1])}")
    return costs(json.loads(done.stdout))


def summed(name: str, launches: int, counts: Sequence[tuple[Block, int]],
           block_costs: Sequence[Cost]) -> Kernel:
    cycles = [count * cost.cycles for (_, count), cost in zip(counts, block_costs, strict=True)]
    total = sum(cycles)
    blocks = [Hot(block.function, part / total, cost)
              for (block, _), part, cost in zip(counts, cycles, block_costs)]
    return Kernel(name, launches, total,
                  sum(count * cost.multiply_adds for (_, count), cost in zip(counts, block_costs)),
                  sorted((block for block in blocks if block.share >= MIN_SHARE),
                         key=lambda block: block.share, reverse=True))


def table(kernels: Sequence[Kernel]) -> str:
    lines = ["| kernel | in a step | ms, one core | of peak | block | of the kernel | cycles "
             "| multiply-adds | waits for |", "|---|---|---|---|---|---|---|---|---|"]
    step_ms = sum(kernel.step_ms for kernel in kernels)
    for kernel in sorted(kernels, key=lambda kernel: kernel.step_ms, reverse=True):
        if kernel.step_ms < MIN_STEP_SHARE * step_ms:
            continue
        cells = [" ".join(kernel.name.split("_")[:2]), str(kernel.launches),
                 f"{kernel.step_ms:.1f}", f"{kernel.peak_share:.2f}"]
        for function, share, cost in kernel.blocks:
            lines.append(f"| {' | '.join(cells)} | `{function}` | {share:.2f} | {cost.cycles:.1f} "
                         f"| {cost.multiply_adds} | {cost.bound} |")
            cells = [""] * len(cells)
    return "\n".join([*lines, "", f"a step: {step_ms:.0f} ms on one core at {HZ / 1e9:g} GHz, "
                      f"{step_ms / CORES:.0f} ms on {CORES} that share it evenly"])


def check(program: str) -> None:
    """Raises ConfigError, CompilerError unless the tools are there."""
    for tool, package in PACKAGES.items():
        if not shutil.which(tool):
            raise ConfigError(f"{tool} is not on PATH: apt install {package}")
    if not shutil.which(program):
        raise ConfigError(f"{program} is not on PATH: apt install llvm-19, or name it with "
                          f"--llvm-mca")
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    if f"LLVM version {VERSION}" not in text:
        raise ConfigError(f"{program} is not of LLVM 19: name one with --llvm-mca, because others "
                          f"have other models")
    find_compiler()


def estimate(program: str, profile_name: str, overrides: Sequence[str]) -> list[Kernel]:
    with compiled_anew(lambda text: text) as texts:
        launches = Step(load_profile(profile_name, overrides), threads=1).launches()
    repeats = Counter(launch.kernel for launch in launches)
    kernels = []
    for name, launch in {launch.kernel: launch for launch in launches}.items():
        counts = counted(name, texts[name], launch.buffer_bytes)
        kernels.append(summed(name, repeats[name], counts,
                              simulate(program, [block for block, _ in counts])))
    return kernels


def main() -> int:
    parser = command_line.make_parser(__doc__)
    command_line.add_profile(parser, "seed")
    parser.add_argument("--llvm-mca", default="llvm-mca-19", metavar="PROGRAM")
    args = parser.parse_args()

    def estimated() -> str:
        check(args.llvm_mca)
        return table(estimate(args.llvm_mca, args.profile, args.overrides))
    return command_line.run("port_model", estimated)


if __name__ == "__main__":
    sys.exit(main())
