"""Peak memory of trainings, each in a process of its own, whose peak the kernel tells (VmHWM).

    python -m seed.bench.peak_memory PROFILE THREADS [a.b=value ...]

That is such a process: it trains STEPS steps in a run directory that is removed, with all that a
training does, evaluations, practice and saving among it, and prints its peak as JSON. "steps" and
the peers are workers of compare.py, which make optimizer steps alone. Kernels are compiled by a run
before, in a cache of their own: a compiler is another process.
"""
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import seed.own_hashes  # noqa: F401  (as in the command line)
from seed.bench.compare import Contender, ending, environment
from seed.errors import BenchError
from seed.interpreter import die_with_parent, seed_command
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.system_health import tree_mb

STEPS = 3
OVERRIDES = ["train.minutes=0", f"train.steps={STEPS}", "curriculum.eval_every_steps=2",
             "curriculum.holdout_items=4"]
PROFILES = ["toy", "seed"]


def steps_mb(name: str, profile: str, overrides: Sequence[str], threads: int,
             cache: Path) -> float:
    """Of a contender that makes optimizer steps. Raises BenchError if it ends."""
    with ExitStack() as running:
        contender = Contender(name, [name, profile, str(threads), *overrides], cache)
        running.callback(contender.kill)
        contender.start()
        contender.stop()
        contender.peak_rss_mb = 0.0
        contender.start()
        contender.stop()
    return contender.peak_rss_mb


def training_mb(profile: str, overrides: Sequence[str], threads: int, cache: Path) -> float:
    """Of a whole training. Raises BenchError if it fails."""
    command = seed_command(profile, str(threads), *overrides, module="seed.bench.peak_memory")
    for _ in range(2):
        done = subprocess.run(command, env=environment(cache, threads), capture_output=True,
                              text=True, preexec_fn=partial(die_with_parent, os.getpid()))
        if done.returncode:
            errors = done.stderr.strip().splitlines()
            raise BenchError(f"a training of {profile} did not run: "
                             f"{errors[-1] if errors else ending(done.returncode)}")
    return json.loads(done.stdout.splitlines()[-1])["peak_rss_mb"]


def bench(profiles: Sequence[str], overrides: Sequence[str], threads: int) -> dict[str, Any]:
    """All figures, in MB; those of PyTorch are None where it is not installed."""
    has_torch = importlib.util.find_spec("torch") is not None
    rows = []
    for profile in profiles:
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder)
            rows.append({
                "profile": profile,
                "training_mb": training_mb(profile, overrides, threads, cache),
                "steps_mb": steps_mb("seed", profile, overrides, threads, cache),
                "torch_eager_mb": steps_mb("torch eager", profile, overrides, threads, cache)
                if has_torch else None})
    return {"threads": threads, "memory": rows}


def table(report: dict[str, Any]) -> str:
    lines = [f"{'peak MB':<12}{'training':>10}{'steps':>8}{'torch eager':>15}"]
    for row in report["memory"]:
        torch = row["torch_eager_mb"]
        lines.append(f"{row['profile']:<12}{row['training_mb']:>10.0f}{row['steps_mb']:>8.0f}"
                     f"{'not installed' if torch is None else format(torch, '.0f'):>15}")
    return "\n".join(lines)


def main() -> None:
    from seed.training import train   # after seed.own_hashes; the table does without it
    name, threads, *overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        train(load_profile(name, [*overrides, *OVERRIDES]), RunDir(Path(folder) / "run"),
              int(threads), lambda line: None)
    print(json.dumps({"peak_rss_mb": tree_mb()[1].value}))


if __name__ == "__main__":
    main()
