"""Logs of trials that were never run, and a growth whose limit is known from one.

    python -m tests.support.trials RUN_DIR STEPS

grows by train_growing as `seed train --grow` does, but with windows of 50 steps instead of 500.
"""
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from seed.profile_file import load_profile
from seed.resize.size_search import LADDER
from seed.resize.trial import Size, Trial, profile_hash
from seed.resize.trial_watch import Outcome
from seed.storage import RunDir

TOY = load_profile("toy")
# At a learning rate of 0 the loss is level.
GROWING = ["curriculum.tasks={copy=1.0}", "curriculum.eval_every_steps=0", "train.lr=0",
           "train.warmup_steps=0", "train.decay_fraction=0.1", "train.save_every_minutes=0.01",
           "train.write_gb_per_day=1e6", "curriculum.holdout_items=4", "model.d_model=64",
           "train.batch_size=1", "train.seq_len=32"]


def stable_trial(size: Size = LADDER[0], **changes) -> Trial:
    """A trial with nothing unstable."""
    trial = Trial(size, profile_hash(TOY), 2, 60.0, 400.0, Outcome.FINISHED, "", 250.0, 40, 0.1,
                  0.05, 60.0, 65.0, "", 0.0, 5.0, 3.0, 0.8, 0)
    return replace(trial, **changes)


def write_trials(run_dir: Path, trials: list[Trial]) -> None:
    RunDir(run_dir).trial_log.write_text("".join(json.dumps(asdict(t)) + "\n" for t in trials))


def known_search(run_dir: Path) -> Path:
    """A run directory whose search is over: four and six layers are stable, eight are not."""
    run_dir.mkdir(exist_ok=True)
    digest = profile_hash(load_profile("toy", GROWING))
    write_trials(run_dir, [
        stable_trial(Size(64, layers, 1, 32), profile_hash=digest, threads=1,
                     memory_limit_mb=6144.0, skipped_steps=int(layers == 8))
        for layers in (4, 6, 8)])
    return run_dir


def train_growing_command(run_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "seed", "train", "--grow", "--run-dir", str(run_dir),
            "--threads=1", "--json", "--tokens-per-param=0.02", *options,
            *(f"--set={text}" for text in GROWING)]


def grow_quickly(run_dir: RunDir, steps: int, restart_fn=lambda: None, signals=None):
    """Grows with small windows, which it sets in this process."""
    from seed.resize import SearchOptions, growth_schedule, train_growing
    growth_schedule.WINDOW_STEPS, growth_schedule.CHECK_EVERY_STEPS = 50, 25
    growth_schedule.MIN_LOSS_FALL = 1.0   # so few rows vary by more
    profile = load_profile("toy", [*GROWING, f"train.steps={steps}"])
    options = SearchOptions(20.0, fixed=("d_model", "batch_size", "seq_len"))
    return train_growing(profile, run_dir, 1, options, 0.001, signals=signals,
                         restart_fn=restart_fn)


def main(run_dir: str, steps: str) -> None:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()

    def restart() -> None:
        signals.release()
        os.execv(sys.executable, [sys.executable, "-m", "tests.support.trials", run_dir, steps])
    sys.exit(not grow_quickly(RunDir(Path(run_dir)), int(steps), restart, signals).finished)


if __name__ == "__main__":
    main(*sys.argv[1:])
