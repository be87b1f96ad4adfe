"""The search for the largest stable brain of this board: trials on a ladder of sizes.

Only a trial decides whether a size is stable; the cost model merely shortens jumps. Trials are kept
in scale.jsonl, and a search with other limits judges them again.
"""
import json
import math
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from seed import system_health
from seed.config import Profile
from seed.errors import ConfigError, NotEnoughMemory
from seed.governor import ceiling_mb
from seed.profile_file import to_toml
from seed.resize.cost_model import Cost, checkpoint_bytes, tokens_per_step, written_gb_per_day
from seed.resize.trial import (HEAT_MARGIN_C, MIN_SIZE, Size, Trial, cool_down, profile_hash,
                               run_trial, wait_for_robot)
from seed.resize.trial_watch import MIN_TREND_STEPS, Outcome
from seed.storage import atomic_file
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import Log, RunDir
from seed.training.memory_estimate import estimate_mb
from seed.wavecore.layout import count_params

MARGIN = 0.05              # of memory limit and speed limit, to be kept free
MAX_JITTER = 0.75          # std / mean of window speeds; one empty window of five: 0.5, two: 0.82
MAX_NORM_GROWTH = 10.0
MAX_SWAP_MB = 1.0
MAX_BOARD_FAILURES = 2     # crashes or reboots of the board during trials of one size

# No size has less of anything than the one before, so that one grows into the next.
LADDER = (MIN_SIZE, *(Size(*numbers) for numbers in (
    (64, 6, 16, 128), (96, 6, 16, 128), (128, 6, 16, 128), (128, 8, 16, 128),
    (128, 8, 24, 128), (160, 8, 24, 128), (192, 8, 24, 128), (192, 10, 24, 128),
    (192, 10, 32, 128), (192, 12, 32, 160), (256, 12, 32, 160), (256, 12, 32, 192),
    (256, 12, 32, 256), (320, 12, 32, 256), (384, 12, 32, 256), (384, 16, 32, 256),
    (448, 16, 32, 256), (512, 16, 32, 256), (512, 16, 32, 320), (512, 16, 32, 384),
    (640, 16, 32, 384), (640, 16, 32, 512), (768, 16, 32, 512), (768, 20, 32, 512),
    (896, 20, 32, 512), (1024, 20, 32, 512), (1024, 24, 32, 512))))


def ladder_for(profile: Profile, fixed: Collection[str] = ()) -> list[Size]:
    """The ladder for brains of this profile: widths are multiples of its head_dim, seq_len and
    batch_size at least the profile's, and `fixed` fields of Size as in the profile.

    Raises ConfigError if no size is left.
    """
    profile_size, sizes, rows = Size.of(profile), list[Size](), profile.train.batch_size
    for size in LADDER:
        seq_len = max(size.seq_len, profile_size.seq_len)
        rows = max(rows, size.batch_size * size.seq_len // seq_len)   # as many tokens per step
        if size.d_model % profile.model.head_dim == 0:
            sizes.append(size._replace(batch_size=rows, seq_len=seq_len)._replace(
                **{name: getattr(profile_size, name) for name in fixed}))
    if not sizes:
        raise ConfigError(f"no width of the ladder is a multiple of model.head_dim, "
                          f"{profile.model.head_dim}: use a smaller one")
    return list(dict.fromkeys(sizes))


def fixed_sizes(overrides: Sequence[str]) -> frozenset[str]:
    """The fields of Size that the texts `a.b=value` set. Raises ConfigError for model.d_ff."""
    keys = {text.partition("=")[0] for text in overrides}
    if "model.d_ff" in keys:
        raise ConfigError("model.d_ff cannot be set here: it is twice the width at every size")
    return frozenset(field for field in Size._fields if keys & {f"model.{field}", f"train.{field}"})


@dataclass(frozen=True)
class SearchOptions:
    """What a size has to achieve, and how it is tried."""
    trial_seconds: float = 60.0   # of training
    tokens_per_s: float = 0.0     # minimum
    fixed: Collection[str] = ()   # fields of Size that stay as in the profile


class SizeFacts(NamedTuple):
    """What follows from the shapes of a size."""
    tokens: int              # per step
    parameters: int
    estimate_mb: float       # above the memory limit `seed train` refuses it

    def tokens_s(self, step_s: float | None) -> float | None:
        return self.tokens / step_s if step_s else None


class Limits(NamedTuple):
    memory_mb: float
    min_tokens_s: float
    slow_c: float                        # temperature at which the governor slows a run
    min_tokens_s_per_param: float = 0.0

    def min_speed(self, facts: SizeFacts) -> float:
        """In tokens/s."""
        return max(self.min_tokens_s, self.min_tokens_s_per_param * facts.parameters)


def what_to_allow(trial: Trial, limits: Limits, facts: SizeFacts) -> str:
    """With which flags a size that is unstable may be stable."""
    tokens_s = facts.tokens_s(trial.step_s)
    time_limit = (1 + MARGIN) * limits.min_tokens_s_per_param * facts.parameters
    if tokens_s is None or tokens_s >= time_limit:
        return "allow more with --memory or a lower --tokens-per-s"
    return (f"give it {math.ceil(time_limit / tokens_s)} times the --minutes, or a lower "
            f"--tokens-per-param")


def why_unstable(trial: Trial, limits: Limits, facts: SizeFacts) -> str:
    """The reasons; empty if the size is stable. Missing measurements are ignored."""
    reasons, tokens_s = list[str](), facts.tokens_s(trial.step_s)
    speed_limit = (1 + MARGIN) * limits.min_speed(facts)
    if not trial.finished:
        reasons.append(trial.message)
    elif trial.peak_mb > (1 - MARGIN) * limits.memory_mb:
        reasons.append(f"{trial.peak_mb:.0f} MB leave less than {100 * MARGIN:.0f} % of "
                       f"{limits.memory_mb:.0f} MB free")
    elif facts.estimate_mb > limits.memory_mb:
        reasons.append(f"training is refused: about {facts.estimate_mb:.0f} MB are needed")
    if trial.finished and trial.steps < MIN_TREND_STEPS:
        reasons.append(f"only {trial.steps} steps: too few to show a trend")
    if tokens_s is not None and tokens_s < speed_limit:
        reasons.append(f"{tokens_s:,.0f} tokens/s are too few: {speed_limit:,.0f} are needed")
    if trial.jitter is not None and trial.jitter > MAX_JITTER:
        reasons.append(f"speed varies by {100 * trial.jitter:.0f} %")
    if trial.settled_temp_c is not None and trial.settled_temp_c >= limits.slow_c - HEAT_MARGIN_C:
        reasons.append(f"temperature would settle at {trial.settled_temp_c:.0f} C")
    if trial.throttled:
        reasons.append(trial.throttled)
    if trial.swap_mb > MAX_SWAP_MB:
        reasons.append(f"swap grew by {trial.swap_mb:.0f} MB")
    if trial.skipped_steps:
        reasons.append(f"{trial.skipped_steps} steps were not finite")
    if trial.first_loss is not None and trial.last_loss is not None and not (
            trial.last_loss < trial.first_loss):
        reasons.append(f"loss went from {trial.first_loss:.3f} to {trial.last_loss:.3f}")
    if trial.grad_norm_growth is not None and trial.grad_norm_growth > MAX_NORM_GROWTH:
        reasons.append(f"gradient norm grew {trial.grad_norm_growth:.0f} times")
    return "; ".join(reasons)


def bounds(verdicts: Mapping[int, str], count: int) -> tuple[int, int]:
    """The last stable size (or -1) below the first unstable one, and that one (or `count`)."""
    failed = min((i for i, reasons in verdicts.items() if reasons), default=count)
    return max((i for i in verdicts if i < failed), default=-1), failed


def next_index(verdicts: Mapping[int, str], count: int,
               is_hopeless_fn: Callable[[int], bool]) -> int | None:
    """Which of `count` sizes to try next, or None if the limit is known.

    `verdicts`: why each size that was tried is unstable; empty if it is stable. Upwards in jumps
    that double, then bisect between the last stable and first failed size. A jump over more than
    one size stops short of what is hopeless.
    """
    low, failed = bounds(verdicts, count)
    if low + 1 == failed:
        return None
    target = min(count - 1, low + max(1, low + 1)) if failed == count else (low + failed) // 2
    while target > low + 1 and is_hopeless_fn(target):
        target = (low + target) // 2
    return max(target, low + 1)


def _attempt(row: dict[str, Any]) -> tuple[Size, str]:
    """Raises ValueError, TypeError or KeyError if a log line is damaged."""
    size, boot = Size(*row["size"]), row["boot"]
    if type(boot) is not str or not all(type(number) is int for number in size):
        raise ValueError("not an attempt")
    return size, boot


class SizeSearch:
    """The trials of one profile and number of threads, and what follows from them."""

    def __init__(self, profile: Profile, threads: int, limits: Limits, run_dir: RunDir,
                 trial_seconds: float, ladder: Sequence[Size] = LADDER):
        """`trial_seconds`: of training; shorter trials do not count."""
        self.profile, self.threads, self.limits, self.ladder = profile, threads, limits, ladder
        self.run_dir, self.trial_seconds, self.hash = run_dir, trial_seconds, profile_hash(profile)
        self.trial_log = JsonlLog(run_dir.trial_log, Trial.from_dict, held=run_dir.held,
                                  is_independent=True)
        self.attempts = JsonlLog(run_dir.attempt_log, _attempt,
                                 held=run_dir.held)   # (size, boot ID)
        self.profiles = [size.apply_to(profile) for size in ladder]
        self.facts = [SizeFacts(tokens_per_step(sized), count_params(sized.model),
                                sum(estimate_mb(sized, threads).values()))
                      for sized in self.profiles]

    @property
    def trials(self) -> dict[int, Trial]:
        """The last trial of every size; not one that failed with a lower memory limit than now."""
        return {self.ladder.index(trial.size): trial for trial in self.trial_log.rows
                if (trial.profile_hash, trial.threads) == (self.hash, self.threads)
                and trial.size in self.ladder and trial.seconds >= self.trial_seconds
                and (trial.finished or trial.memory_limit_mb >= self.limits.memory_mb)}

    def verdicts(self) -> dict[int, str]:
        """Why each size that was tried is unstable; empty texts for stable ones."""
        return {i: why_unstable(trial, self.limits, self.facts[i])
                for i, trial in self.trials.items()}

    def cost(self, without: int | None = None) -> Cost:
        """The cost model fitted to all trials but those of size `without`."""
        return Cost(self.profile, self.threads,
                    [trial for i, trial in self.trials.items() if i != without])

    def is_hopeless(self, i: int) -> bool:
        """Whether the cost model predicts that a size breaks a limit."""
        cost, facts, profile = self.cost(), self.facts[i], self.profiles[i]
        tokens_s = facts.tokens_s(cost.step_s(profile))
        return cost.memory_mb(profile) > self.limits.memory_mb or (
            tokens_s is not None and tokens_s < self.limits.min_speed(facts))

    def next_index(self) -> int | None:
        """Which size to try next, or None if the limit is known."""
        return next_index(self.verdicts(), len(self.ladder), self.is_hopeless)

    @property
    def chosen(self) -> int | None:
        """The highest stable size below the lowest that failed."""
        low = bounds(self.verdicts(), len(self.ladder))[0]
        return low if low >= 0 else None

    def begin(self, i: int, boot: str) -> Trial | None:
        """Records the attempt and the boot ID on disk, to detect crashes.

        A trial without steps if the board crashed or rebooted during this size in
        MAX_BOARD_FAILURES other boots: a single one may be a pulled plug.
        """
        size = self.ladder[i]
        boots = {attempt_boot for tried, attempt_boot in self.attempts.rows if tried == size}
        failures = len(boots - {boot})
        if failures >= MAX_BOARD_FAILURES:
            return Trial(size, self.hash, self.threads, self.trial_seconds, self.limits.memory_mb,
                         Outcome.BOARD_CRASHED, f"the board crashed or rebooted {failures} times")
        if boot and boot not in boots:
            self.attempts.append([(size, boot)], [{"size": size, "boot": boot}])
        return None

    def remember(self, trial: Trial) -> bool:
        """False if writing failed. Retryable outcomes are kept in memory only."""
        is_written = not trial.outcome.is_retryable and self.trial_log.append(
            [trial], [asdict(trial)])
        if not is_written:
            self.trial_log.rows.append(trial)
        self.attempts.clear()
        return is_written or trial.outcome.is_retryable

    def run(self, log: Log, should_stop_fn: Callable[[], bool],
            after_trial_fn: Callable[[], None] = lambda: None) -> None:
        """Tries sizes until the limit is known, then writes the ladder and the limit's profile.

        Raises ConfigError if no size is stable, NotEnoughMemory if that may change;
        KeyboardInterrupt once `should_stop_fn` returns true.
        """
        governor, run_dir = self.profile.governor, self.run_dir
        if self.trial_log.damage:
            log(self.trial_log.damage)
        shutil.rmtree(run_dir.trial.path, ignore_errors=True)   # of a search that was killed
        while (i := self.next_index()) is not None:
            atomic_file.remove(run_dir.limit_profile)   # of other limits
            if governor.thermal:
                cool_down(governor.resume_c, should_stop_fn)
            if governor.has_report:
                wait_for_robot(governor, should_stop_fn)
            log(f"trying {self.ladder[i]}")
            try:
                trial = self.begin(i, system_health.boot_id()) or run_trial(
                    self.profile, self.ladder[i], self.threads, self.trial_seconds,
                    self.limits.memory_mb, run_dir.trial, should_stop_fn=should_stop_fn)
            except BaseException:   # the search ends, and the board did not crash
                self.attempts.clear()
                raise
            if not self.remember(trial):
                log(f"WARNING: cannot write {run_dir.trial_log.name}; this trial will be repeated")
            log(self.line(i))
            after_trial_fn()
        atomic_file.write(run_dir.ladder, json.dumps(self.rows()).encode())
        if self.chosen is None:
            atomic_file.remove(run_dir.limit_profile)
            error = NotEnoughMemory if self.trials[0].outcome.is_retryable else ConfigError
            raise error(f"no size is stable: {self.ladder[0]}: {self.verdicts()[0]}; "
                        f"{what_to_allow(self.trials[0], self.limits, self.facts[0])}")
        limit = replace(self.profiles[self.chosen], name="limit")
        atomic_file.write(run_dir.limit_profile, to_toml(limit).encode())

    def rows(self) -> list[dict[str, Any]]:
        """A row for each size that was tried, in order."""
        return [self.row(i) for i in sorted(self.trials)]

    def row(self, i: int) -> dict[str, Any]:
        """What the trials of other sizes predict for a size, and what its own measured."""
        profile, facts, trial = self.profiles[i], self.facts[i], self.trials.get(i)
        cost = self.cost(without=i)
        return {"size": str(self.ladder[i]), "parameters": facts.parameters,
                "predicted_mb": cost.memory_mb(profile),
                "peak_mb": trial.peak_mb if trial else None,
                "predicted_tokens_s": facts.tokens_s(cost.step_s(profile)),
                "tokens_s": facts.tokens_s(trial.step_s) if trial else None,
                "settled_temp_c": trial.settled_temp_c if trial else None,
                "checkpoint_mb": checkpoint_bytes(profile) / 1e6,
                "written_gb_per_day": written_gb_per_day(profile),
                "fault": self.verdicts().get(i)}

    def line(self, i: int) -> str:
        """A row as text."""
        row = self.row(i)
        memory = _with_error(row["predicted_mb"], row["peak_mb"])
        speed = _with_error(row["predicted_tokens_s"], row["tokens_s"])
        return (f"{row['size']:<16}{row['parameters']:>12,} parameters  "
                f"{number(row['peak_mb']):>6} MB ({memory})  {number(row['tokens_s']):>7} tokens/s "
                f"({speed})  {row['fault'] or 'stable'}")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _with_error(predicted: float | None, measured: float | None) -> str:
    """A prediction and its error in percent of the measurement."""
    error = f", {100 * (predicted / measured - 1):+.0f} %" if predicted and measured else ""
    return f"predicted {number(predicted)}{error}"


def open_search(profile: Profile, run_dir: RunDir, threads: int,
                options: SearchOptions = SearchOptions(),
                min_tokens_s_per_param: float = 0.0) -> SizeSearch:
    """A search that knows the trials of its run directory and has tried nothing yet."""
    governor, ladder = profile.governor, ladder_for(profile, options.fixed)
    atomic_file.make_directory(run_dir.path)
    limits = Limits(ceiling_mb(governor, system_health.read(run_dir.path)), options.tokens_per_s,
                    governor.slow_c if governor.thermal else float("inf"), min_tokens_s_per_param)
    return SizeSearch(profile, threads, limits, run_dir, options.trial_seconds, ladder)


def find_size(profile: Profile, run_dir: RunDir, threads: int = 1,
              options: SearchOptions = SearchOptions(), log: Log = print,
              should_stop_fn: Callable[[], bool] = lambda: False) -> SizeSearch:
    """Finds the largest stable size of this board, and writes its profile to
    run_dir.limit_profile. Trials of earlier searches are reused.

    Raises ConfigError if no size is stable, NotEnoughMemory if that may change."""
    with run_dir.locked() as run_dir:
        search = open_search(profile, run_dir, threads, options)
        search.run(log, should_stop_fn)
    return search
