"""A training as one call: what the loop needs is built here."""
import time
from collections.abc import Callable
from typing import Any

from seed import system_health
from seed.config import Profile
from seed.curriculum.dataset import Dataset
from seed.practice import distill
from seed.practice.teacher import open_teacher
from seed.storage.run_dir import Log, RunDir
from seed.training import loop
from seed.training.learner import Learner
from seed.training.loop import Result as TrainResult
from seed.training.memory_estimate import check_fits
from seed.training.stop_signals import StopSignals
from seed.training.throttle import Throttle
from seed.wavecore.compiler import cpu
from seed.wavecore.tinygrad_seam import install


def train(profile: Profile, run_dir: RunDir, threads: int = 1, log: Log = print,
          signals: StopSignals | None = None,
          weights_fn: Callable[[], dict[str, Any]] | None = None,
          early_stop_fn: Callable[[int, float, int], bool] | None = None) -> TrainResult:
    """Trains a brain, or resumes. A fresh one starts from the weights of `weights_fn`, if given.

    `signals`: where somebody watches them already. Raises as loop.train does.
    """
    signals = signals or StopSignals().watch()
    with run_dir.locked():
        install(run_dir.kernel_cache(cpu()))
        Dataset(profile.curriculum, profile.identity, profile.train.seed)  # tasks are known
        log(check_fits(profile, threads, system_health.read(run_dir.path)))
        learner, soft = Learner(profile, threads), None
        if weights_fn and not run_dir.checkpoint.exists():
            learner.model.load_state_dict(weights_fn())
        if profile.distill.parent:
            throttle = Throttle(profile.governor, lambda: system_health.read(run_dir.path),
                                time.monotonic, signals.stop.wait)
            soft = distill.prepare(profile, run_dir, threads, log,
                                   lambda: not throttle.goes_on(signals.stop.is_set))
            if not soft:
                return TrainResult(0, False, None, retry=not signals.stop.is_set())
        return loop.train(profile, run_dir, learner, signals, soft=soft.batch if soft else None,
                          desk=open_teacher(profile, run_dir, log), enough=early_stop_fn)
