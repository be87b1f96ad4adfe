"""The largest stable brain of this board: a ladder of sizes, climbed by trials.

No size is believed to hold or to fail without having been tried, except that a jump is shortened
where it would lead to what the cost model thinks hopeless. Probes are remembered in scale.jsonl,
a line each; whether one is stable follows from the line and from the limits asked for, so that
other limits use the same trials again.
"""
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from seed.config import Profile
from seed.resize.cost_model import Cost, tokens
from seed.training.memory_estimate import estimate_mb
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import RunDir
from seed.resize.trial import FEW, LEAST, MARGIN_C, NEEDS, STOPPED, Trial, Size, base_of
from seed.wavecore.layout import count_params

MARGIN = 0.05          # of the memory ceiling and of the speed floor that is kept free
MAX_JITTER = 0.75      # if two of five parts of a trial see no step it is 0.82, if one 0.5
MAX_NORM_GROWTH = 10.0
MAX_SWAP_MB = 1.0
FALLS = 2              # a board that goes down so often while a size is tried is its answer

# Each has no less of anything than the one before, so that one grows into the next.
LADDER = tuple(Size(*numbers) for numbers in (
    LEAST, (64, 6, 16, 128), (96, 6, 16, 128), (128, 6, 16, 128), (128, 8, 16, 128),
    (128, 8, 24, 128), (160, 8, 24, 128), (192, 8, 24, 128), (192, 10, 24, 128),
    (192, 10, 32, 128), (192, 12, 32, 160), (256, 12, 32, 160), (256, 12, 32, 192),
    (256, 12, 32, 256), (320, 12, 32, 256), (384, 12, 32, 256), (384, 16, 32, 256),
    (512, 16, 32, 256), (512, 16, 32, 320), (512, 16, 32, 384), (640, 16, 32, 384),
    (640, 16, 32, 512), (768, 16, 32, 512), (768, 20, 32, 512), (1024, 20, 32, 512),
    (1024, 24, 32, 512)))


def ladder_of(profile: Profile, ladder: Sequence[Size] = LADDER) -> list[Size]:
    """The ladder for brains of this profile: with rows no shorter and no fewer than its own, of as
    many bytes a step at the least, and with widths that its heads divide."""
    found, rows = [], profile.train.batch_size
    for size in ladder:
        seq_len = max(size.seq_len, profile.train.seq_len)
        rows = max(rows, size.batch_size * size.seq_len // seq_len)   # never fewer than before
        if size.d_model % profile.model.head_dim == 0:
            found.append(size._replace(batch_size=rows, seq_len=seq_len))
    return list(dict.fromkeys(found))


class Limits(NamedTuple):
    memory_mb: float
    tokens_s: float          # the least that is wanted
    slow_c: float            # from where the governor slows a run
    parameter_s: float = 0.0  # tokens a second for each parameter, the least that is wanted


class SizeFacts(NamedTuple):
    """What is known of a size from its shapes."""
    tokens: int              # of a step
    parameters: int
    estimate_mb: float       # over the ceiling, `seed train` refuses it


def least_tokens_s(limits: Limits, size: SizeFacts) -> float:
    return max(limits.tokens_s, limits.parameter_s * size.parameters)


def faults(trial: Trial, limits: Limits, size: SizeFacts) -> str:
    """Why a size is not stable, or nothing. What is not known is no fault."""
    found = [trial.ended] if trial.ended else []
    room, least = (1 - MARGIN) * limits.memory_mb, (1 + MARGIN) * least_tokens_s(limits, size)
    if trial.peak_mb > room and not trial.ended:
        found.append(f"{trial.peak_mb:.0f} MB leave less than {100 * MARGIN:.0f} % of "
                     f"{limits.memory_mb:.0f}")
    elif size.estimate_mb > limits.memory_mb and not trial.ended:
        found.append(f"a run of it is refused: {size.estimate_mb:.0f} MB are expected")
    if trial.steps < FEW and not trial.ended:
        found.append(f"only {trial.steps} steps, which tell no trend")
    if trial.step_s and size.tokens / trial.step_s < least:
        found.append(f"{size.tokens / trial.step_s:,.0f} tokens/s, {least:,.0f} are wanted")
    if trial.jitter is not None and trial.jitter > MAX_JITTER:
        found.append(f"its speed varies by {100 * trial.jitter:.0f} %")
    if trial.settles_c is not None and trial.settles_c >= limits.slow_c - MARGIN_C:
        found.append(f"it would settle at {trial.settles_c:.0f} C")
    if trial.throttled:
        found.append(trial.throttled)
    if trial.swap_mb > MAX_SWAP_MB:
        found.append(f"swap grew by {trial.swap_mb:.0f} MB")
    if trial.skipped:
        found.append(f"{trial.skipped} steps were not finite")
    if trial.losses and not trial.losses[1] < trial.losses[0]:
        found.append(f"loss went from {trial.losses[0]:.3f} to {trial.losses[1]:.3f}")
    if trial.norm_growth is not None and trial.norm_growth > MAX_NORM_GROWTH:
        found.append(f"gradients grew {trial.norm_growth:.0f} times")
    return "; ".join(found)


def next_size_to_try(stable: Mapping[int, bool], count: int,
                     hopeless: Callable[[int], bool]) -> int | None:
    """Which of `count` sizes to try, or None if the limit is known.

    Upwards in jumps that double, then by halves between the highest stable size below the lowest
    that failed, and that one. A jump over more than one size stops short of what is hopeless.
    """
    failed = min((i for i, good in stable.items() if not good), default=count)
    low = max((i for i, good in stable.items() if good and i < failed), default=-1)
    if low + 1 == failed:
        return None
    to = min(count - 1, low + max(1, low + 1)) if failed == count else (low + failed) // 2
    while to > low + 1 and hopeless(to):
        to = (low + to) // 2
    return max(to, low + 1)


class Attempt(NamedTuple):
    """A size that is being tried, in which boot of the board."""
    size: Size
    boot: str


class Search:
    """The trials of one profile and number of threads, and what follows from them."""

    def __init__(self, profile: Profile, threads: int, limits: Limits, run_dir: RunDir,
                 seconds: float, ladder: Sequence[Size] = LADDER):
        """`seconds`: of training that a trial is given; shorter ones do not count."""
        self.profile, self.threads, self.limits, self.ladder = profile, threads, limits, ladder
        self.seconds = seconds
        self.journal, self.base = JsonlLog(run_dir.trial_log, _probe), base_of(profile)
        self.attempts = JsonlLog(run_dir.attempt_log, _attempt)
        self.profiles = [size.of(profile) for size in ladder]
        self.sizes = [SizeFacts(tokens(size), count_params(size.model),
                                sum(estimate_mb(size, threads).values())) for size in self.profiles]

    @property
    def trials(self) -> dict[int, Trial]:
        """The last trial of every size. One that was ended counts if it would be again: not if it
        had less memory than it would have now."""
        return {self.ladder.index(trial.size): trial for trial in self.journal.rows
                if (trial.base, trial.threads) == (self.base, self.threads)
                and trial.size in self.ladder and trial.seconds >= self.seconds
                and not (trial.ended and trial.ceiling_mb < self.limits.memory_mb)}

    def verdicts(self) -> dict[int, str]:
        return {i: faults(trial, self.limits, self.sizes[i]) for i, trial in self.trials.items()}

    def cost(self, without: int | None = None) -> Cost:
        """From all trials, or from all but one size's: what would have been predicted for it."""
        return Cost(self.profile, self.threads,
                    [trial for i, trial in self.trials.items() if i != without])

    def hopeless(self, i: int) -> bool:
        """Whether the model thinks that a size breaks a limit."""
        cost, size = self.cost(), self.sizes[i]
        step_s = cost.step_s(self.profiles[i])
        return cost.memory_mb(self.profiles[i]) > self.limits.memory_mb or (
            step_s is not None and size.tokens / step_s < least_tokens_s(self.limits, size))

    def next_size_to_try(self) -> int | None:
        """Which size is to be tried, or None if the limit is known."""
        stable = {i: not fault for i, fault in self.verdicts().items()}
        return next_size_to_try(stable, len(self.ladder), self.hopeless)

    def begin(self, i: int, boot: str) -> Trial | None:
        """Notes on disk that a size is about to be tried, or gives what is known without trying:
        that the board went down with it, in two other boots. One may be a pulled plug."""
        size = self.ladder[i]
        falls = {attempt.boot for attempt in self.attempts.rows if attempt.size == size} - {boot}
        if len(falls) >= FALLS:
            return Trial(size, self.base, self.threads, self.seconds, self.limits.memory_mb,
                         f"the board went down {len(falls)} times", 0.0, 0, None, None, None, None,
                         "", 0.0, None, None, 0)
        now = Attempt(size, boot)
        if boot and now not in self.attempts.rows:
            self.attempts.append([now], [now._asdict()])
        return None

    def remember(self, found: Trial) -> bool:
        """Whether a trial is on disk. What depends on the rest of the board is for this search
        alone: too little free memory, by its own word."""
        of_now = found.ended.startswith((NEEDS, STOPPED))
        kept = not of_now and self.journal.append([found], [asdict(found)])
        if not kept:
            self.journal.rows.append(found)
        self.attempts.clear()
        return kept or of_now

    @property
    def chosen(self) -> int | None:
        """The highest stable size below the lowest that failed."""
        verdicts = self.verdicts()
        failed = min((i for i, fault in verdicts.items() if fault), default=len(self.ladder))
        return max((i for i, fault in verdicts.items() if not fault and i < failed), default=None)


ROW = {"size": str, "fault": str, "peak_mb": float, "predicted_mb": float, "tokens_s": float}


def read_ladder(run_dir: RunDir) -> list[dict[str, Any]]:
    """The sizes that were tried, as `seed scale` has described them; none if it has not."""
    try:
        rows = json.loads(run_dir.ladder.read_text(encoding="utf-8"))
        good = all(isinstance(row[key], kind) or key == "tokens_s" and row[key] is None
                   for row in rows for key, kind in ROW.items())
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return rows if good and isinstance(rows, list) else []


def _attempt(row: dict[str, Any]) -> Attempt:
    """Of a line of the file. Raises TypeError or KeyError for anything else."""
    return Attempt(Size(*row["size"]), row["boot"])


def _probe(row: dict[str, Any]) -> Trial:
    """Of a line of the file. Raises ValueError, TypeError or KeyError for anything else."""
    found = Trial(**{**row, "size": Size(*row["size"]),
                     "losses": tuple(row["losses"]) if row["losses"] else None})
    numbers = [*found.size, found.threads, found.seconds, found.ceiling_mb, found.peak_mb,
               found.steps, found.swap_mb, found.skipped, *(found.losses or ())]
    known = [value for value in (found.step_s, found.jitter, found.hottest_c, found.settles_c,
                                 found.norm_growth) if value is not None]
    texts = (found.base, found.ended, found.throttled)
    if not all(type(value) in (int, float) for value in numbers + known) or not all(
            isinstance(text, str) for text in texts) or len(found.losses or (0, 0)) != 2:
        raise ValueError("not a trial")
    return found
