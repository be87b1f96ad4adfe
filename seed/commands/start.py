"""What commands begin with: a profile, the compiler, a brain."""
import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from seed.config import Profile, from_dict, load_profile, overridden
from seed.errors import ConfigError

if TYPE_CHECKING:
    from seed.storage import RunDir

DEFAULT = "toy"   # profile


def say(text: str) -> None:
    with contextlib.suppress(OSError):   # a file of a full disk may be behind it
        print(text, file=sys.stderr, flush=True)


def overrides_of(args: argparse.Namespace) -> list[str]:
    """All options that change a key of the profile, as texts a.b=value."""
    overrides = list(args.overrides)
    for key in ("seed", "minutes", "steps"):
        if getattr(args, key, None) is not None:
            overrides.append(f"train.{key}={getattr(args, key)}")
    if getattr(args, "minutes", None) is not None and getattr(args, "steps", None) is None:
        overrides.append("train.steps=0")
    if getattr(args, "memory", None) is not None:
        overrides.append(f"governor.memory_mb={1024 * args.memory}")
    if getattr(args, "no_thermal", False):
        overrides.append("governor.thermal=false")
    return overrides


def profile_of(args: argparse.Namespace) -> Profile:
    """The profile that is named; without a name that of the run directory's brain, or DEFAULT."""
    overrides = overrides_of(args)
    if args.profile is None and getattr(args, "run_dir", None):
        found = args.run_dir.load_newest(say)
        if found:
            return overridden(found.meta["profile"], overrides, args.tasks)
    return load_profile(args.profile or DEFAULT, overrides, args.tasks)


def prepare(threads: int, run_dir: "RunDir | None" = None) -> None:
    """Checks --threads and prepares tinygrad."""
    if not 1 <= threads <= 64:
        raise ConfigError(f"--threads is {threads}: use 1 to 64")
    from seed.wavecore.compiler import cpu
    from seed.wavecore.tinygrad_seam import install
    install(run_dir.kernel_cache(cpu()) if run_dir else None)


def prepare_brain(args: argparse.Namespace) -> None:
    """The same, with a cache of compiled kernels beside the brain."""
    prepare(args.threads, args.run_dir)


def newest(run_dir: "RunDir", repair: bool = False):
    """The newest brain of a run directory. Raises ConfigError if there is none.

    `repair`: for whoever holds the lock and is going to save.
    """
    brain = run_dir.recover(say) if repair else run_dir.load_newest(say)
    if brain is None:
        raise ConfigError(f"{run_dir} has no brain: train one with --run-dir {run_dir}")
    return brain


def load_brain(args: argparse.Namespace):
    """The newest brain of the run directory: its profile, model and step."""
    found = newest(args.run_dir)
    prepare_brain(args)
    from seed.wavecore.model import WaveCore, init_params
    profile = from_dict(found.meta["profile"])
    names = init_params(profile.model, 0)
    model = WaveCore(profile.model, {k: a for k, a in found.tensors.items() if k in names},
                     args.threads)
    return profile, model, found.meta["step"]
