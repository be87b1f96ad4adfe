"""A brain adapts to a body that has changed, from episodes alone that were recorded of that body.

    python -m seed.experiments.in_weights --body cartpole

The old brain acts in the changed body, drawing its actions, until so many ticks are recorded;
`adapt` learns from them. Reported are greedy mean returns of the brain before, of the adapted one,
and of one that was trained on the changed body.
"""
import argparse
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
from seed.training import train
from seed.training.adapt_body import adapt_to_body

CHANGES: dict[str, dict[str, Any]] = {
    "cartpole": {"gravity": 19.6, "force_n": 5.0}, "pendulum": {"gravity": 15.0},
    "rover": {"gains": [0.0, 1.0]}}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--body", default="cartpole", choices=list(CHANGES))
    parser.add_argument("--minutes", type=float, default=0.5, help="of the first training")
    parser.add_argument("--adapt-minutes", type=float, default=2.0)
    parser.add_argument("--ticks", type=int, default=30_000)
    args = parser.parse_args()
    open_body.BODIES["changed"] = open_fn = opener_with(args.body, CHANGES[args.body])
    fresh = mean_return(trained("changed", args.minutes), open_fn)
    with tempfile.TemporaryDirectory() as folder:
        run_dir, data = RunDir(Path(folder) / "run"), Path(folder) / "data"
        train(profile_of(args.body, args.minutes), run_dir, 1, lambda line: None)
        bodies = {"changed": open_fn, args.body: open_body.BODIES[args.body]}

        def returns() -> str:
            brain = TrainedBrain.load(run_dir, 1, lambda line: None)
            return "".join(f"{mean_return(brain, fn):>12.1f}" for fn in bodies.values())
        print(f"{'':<16}{'changed':>12}{args.body:>12}")
        print(f"{'before':<16}{returns()}", flush=True)
        brain = TrainedBrain.load(run_dir, 1, lambda line: None)
        record(brain, brain.bodies[args.body].codec, open_fn, data, args.ticks)
        adapt_to_body(run_dir, data=str(data), same_as=args.body, log=lambda line: None,
                      minutes=args.adapt_minutes)
        print(f"{'adapted':<16}{returns()}\n{'trained on it':<16}{fresh:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
