"""How a command that has trained a brain ends: what it prints, and its exit code."""
import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seed.commands import options
from seed.errors import RETRY_LATER, StopReason

if TYPE_CHECKING:
    from seed.evaluation.exact_match import Score
    from seed.training.pipeline import TrainResult


def report(args: argparse.Namespace, result: "TrainResult") -> int:
    """Of a training that finished or stopped."""
    from seed.evaluation.exact_match import table
    if not result.finished:
        options.log(f"stopped at step {result.step}; run the same command to resume")
        return RETRY_LATER if result.reason is StopReason.OUT_OF_MEMORY else 0
    if args.json:
        print(json.dumps({"step": result.step, "scores": dicts(result.scores)}))
    else:
        print(f"finished at step {result.step}\n{table(result.scores, levels=False)}")
    return 0


def dicts(scores: "Sequence[Score]") -> list[dict]:
    return [score.to_dict() for score in scores]
