"""When a growing brain grows, and into what: decided from the loss curve, the limit and the time.

It grows when its loss has stopped falling while all grades are open, into the next rung within the
limit of its board, if the time that is left gives the larger brain enough to read. All of it
follows from files of the run directory, so an interrupted ascent goes on with the same decisions.
"""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seed.config import Profile
from seed.curriculum.school import LAST
from seed.training import metrics
from seed.training.probe import Rung
from seed.training.scaling import LADDER
from seed.wavecore.layout import count_params

WINDOW = 500            # steps whose mean loss is compared with that of the same number before
LEAST_FALL = 0.03       # share of the loss
LOOK_EVERY = 250        # steps


class Plateau:
    """Whether the loss has stopped falling; to be asked after every step."""

    def __init__(self, path: Path, parameters: int):
        """`path`: the run's metrics. What is counted begins after the last growth to so many
        parameters, and after the last grade was opened."""
        exams = [row["step"] for row in metrics.read(path, "exam") if row["opened"] == LAST]
        grown = [row["step"] for row in metrics.read(path, "grow")
                 if row["parameters"][1] == parameters]   # else it was killed before it had grown
        begins = max(exams[:1] + grown[-1:], default=0)
        self.losses = [row["loss"] for row in metrics.read(path, "step") if row["step"] > begins]

    def __call__(self, step: int, loss: float, opened: int) -> bool:
        if opened < LAST:
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


def rung_of(profile: Profile) -> Rung:
    return Rung(profile.model.d_model, profile.model.n_layers, profile.train.batch_size,
                profile.train.seq_len)


def next_size(profile: Profile, limit: Profile, steps_left: Callable[[Profile], float],
              bytes_per_parameter: float, ladder: Sequence[Rung] = LADDER) -> Profile | None:
    """The profile in the next size up to the limit, or None if there is none, or not the time.

    `steps_left`: how many steps of a size the rest of the run has. In them it has to read so many
    bytes for each of its parameters.
    """
    now, most = rung_of(profile), rung_of(limit)
    for rung in ladder:
        larger = Rung(*map(min, zip(rung, most)))
        if larger == now or any(a < b for a, b in zip(larger, now)):
            continue
        grown = larger.of(profile)
        read = steps_left(grown) * larger.batch_size * larger.seq_len
        return grown if read >= bytes_per_parameter * count_params(grown.model) else None
    return None
