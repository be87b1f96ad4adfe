"""What growth is worth: `python -m seed.experiments.growth --minutes 12`

With each seed two brains train for as long on the same items and are evaluated on the same
holdout: one of --profile from scratch, and one that begins in the shape of --small and grows into
--profile after a fraction of the run (--at). Trained brains stay under --out, so that the same
command resumes after an interruption.
"""
import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from seed.config import Profile
from seed.errors import StopReason
from seed.experiments.ablate import accuracy, budget, make_parser, run
from seed.profile_file import load_profile
from seed.storage import RunDir

SHAPE = ("d_model", "n_layers", "d_ff")


def scratch(run_dir: RunDir, args: argparse.Namespace, seed: int) -> None:
    run("train", run_dir, "--profile", args.profile, f"--seed={seed}", *budget(args),
        *(f"--set={text}" for text in args.overrides))


def grown(run_dir: RunDir, args: argparse.Namespace, seed: int) -> None:
    """The learning rate falls at the same time as that of `scratch`."""
    large = load_profile(args.profile, [
        *args.overrides, f"train.seed={seed}", f"train.steps={args.steps or 0}",
        f"train.minutes={args.minutes or 0.0}"])
    newest = run_dir.load_newest(lambda text: None)
    if not newest or newest.meta["profile"]["model"] != asdict(large.model):
        train_small(run_dir, args, large, newest.meta["elapsed_s"] if newest else 0.0)
        run("grow", run_dir, f"--to={args.profile}")
    run("train", run_dir, *budget(args))


def train_small(run_dir: RunDir, args: argparse.Namespace, large: Profile,
                elapsed_s: float) -> None:
    """Trains in the shape of args.small up to the fraction args.at of the run."""
    from seed.training import train
    from seed.training.stop_signals import StopSignals
    shape = load_profile(args.small).model
    model = replace(large.model, **{key: getattr(shape, key) for key in SHAPE})
    started = time.monotonic() - elapsed_s

    def is_over(step: int, loss: float, opened: int) -> bool:
        return (step >= args.at * args.steps if args.steps else
                time.monotonic() - started >= 60 * args.at * args.minutes)
    result = train(replace(large, model=model), run_dir, args.threads,
                   lambda line: print(line, file=sys.stderr),
                   StopSignals(), early_stop_fn=is_over)   # not watched: Ctrl-C ends the process
    if result.reason is not StopReason.STOPPED_EARLY:
        sys.exit(f"the brain in {run_dir} did not grow: training {result.reason.value}; if its "
                 f"learning rate fell before, use a smaller --at")


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("growth", __doc__.splitlines()[0], profile="seed")
    parser.add_argument("--small", default="toy", help="profile of the shape before growth")
    parser.add_argument("--at", type=float, default=0.3, help="fraction of the run before growth")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(argv)
    if not 0 < args.at < 1:
        parser.error(f"--at is {args.at}: use more than 0 and less than 1")
    print(f"{'seed':<6}{'brain':<9}{'steps':>7}{'holdout loss':>14}{'holdout %':>11}")
    for seed in args.seeds:
        for kind in (grown, scratch):
            run_dir = RunDir(args.out / f"{kind.__name__}-{seed}")
            scores = run_dir.path / "eval.json"
            if not scores.exists():
                kind(run_dir, args, seed)
                report = run("eval", run_dir, f"--threads={args.threads}")
                scores.write_text(json.dumps(report), encoding="utf-8")
            report = json.loads(scores.read_text(encoding="utf-8"))
            print(f"{seed:<6}{kind.__name__:<9}{report['step']:>7,}"
                  f"{report['loss']:>14.4f}"
                  f"{100 * accuracy(report['holdout']):>11.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
