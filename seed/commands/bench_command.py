"""Time a training step, alone or beside a peer; or what acting costs, or a training's memory."""
import argparse
import importlib.util
from typing import TYPE_CHECKING, Any

from seed.commands import options, outcome
from seed.errors import ConfigError

if TYPE_CHECKING:
    from seed.config import Profile

PACKAGES = {"torch": ("PyTorch", "'seed-brain[peer]'"), "mlx": ("mlx", "'mlx[cpu]'")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, default="seed")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--peer", choices=["torch", "mlx", "tinygrad"],
                      help="beside the same model in PyTorch, eager and compiled, and a Mamba-2 "
                           "hybrid; in MLX; or in tinygrad without the kernels")
    what.add_argument("--act", action="store_true",
                      help="steps of control by the trainer, an exported file and its C source, "
                           "and rollouts")
    what.add_argument("--memory", nargs="*", metavar="PROFILE", dest="memory_of",
                      help="peak memory of trainings of profiles, and of PyTorch where it is "
                           "installed (default: toy and seed)")
    parser.add_argument("--turns", type=int, default=10, help="measurements of each contender")
    parser.add_argument("--minutes", type=float, default=10.0,
                        help="after which no further turn begins, three excepted; peers have to "
                             "be ready in half of them")
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    training = argparse.Namespace(**{**vars(args), "minutes": None})   # they are not its own
    profile = options.profile_from(training)   # refuses a bad one before any process starts
    if args.peer in PACKAGES and importlib.util.find_spec(args.peer) is None:
        name, package = PACKAGES[args.peer]
        raise ConfigError(f"--peer {args.peer} needs {name}: pip install {package}")
    from seed.wavecore.compiler import find_compiler
    find_compiler()   # refuses a machine without one before any process starts
    from seed.bench.interrupted import as_by_ctrl_c
    with options.working("measuring"), as_by_ctrl_c():
        report, text = _measure(args, profile)
    return outcome.show(args, report, text)


def _measure(args: argparse.Namespace, profile: "Profile") -> tuple[dict[str, Any], str]:
    """All figures, and their table."""
    if args.act:
        from seed.bench import acting_speed
        report = acting_speed.bench(profile, args.threads, args.turns, args.minutes)
        return report, acting_speed.table(report)
    if args.memory_of is not None:
        from seed.bench import peak_memory
        from seed.profile_file import load_profile
        profiles = args.memory_of or peak_memory.PROFILES
        for name in profiles:
            load_profile(name, args.overrides)
        report = peak_memory.bench(profiles, args.overrides, args.threads)
        return report, peak_memory.table(report)
    from seed.bench.compare import bench, table
    report = bench(args.profile, args.overrides, args.threads, args.peer or "", args.turns,
                   args.minutes)
    return report, table(report)
