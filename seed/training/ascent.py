"""When a growing brain grows, and into what: decided from the loss curve, the limit and the time.

It grows when its loss has stopped falling while all grades are open, into the next rung within the
limit of its board, if the time that is left gives the larger brain enough to read. All of it
follows from files of the run directory, so an interrupted ascent goes on with the same decisions.
"""
from collections.abc import Callable, Sequence
from pathlib import Path

from seed.config import Profile
from seed.curriculum.school import LAST
from seed.training import metrics
from seed.training.probe import Rung
from seed.training.scaling import LADDER
from seed.wavecore.layout import count_params

WINDOW = 500            # steps whose mean loss is compared with that of the same number before
LEAST_FALL = 0.03       # share of the loss
LOOK_EVERY = 250        # steps
BYTES_A_PARAMETER = 60  # that a brain should still read: an hour's `seed` reads 90


class Plateau:
    """Whether the loss has stopped falling; to be asked after every step."""

    def __init__(self, path: Path):
        """`path`: the run's metrics. What is counted begins after the last growth, and after the
        last grade was opened."""
        exams = [row["step"] for row in metrics.read(path, "exam") if row["opened"] == LAST]
        begins = max([row["step"] for row in metrics.read(path, "grow")] + exams[:1], default=0)
        self.losses = [row["loss"] for row in metrics.read(path, "step") if row["step"] > begins]

    def __call__(self, step: int, loss: float, opened: int) -> bool:
        if opened < LAST:
            self.losses = []
            return False
        self.losses.append(loss)
        if step % LOOK_EVERY or len(self.losses) < 2 * WINDOW:
            return False
        before, now = sum(self.losses[-2 * WINDOW:-WINDOW]), sum(self.losses[-WINDOW:])
        return now > (1 - LEAST_FALL) * before


def rung_of(profile: Profile) -> Rung:
    return Rung(profile.model.d_model, profile.model.n_layers, profile.train.batch_size,
                profile.train.seq_len)


def next_size(profile: Profile, limit: Profile, left_s: float,
              step_s: Callable[[Profile], float | None],
              ladder: Sequence[Rung] = LADDER) -> Profile | None:
    """The profile in the next size up to the limit, or None if there is none, or not the time.

    `step_s` predicts the time of a step; None: not known, and no reason against it.
    """
    now, most = rung_of(profile), rung_of(limit)
    for rung in ladder:
        larger = Rung(*map(min, zip(rung, most)))
        if larger == now or any(a < b for a, b in zip(larger, now)):
            continue
        grown = larger.of(profile)
        seconds = step_s(grown)
        if seconds is None:
            return grown
        read = left_s / seconds * larger.batch_size * larger.seq_len
        return grown if read >= BYTES_A_PARAMETER * count_params(grown.model) else None
    return None
