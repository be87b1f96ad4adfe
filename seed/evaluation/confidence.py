"""Whether a brain is surer of its right answers than of its wrong ones; whole decoded answers."""
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seed.curriculum.task import Item
from seed.errors import printable
from seed.task_names import short

if TYPE_CHECKING:
    from seed.wavecore.decode import Rollout
    RolloutsFn = Callable[[Sequence[bytes], int], list[Rollout]]   # prompts, maximal bytes

SURE = 0.8               # confidence; an answer above it should be right
MAX_ANSWER_BYTES = 128   # or the longest right one
N_BINS = 10
HEAD = ("answers", "right %", "AUROC", "mean if wrong", f"above {SURE:g} if wrong, %")


class Judged(NamedTuple):
    """One answer, as it was decoded."""
    task: str
    is_right: bool
    confidence: float   # of the whole answer, as of `seed.runtime.Answer`


def judged(items: Sequence[Item], rollouts_fn: "RolloutsFn") -> list[Judged]:
    """Greedy answers to distinct items; an empty prompt asks nothing."""
    distinct = [item for item in dict.fromkeys(items) if item.prompt]
    max_bytes = max([MAX_ANSWER_BYTES, *(len(item.answer) for item in distinct)]) + 1
    answers = rollouts_fn([item.prompt for item in distinct], max_bytes)
    return [Judged(item.task, answer.ended and answer.text == item.answer, answer.confidence)
            for item, answer in zip(distinct, answers, strict=True)]


def auroc(confidences: Sequence[float], are_right: Sequence[bool]) -> float | None:
    """How often a right answer has more confidence than a wrong one, ties at half: the area under
    the ROC curve (Hanley and McNeil 1982). None unless there are both."""
    right = np.array(are_right, bool)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return None
    _, places, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]   # from 1 on, of equals their mean
    above = ranks[right].sum() - n_right * (n_right + 1) / 2
    return float(above / (n_right * n_wrong))


def sureness(answers: Sequence[Judged]) -> dict[str, Any]:
    """The number of `answers` and of `right` ones; `auroc`; of the wrong ones the mean confidence
    and the fraction with more than SURE, None if none is wrong."""
    confidences = [answer.confidence for answer in answers]
    are_right = [answer.is_right for answer in answers]
    wrong = np.array([answer.confidence for answer in answers if not answer.is_right])
    return {"answers": len(answers), "right": sum(are_right),
            "auroc": auroc(confidences, are_right),
            "wrong_confidence": float(wrong.mean()) if wrong.size else None,
            "sure_when_wrong": float((wrong > SURE).mean()) if wrong.size else None}


def measured(holdout: Sequence[Judged], extrapolation: Sequence[Judged]) -> dict[str, Any]:
    """Confidence against accuracy of whole answers: `sureness` of each task, of both kinds of
    items, and of `all` together; `calibration` of all."""
    answers = [*holdout, *extrapolation]
    tasks = dict.fromkeys(answer.task for answer in answers)
    return {"tasks": [{"task": task, **sureness([answer for answer in answers
                                                 if answer.task == task])} for task in tasks],
            "holdout": sureness(holdout), "extrapolation": sureness(extrapolation),
            "all": sureness(answers), "calibration": calibration(answers)}


def calibration(answers: Sequence[Judged]) -> dict[str, Any]:
    """`count`, mean `confidence` and `accuracy` of bins of confidence, 0 where empty; `error`, the
    expected calibration error (Guo et al. 1706.04599, eq. 3)."""
    sure = np.array([answer.confidence for answer in answers])
    hit = np.array([answer.is_right for answer in answers], float)
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    count = np.bincount(bins, minlength=N_BINS)
    confidences, accuracies = (
        (np.bincount(bins, values, N_BINS) / np.maximum(1, count)).tolist()
        for values in (sure, hit))
    error = sum(n * abs(c - a) for n, c, a in zip(count.tolist(), confidences, accuracies))
    return {"count": count.tolist(), "confidence": confidences, "accuracy": accuracies,
            "error": error / max(1, len(hit))}


def rows(confidence: dict[str, Any]) -> list[tuple[str, ...]]:
    """What `measured` returns for a table: a name and the cells of HEAD."""
    parts = {**{short(row["task"]): row for row in confidence["tasks"]},
             **{name: confidence[name] for name in ("holdout", "extrapolation", "all")}}
    return [(name, f"{row['answers']}", _shown(row["right"] / max(1, row["answers"]), 1, 100),
             _shown(row["auroc"], 3), _shown(row["wrong_confidence"], 2),
             _shown(row["sure_when_wrong"], 1, 100)) for name, row in parts.items()]


def _shown(value: float | None, digits: int, scale: int = 1) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"


def table(confidence: dict[str, Any]) -> str:
    lines = [("confidence in", *HEAD), *rows(confidence)]
    widths = [len(head) + 2 for head in HEAD]
    return "\n".join(f"{printable(name):<14}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths)) for name, *cells in lines)
