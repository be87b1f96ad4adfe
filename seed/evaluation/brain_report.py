"""All that is measured and recorded of a brain, for `seed eval` and the HTML report."""
from collections.abc import Collection
from typing import Any

from seed.errors import ConfigError
from seed.evaluation import reliability
from seed.evaluation.exact_match import Score, table
from seed.evaluation.trained_brain import TrainedBrain
from seed.regular_file import read_json
from seed.storage import RunDir, metrics_reader
from seed.storage.run_dir import Log

MAX_CONSISTENCY_QUESTIONS = 16   # per task
FREE_RUN_BYTES = 2000
MAX_ITEMS = 100_000              # per task and level
METRICS_KINDS = ("curriculum", "grow", "selfplay", "teacher")
SPLITS = ("holdout", "selfplay", "extrapolation")
LADDER_FIELDS = {"size": str, "fault": str, "peak_mb": float, "predicted_mb": float,
                 "tokens_s": float}


def evaluate_brain(run_dir: RunDir, threads: int = 1, n_items: int | None = None,
                   log: Log = print, tasks: Collection[str] = ()) -> dict[str, Any]:
    """Measures the newest brain of a run directory; returns plain data for JSON.

    `n_items` per task and level; by default the profile's holdout_items. `history` is rows of the
    run's metrics, `size_search` the sizes tried by `seed scale`. `tasks`: user tasks that may be
    used. Raises ConfigError if there is no brain, CheckpointError if it cannot be used.
    """
    if n_items is not None and not 1 <= n_items <= MAX_ITEMS:
        raise ConfigError(f"--items is {n_items}: use 1 to {MAX_ITEMS}")
    brain = TrainedBrain.load(run_dir, threads, log, tasks)
    dataset, t = brain.dataset, brain.profile.train.seq_len
    if not dataset.tasks:
        raise ConfigError("the brain knows user tasks alone: name one of them with --task")
    n = n_items or brain.profile.curriculum.holdout_items
    holdout, played = dataset.holdout(n), dataset.within_levels(brain.profile.selfplay.tasks)
    history = {"loss": metrics_reader.loss_curve(run_dir.metrics),
               **{kind: metrics_reader.read(run_dir.metrics, kind) for kind in METRICS_KINDS}}
    # Self-play trains longer items of its tasks: for them those are no extrapolation.
    splits = {"holdout": holdout, "selfplay": dataset.beyond(played, n),
              "extrapolation": dataset.extrapolation(n, played)}
    return {
        "profile": brain.profile.name, "step": brain.step,
        **{name: [s.to_dict() for s in brain.scores(items)] for name, items in splits.items()},
        "consistency": reliability.consistency(dataset, brain.greedy_answers, t,
                                               min(n, MAX_CONSISTENCY_QUESTIONS)),
        "calibration": reliability.calibration(holdout, brain.forward, t),
        "stability": reliability.stability(brain.decoder, FREE_RUN_BYTES),
        "history": history,
        "size_search": read_ladder(run_dir)}


def read_ladder(run_dir: RunDir) -> list[dict[str, Any]]:
    """The sizes that `seed scale` has tried, as it describes them; none if it has not."""
    try:
        rows = read_json(run_dir.ladder)
        valid = all(isinstance(row[key], kind) or key == "tokens_s" and row[key] is None
                    for row in rows for key, kind in LADDER_FIELDS.items())
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return rows if valid and isinstance(rows, list) else []


def text_summary(results: dict[str, Any]) -> str:
    """What `evaluate_brain` returns, for a terminal."""
    lines = [f"brain at step {results['step']}"]
    for name in SPLITS:
        if results[name]:
            scores = [Score(s["task"], s["level"], s["correct"], s["count"], s["chance"])
                      for s in results[name]]
            lines.append(f"\n{name}\n{table(scores)}")
    questions, same, right = (sum(task[key] for task in results["consistency"])
                              for key in ("questions", "same", "right"))
    calibration, stability = results["calibration"], results["stability"]
    lines.append(
        f"\nconsistency: the same answer after every history to {same} of {questions} questions, "
        f"the right one to {right}\n"
        f"calibration: expected error {100 * calibration['error']:.1f} %, holdout loss "
        f"{calibration['loss']:.4f} nats per byte\n"
        f"stability: {stability['steps']} bytes of free run, states "
        f"{'finite' if stability['finite'] else 'NOT FINITE'}, "
        f"{100 * stability['repetition']:.1f} % of 8-byte pieces repeated")
    return "\n".join(lines)
