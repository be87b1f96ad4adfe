"""When a growing brain grows, and into what: decided from its losses, the limit and the time left.

It grows when its loss is level while all its grades are unlocked, into the next size within the
limit of its board, if the time left suffices to train the larger brain on enough tokens. All this
follows from files of the run directory, so an interrupted growth resumes with the same decisions,
unless other programs hold the memory that the larger brain needs.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.config import Profile
from seed.resize.cost_model import tokens_per_step
from seed.resize.size_search import ladder_for
from seed.resize.trial import Size
from seed.storage import metrics_reader
from seed.wavecore.layout import count_params

WINDOW_STEPS = 500       # whose mean loss is compared with that of the same number before
MIN_LOSS_FALL = 0.03     # fraction of the loss; less is level
CHECK_EVERY_STEPS = 250


class Plateau:
    """Whether the loss of a run has stopped falling."""

    def __init__(self, path: Path, size: Size, step: int, highest_grade: int):
        """`path`: the metrics of a run of that size at `step`. Losses count from its last growth,
        and only since `highest_grade` was unlocked."""
        def rows(kind: str) -> list[dict[str, Any]]:
            return [row for row in metrics_reader.read(path, kind) if row["step"] <= step]
        evaluations = rows("curriculum")
        unlocked = [row["step"] for row in evaluations if row.get("unlocked", 0) >= highest_grade]
        grown = [row["step"] for row in rows("grow")
                 if row.get("size") == [*size]]   # else it was killed before it had grown
        start = max(unlocked[:1] + grown[-1:], default=0)
        self.highest_grade = highest_grade
        self.losses = [row["loss"] for row in metrics_reader.rows(path, "step")
                       if start < row["step"] <= step]
        if evaluations and not unlocked:
            self.losses = []

    def update(self, step: int, loss: float, unlocked_grade: int) -> bool:
        """Adds a step. Whether the loss is level now."""
        if unlocked_grade < self.highest_grade:
            self.losses = []
            return False
        self.losses.append(loss)
        return self.is_level(step)

    def is_level(self, step: int) -> bool:
        if step % CHECK_EVERY_STEPS or len(self.losses) < 2 * WINDOW_STEPS:
            return False
        before = sum(self.losses[-2 * WINDOW_STEPS:-WINDOW_STEPS])
        return sum(self.losses[-WINDOW_STEPS:]) > (1 - MIN_LOSS_FALL) * before


def may_grow(meta: dict[str, Any]) -> bool:
    """Whether the learning rate of a checkpoint's run does not decay yet."""
    decay_start = meta["plan"]["decay_start"]
    return decay_start is None or meta["step"] < decay_start


def exceeds(profile: Profile, limit: Profile) -> bool:
    """Whether any field of its Size is larger."""
    return any(a > b for a, b in zip(Size.of(profile), Size.of(limit)))


def next_profile(profile: Profile, limit: Profile, steps_left_fn: Callable[[Profile], float],
                 tokens_per_param: float) -> Profile | None:
    """The profile in the next size up to the limit; None if there is none or too little time.

    `steps_left_fn`: how many steps the rest of the run has at a size. They have to train on
    `tokens_per_param` tokens for each parameter.
    """
    size, end = Size.of(profile), Size.of(limit)
    for candidate in ladder_for(profile):
        larger = Size(*(min(max(a, b), c) for a, b, c in zip(candidate, size, end)))
        if larger == size or any(a < b for a, b in zip(larger, size)):
            continue   # within the limit it is no larger; or the brain is beyond the limit already
        grown = larger.apply_to(profile)
        tokens = steps_left_fn(grown) * tokens_per_step(grown)
        return grown if tokens >= tokens_per_param * count_params(grown.model) else None
    return None
