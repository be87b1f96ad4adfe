"""All that is measured and recorded of a brain, for `seed eval` and the HTML report."""
from collections.abc import Collection
from typing import Any

from seed.errors import ConfigError
from seed.evaluation import confidence, reliability, score_summary
from seed.evaluation.exact_match import table
from seed.evaluation.examples import Examples
from seed.evaluation.score_summary import Measured
from seed.evaluation.trained_brain import TrainedBrain
from seed.storage import RunDir
from seed.storage.run_dir import Log

MAX_CONSISTENCY_QUESTIONS = 16   # per task
FREE_RUN_BYTES = 2000
MAX_ITEMS = 100_000              # per task and level
SPLITS = ("holdout", "selfplay", "extrapolation")


def evaluate_brain(run_dir: RunDir, threads: int = 1, n_items: int | None = None,
                   log: Log = print, tasks: Collection[str] = ()) -> dict[str, Any]:
    """Measures the newest brain of a run directory; returns plain data for JSON.

    `n_items` per task and level; by default the profile's holdout_items. `tasks`: user tasks that
    may be used. Raises ConfigError if there is no brain, CheckpointError if it cannot be used.
    """
    if n_items is not None and not 1 <= n_items <= MAX_ITEMS:
        raise ConfigError(f"--items is {n_items}: use 1 to {MAX_ITEMS}")
    brain = TrainedBrain.load(run_dir, threads, log, tasks)
    dataset, t = brain.dataset, brain.profile.train.seq_len
    if not dataset.tasks:
        raise ConfigError("the brain knows user tasks alone: name one of them with --task")
    n = n_items or brain.profile.curriculum.holdout_items
    holdout, played = dataset.holdout(n), dataset.within_levels(brain.profile.selfplay.tasks)
    # Self-play trains longer items of its tasks: for them those are no extrapolation.
    splits = {"selfplay": dataset.beyond(played, n),
              "extrapolation": dataset.extrapolation(n, played)}
    examples = Examples(holdout)
    fitting = [item for item in holdout if len(item.prompt) + len(item.answer) <= t]
    measured = Measured(brain.scores(holdout, answer_fn=examples.add),
                        brain.scores(dataset.stated(n)))
    return {
        "profile": brain.profile.name, "step": brain.step,
        "holdout": [s.to_dict() for s in measured.levels],
        "uniform": [s.to_dict() for s in measured.uniform], "summary": measured.to_dict(),
        "examples": examples.to_rows(),
        **{name: [s.to_dict() for s in brain.scores(items)] for name, items in splits.items()},
        "consistency": reliability.consistency(dataset, brain.greedy_answers, t,
                                               min(n, MAX_CONSISTENCY_QUESTIONS)),
        "confidence": confidence.measured(*(
            confidence.judged(items, brain.rollouts_of) for items in (
                fitting, dataset.extrapolation(n)))),
        "loss": reliability.loss(fitting, brain.forward),
        "stability": reliability.stability(brain.decoder, FREE_RUN_BYTES)}


def text_summary(results: dict[str, Any]) -> str:
    """What `evaluate_brain` returns, for a terminal."""
    lines = [f"brain at step {results['step']}"]
    measured = Measured.from_dicts(results["holdout"], results.get("uniform", []))
    for name in SPLITS:
        if results[name]:
            shown = measured if name == "holdout" else Measured.from_dicts(results[name])
            lines.append(f"\n{name}\n{table(*shown)}")
    lines.append(f"\n{score_summary.table(measured)}")
    questions, same, right = (sum(task[key] for task in results["consistency"])
                              for key in ("questions", "same", "right"))
    stability = results["stability"]
    lines.append(f"\n{confidence.table(results['confidence'])}")
    lines.append(
        f"\nconsistency: the same answer after every history to {same} of {questions} questions, "
        f"the right one to {right}\n"
        f"calibration: expected error "
        f"{100 * results['confidence']['calibration']['error']:.1f} %, holdout loss "
        f"{results['loss']:.4f} nats per byte\n"
        f"stability: {stability['steps']} bytes of free run, states "
        f"{'finite' if stability['finite'] else 'NOT FINITE'}, "
        f"{100 * stability['repetition']:.1f} % of 8-byte pieces repeated")
    return "\n".join(lines)
