"""A cart-pole that changes while a brain lives on it, at its own pace, as with `seed live`.

    python -m seed.experiments.changing_pole [--randomize] [--minutes 5] [--max-minutes 10]

A brain learns the cart-pole as it is made, or with --randomize many random ones, and lives on one.
After so many minutes its action is reversed, then its pole is twice as long, then its motor has
half the force: what has changed stays, and the next change comes when a brain is confirmed, or
after so many minutes. Reported are the returns before, and the first and last ones after a change;
how long after it a brain was promoted and confirmed; and what the brain that acted at the change
and the one that acts at the end get in 100 unseen episodes: first and second ones, whose states
are empty and remember the first.
"""
import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from seed.config import Profile
from seed.evaluation import TrainedBrain
from seed.experiments.short_run import mean_returns, opener_with, profile_of
from seed.live.brains import CONFIRMED, PROMOTED, Decision
from seed.live.supervisor import Live, LiveOptions
from seed.storage import RunDir, atomic_file
from seed.training import train

CHANGES: tuple[tuple[str, dict[str, float]], ...] = (
    ("as made", {}), ("action reversed", {"sign": -1}),
    ("twice the length", {"half_length_m": 1.0}), ("half the force", {"force_n": 5.0}))
POLL_S, N_SHOWN = 0.1, 5
ROBOT = '''
import json, os, time
from pathlib import Path
from seed.body.cart_pole import CartPole

FOLDER = Path(__file__).parent

class Pole(CartPole):
    """Is changed by a file, and writes when each episode ends, and with which return."""
    changed_ns = 0
    def step(self, action):
        path = FOLDER / "changes.json"
        if (now_ns := os.stat(path).st_mtime_ns) != self.changed_ns:
            self.changed_ns = now_ns
            vars(self).update(json.loads(path.read_text()))
        result = super().step(action)
        if result[2] or result[3]:
            with open(FOLDER / "returns", "a") as file:
                file.write(f"{time.monotonic()} {self._ticks}\\n")
        return result
'''


class Phase(NamedTuple):
    """Seconds are since the change; None if it did not come."""
    change: str
    returns: list[float]
    promoted_s: float | None
    confirmed_s: float | None

    def describe(self, before: list[float], after: list[float]) -> str:
        first, last = (" ".join(f"{value:.0f}" for value in values)
                       for values in (self.returns[:N_SHOWN], self.returns[-N_SHOWN:]))
        promoted, confirmed = ("never" if seconds is None else f"{seconds:.0f} s"
                               for seconds in (self.promoted_s, self.confirmed_s))
        return (f"{self.change}: {len(self.returns)} episodes, first {first}, last {last}; "
                f"promoted {promoted}, confirmed {confirmed}; unseen, first and second: before "
                f"{before[0]:.1f} {before[1]:.1f}, after {after[0]:.1f} {after[1]:.1f}")


class Experiment:
    """One life in the body of `folder`, which gets its class."""

    def __init__(self, folder: Path, run_dir: RunDir, profile: Profile):
        self._folder, self._run_dir = folder, run_dir
        (folder / "robot.py").write_text(ROBOT)
        self._attributes: dict[str, float] = {}
        self._began_s = time.monotonic()
        self.live = Live(LiveOptions(run_dir, f"{folder}/robot.py:Pole", profile), self._log)

    def _log(self, line: str) -> None:
        print(f"{time.monotonic() - self._began_s:8.1f} s  {line}", flush=True)

    def start(self) -> None:
        self._change({})
        self.live.start()
        self._began_s = time.monotonic()

    def _change(self, attributes: dict[str, float]) -> None:
        self._attributes |= attributes
        atomic_file.write(self._folder / "changes.json", json.dumps(self._attributes).encode())

    def phase(self, change: str, attributes: dict[str, float], minutes: float) -> None:
        """Ends when a brain has been confirmed, unless nothing changes."""
        acting, seen = self._brain(), len(self.live.brains.lineage.rows)
        self._change(attributes)
        self._log(f"the pole: {change}")
        began_s, at_s = time.monotonic(), dict[str, float]()
        while time.monotonic() < began_s + 60 * minutes:
            self.live.poll()
            rows: list[Decision] = self.live.brains.lineage.rows[seen:]
            for decision in {row.decision for row in rows} - set(at_s):
                at_s[decision] = time.monotonic() - began_s
            if attributes and CONFIRMED in at_s:
                break
            time.sleep(POLL_S)
        result = Phase(change, self._returns_since(began_s), at_s.get(PROMOTED),
                       at_s.get(CONFIRMED))
        make_fn = opener_with("cartpole", self._attributes)
        before, after = (mean_returns(TrainedBrain.load(brain, log=self._log), make_fn, 2)
                         for brain in (acting, self._brain()))
        self._log(result.describe(before, after))

    def _brain(self) -> RunDir:
        promoted = self.live.brains.promoted
        return self.live.brains.run_dir(promoted.brain) if promoted else self._run_dir

    def _returns_since(self, began_s: float) -> list[float]:
        path = self._folder / "returns"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [float(total) for at_s, total in rows if float(at_s) > began_s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--randomize", action="store_true", help="the training's bodies")
    parser.add_argument("--rounds", type=int, default=150, help="of the training")
    parser.add_argument("--minutes", type=float, default=5.0, help="before the first change")
    parser.add_argument("--max-minutes", type=float, default=10.0, help="from change to change")
    parser.add_argument("--set", action="append", default=[], help="of training and life")
    args = parser.parse_args()
    rows = ["body.randomize=true", "body.rows=64"] if args.randomize else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_dir, profile = RunDir(folder / "run"), profile_of(
            "cartpole", 0.0, f"train.steps={args.rounds}", *rows, *args.set)
        train(profile, run_dir, 1, lambda line: None)
        experiment = Experiment(folder, run_dir, profile)
        experiment.start()
        try:
            for change, attributes in CHANGES:
                experiment.phase(change, attributes,
                                 args.max_minutes if attributes else args.minutes)
        finally:
            words = experiment.live.stop()
            print(f"{words['ticks']:.0f} ticks, {words['missed']:.0f} missed", flush=True)


if __name__ == "__main__":
    main()
