"""The brain of before `seed grow`, which `seed grow --undo` brings back."""
import filecmp

from seed.errors import ConfigError
from seed.storage import atomic_file, checkpoint, metrics
from seed.storage.run_dir import Log, RunDir


def keep(run_dir: RunDir) -> None:
    """Of a brain that is going to grow; a call that was killed is repeated. Raises OSError."""
    atomic_file.copy(run_dir.checkpoint, run_dir.checkpoint_before_growth)


def undo_growth(run_dir: RunDir, log: Log = print) -> int:
    """Restores the brain of before the last growth, bit for bit; returns its step.

    Raises ConfigError if there is none or if the brain was trained since, CheckpointError if it is
    damaged.
    """
    with run_dir.locked() as run_dir:
        before = run_dir.checkpoint_before_growth
        newest = run_dir.recover(log)
        if not before.exists() or newest and filecmp.cmp(before, run_dir.checkpoint, shallow=False):
            raise ConfigError(f"{run_dir} has no brain of before a growth: nothing to undo")
        step = int(checkpoint.read(before).meta["step"])
        if newest and newest.meta["step"] != step:
            raise ConfigError(f"the brain in {run_dir} was trained since its growth, and would "
                              f"lose that: to restore the one before all the same, rename "
                              f"{before.name} to {run_dir.checkpoint.name}")
        if newest and "adapted" in newest.meta:   # which a growth drops
            raise ConfigError(f"the brain in {run_dir} was adapted since its growth: undo that "
                              f"first with seed adapt --undo")
        metrics.Metrics(run_dir.metrics, step, rewritten_kinds=["grow"], held=run_dir.held)
        atomic_file.move(before, run_dir.checkpoint)
        return step
