"""A brain adapts to a body that has changed, from episodes alone that were recorded of that body.

    python -m seed.experiments.in_weights --body cartpole

The old brain acts in the changed body, drawing its actions, until so many ticks are recorded;
`adapt` learns from them. Reported are greedy mean returns of the brain before, of the adapted one,
of the adapted one in the old body, and of a brain that was trained on the changed body: 100 % of
the gap is closed when the adapted one is as good.
"""
import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seed.body import open_body
from seed.body.closed_loop import act
from seed.body.codec import Codec
from seed.body.episodes import EpisodeWriter, Recorder
from seed.body.player import Player
from seed.evaluation import TrainedBrain
from seed.experiments.short_run import mean_return, opener_with, profile_of, trained
from seed.storage import RunDir
from seed.training import adapt_to_body, train, undo_adaptation

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "cartpole": {"twice the gravity, motor reversed at 30 %":
                 {"gravity": 19.6, "force_n": 3.0, "sign": -1}},
    "pendulum": {"1.5 times the gravity": {"gravity": 15.0},
                 "motor reversed at 50 %": {"sign": -0.5}},
    "rover": {"left motors at 30 %": {"gains": [0.3, 0.3, 1.0, 1.0]}}}
RECORDED_SEED = 5


def record(brain: TrainedBrain, codec: Codec, open_fn: Callable[[], Any], folder: Path,
           ticks: int) -> None:
    """Of one body, one episode after the other."""
    recorder = Recorder(EpisodeWriter(folder, replace(codec, name="changed"), None, "experiment"),
                        1)
    player, n, seed = Player(brain.model, codec, 1), 0, RECORDED_SEED
    while n < ticks:
        episode, = act(player, open_fn, seed, 1, greedy=False, recorder=recorder) or []
        n, seed = n + episode.ticks, seed + 1
    recorder.writer.close()


def load(run_dir: RunDir) -> TrainedBrain:
    return TrainedBrain.load(run_dir, 1, lambda line: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--body", default="cartpole", choices=list(CHANGES))
    parser.add_argument("--minutes", type=float, default=0.5, help="of a training on one body")
    parser.add_argument("--adapt-minutes", type=float, default=2.0)
    parser.add_argument("--adapt-rounds", type=int, default=0, help="instead of minutes")
    parser.add_argument("--ticks", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="of the first training")
    args = parser.parse_args()
    seed = f"train.seed={args.seed}"
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder) / "run")
        train(profile_of(args.body, args.minutes, seed, *args.set), run_dir, 1, lambda line: None)
        print(f"{args.body + ' with':<44}{'before':>9}{'adapted':>9}{'trained':>9}"
              f"{'gap closed':>12}{'old body':>10}{'then':>9}", flush=True)
        for i, (change, attributes) in enumerate(CHANGES[args.body].items()):
            open_body.BODIES["changed"] = open_fn = opener_with(args.body, attributes)
            brain, data = load(run_dir), Path(folder) / f"data{i}"
            before, old = (mean_return(brain, fn, args.body)
                           for fn in (open_fn, open_body.BODIES[args.body]))
            record(brain, brain.bodies[args.body].codec, open_fn, data, args.ticks)
            adapt_to_body(run_dir, data=str(data), same_as=args.body, log=lambda line: None,
                          minutes=args.adapt_minutes, steps=args.adapt_rounds)
            brain = load(run_dir)
            adapted = mean_return(brain, open_fn, "changed")
            then = mean_return(brain, open_body.BODIES[args.body], args.body)
            undo_adaptation(run_dir)
            fresh = mean_return(trained("changed", args.minutes, seed), open_fn)
            closed = 100 * (adapted - before) / (fresh - before or math.nan)
            print(f"{change:<44}{before:>9.1f}{adapted:>9.1f}{fresh:>9.1f}{closed:>10.0f} %"
                  f"{old:>10.1f}{then:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
