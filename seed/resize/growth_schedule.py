"""When a growing brain grows, and into what: decided from the loss curve, the limit and the time.

It grows when its loss has stopped falling while all its grades are open, into the next size within
the limit of its board, if the time that is left gives the larger brain enough to read. All of it
follows from files of the run directory, so an interrupted growth goes on with the same decisions,
unless other programs hold the memory that the larger brain needs.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.config import Profile
from seed.storage import metrics
from seed.resize.cost_model import tokens
from seed.resize.trial import Size
from seed.resize.size_search import ladder_of
from seed.wavecore.layout import count_params

WINDOW = 500            # steps whose mean loss is compared with that of the same number before
LEAST_FALL = 0.03       # share of the loss
LOOK_EVERY = 250        # steps


class Plateau:
    """Whether the loss has stopped falling; to be asked after every step."""

    def __init__(self, path: Path, size: Size, step: int, highest: int):
        """`path`: the metrics of a run that is at `step`, is of that size, and opens grades up to
        `highest`. Counted are the losses since it is, and since that was unlocked."""
        def rows(kind: str) -> list[dict[str, Any]]:
            return [row for row in metrics.read(path, kind) if row["step"] <= step]
        unlocked = [row["step"] for row in rows("curriculum") if row["unlocked"] >= highest]
        grown = [row["step"] for row in rows("grow")
                 if row.get("size") == [*size]]   # else it was killed before it had grown
        begins = max(unlocked[:1] + grown[-1:], default=0)
        self.highest = highest
        self.losses = [row["loss"] for row in rows("step") if row["step"] > begins]
        if rows("curriculum") and not unlocked:
            self.losses = []

    def __call__(self, step: int, loss: float, unlocked: int) -> bool:
        if unlocked < self.highest:
            self.losses = []
            return False
        self.losses.append(loss)
        return self.is_level(step)

    def is_level(self, step: int) -> bool:
        """Whether what is counted up to this step does not fall."""
        if step % LOOK_EVERY or len(self.losses) < 2 * WINDOW:
            return False
        before, now = sum(self.losses[-2 * WINDOW:-WINDOW]), sum(self.losses[-WINDOW:])
        return now > (1 - LEAST_FALL) * before


def may_grow(meta: dict[str, Any]) -> bool:
    """Whether the rate of a checkpoint's run does not fall yet."""
    start = meta["plan"]["decay_start"]
    return start is None or meta["step"] < start


def size_of(profile: Profile) -> Size:
    return Size(profile.model.d_model, profile.model.n_layers, profile.train.batch_size,
                profile.train.seq_len)


def next_size(profile: Profile, limit: Profile, steps_left: Callable[[Profile], float],
              bytes_per_parameter: float) -> Profile | None:
    """The profile in the next size up to the limit, or None if there is none, or not the time.

    `steps_left`: how many steps of a size the rest of the run has. In them it has to read so many
    bytes for each of its parameters.
    """
    now, most = size_of(profile), size_of(limit)
    for size in ladder_of(profile):
        larger = Size(*(min(max(a, own), end) for a, own, end in zip(size, now, most)))
        if larger == now or any(a < b for a, b in zip(larger, now)):
            continue   # in no more than the limit, and it may be beyond that
        grown = larger.of(profile)
        read = steps_left(grown) * tokens(grown)
        return grown if read >= bytes_per_parameter * count_params(grown.model) else None
    return None
