"""The search for the largest stable brain of this board: trials on a ladder of sizes.

Only a trial decides whether a size is stable; the cost model merely shortens jumps that it thinks
too long. Trials are kept in scale.jsonl, a line each, and judged anew by whatever limits are
asked for, so that a search with other limits uses them again.
"""
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from seed import system_health
from seed.config import Profile, to_toml
from seed.errors import ConfigError, NotEnoughMemory
from seed.governor import ceiling_mb
from seed.resize.cost_model import Cost, checkpoint_bytes, tokens_per_step, written_gb_per_day
from seed.resize.trial import (HEAT_MARGIN_C, MIN_SIZE, Size, Trial, cool_down, profile_hash,
                               run_trial)
from seed.resize.trial_watch import MIN_TREND_STEPS, Outcome
from seed.storage import atomic_file
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import Log, RunDir
from seed.training.memory_estimate import estimate_mb
from seed.wavecore.layout import count_params

MARGIN = 0.05              # of memory limit and speed limit, to be kept free
MAX_JITTER = 0.75          # 0.82 if two of a trial's five windows see no step, 0.5 if one does
MAX_NORM_GROWTH = 10.0
MAX_SWAP_MB = 1.0
MAX_BOARD_FAILURES = 2     # of a board that went down during trials of one size
FIXABLE = {"model.d_model": "d_model", "model.n_layers": "n_layers",
           "train.batch_size": "batch_size", "train.seq_len": "seq_len"}

# No size has less of anything than the one before, so that one grows into the next.
LADDER = (MIN_SIZE, *(Size(*numbers) for numbers in (
    (64, 6, 16, 128), (96, 6, 16, 128), (128, 6, 16, 128), (128, 8, 16, 128),
    (128, 8, 24, 128), (160, 8, 24, 128), (192, 8, 24, 128), (192, 10, 24, 128),
    (192, 10, 32, 128), (192, 12, 32, 160), (256, 12, 32, 160), (256, 12, 32, 192),
    (256, 12, 32, 256), (320, 12, 32, 256), (384, 12, 32, 256), (384, 16, 32, 256),
    (512, 16, 32, 256), (512, 16, 32, 320), (512, 16, 32, 384), (640, 16, 32, 384),
    (640, 16, 32, 512), (768, 16, 32, 512), (768, 20, 32, 512), (1024, 20, 32, 512),
    (1024, 24, 32, 512))))


def ladder_for(profile: Profile, fixed: Collection[str] = (),
               ladder: Sequence[Size] = LADDER) -> list[Size]:
    """The ladder for brains of this profile: widths are multiples of its head_dim, rows no shorter
    and no fewer than its own, and what is `fixed` (fields of Size) is as in the profile.

    Raises ConfigError if no size is left.
    """
    profile_size, sizes, rows = Size.of(profile), list[Size](), profile.train.batch_size
    for size in ladder:
        seq_len = max(size.seq_len, profile_size.seq_len)
        rows = max(rows, size.batch_size * size.seq_len // seq_len)   # as many bytes a step
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
    return frozenset(FIXABLE[key] for key in keys & FIXABLE.keys())


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a size, and how it is tried."""
    trial_seconds: float = 60.0   # of training
    tokens_per_s: float = 0.0     # minimum
    fixed: Collection[str] = ()   # fields of Size that stay as in the profile


class Limits(NamedTuple):
    memory_mb: float
    min_tokens_s: float
    slow_c: float                        # temperature at which the governor slows a run
    min_tokens_s_per_param: float = 0.0


class SizeFacts(NamedTuple):
    """What follows from the shapes of a size."""
    tokens: int              # of a step
    parameters: int
    estimate_mb: float       # above the memory limit `seed train` refuses it


def min_tokens_s(limits: Limits, facts: SizeFacts) -> float:
    return max(limits.min_tokens_s, limits.min_tokens_s_per_param * facts.parameters)


def faults(trial: Trial, limits: Limits, facts: SizeFacts) -> str:
    """Why a size is not stable; empty if it is. What is unknown is no fault."""
    texts = [] if trial.finished else [trial.message]
    speed_limit = (1 + MARGIN) * min_tokens_s(limits, facts)
    if trial.finished and trial.peak_mb > (1 - MARGIN) * limits.memory_mb:
        texts.append(f"{trial.peak_mb:.0f} MB leave less than {100 * MARGIN:.0f} % of "
                     f"{limits.memory_mb:.0f} MB free")
    elif trial.finished and facts.estimate_mb > limits.memory_mb:
        texts.append(f"training is refused: about {facts.estimate_mb:.0f} MB are needed")
    if trial.finished and trial.steps < MIN_TREND_STEPS:
        texts.append(f"only {trial.steps} steps: too few to show a trend")
    if trial.step_s and facts.tokens / trial.step_s < speed_limit:
        texts.append(f"{facts.tokens / trial.step_s:,.0f} tokens/s are too few: "
                     f"{speed_limit:,.0f} are needed")
    if trial.jitter is not None and trial.jitter > MAX_JITTER:
        texts.append(f"speed varies by {100 * trial.jitter:.0f} %")
    if trial.settled_temp_c is not None and trial.settled_temp_c >= limits.slow_c - HEAT_MARGIN_C:
        texts.append(f"temperature would settle at {trial.settled_temp_c:.0f} C")
    if trial.throttled:
        texts.append(trial.throttled)
    if trial.swap_mb > MAX_SWAP_MB:
        texts.append(f"swap grew by {trial.swap_mb:.0f} MB")
    if trial.skipped_steps:
        texts.append(f"{trial.skipped_steps} steps were not finite")
    if trial.first_loss is not None and trial.last_loss is not None and not (
            trial.last_loss < trial.first_loss):
        texts.append(f"loss went from {trial.first_loss:.3f} to {trial.last_loss:.3f}")
    if trial.grad_norm_growth is not None and trial.grad_norm_growth > MAX_NORM_GROWTH:
        texts.append(f"gradient norm grew {trial.grad_norm_growth:.0f} times")
    return "; ".join(texts)


def next_index(stable: Mapping[int, bool], count: int,
               is_hopeless_fn: Callable[[int], bool]) -> int | None:
    """Which of `count` sizes to try next, or None if the limit is known.

    Upwards in jumps that double, then by halves between the highest stable size below the lowest
    that failed, and that one. A jump over more than one size stops short of what is hopeless.
    """
    failed = min((i for i, is_stable in stable.items() if not is_stable), default=count)
    low = max((i for i, is_stable in stable.items() if is_stable and i < failed), default=-1)
    if low + 1 == failed:
        return None
    target = min(count - 1, low + max(1, low + 1)) if failed == count else (low + failed) // 2
    while target > low + 1 and is_hopeless_fn(target):
        target = (low + target) // 2
    return max(target, low + 1)


class Attempt(NamedTuple):
    """A size that is being tried, and the boot of the board in which it is."""
    size: Size
    boot: str

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Attempt":
        """Of a line of the log. Raises TypeError or KeyError for anything else."""
        return cls(Size(*row["size"]), row["boot"])


class SizeSearch:
    """The trials of one profile and number of threads, and what follows from them."""

    def __init__(self, profile: Profile, threads: int, limits: Limits, run_dir: RunDir,
                 trial_seconds: float, ladder: Sequence[Size] = LADDER):
        """`trial_seconds`: of training; shorter trials do not count."""
        self.profile, self.threads, self.limits, self.ladder = profile, threads, limits, ladder
        self.run_dir, self.trial_seconds, self.hash = run_dir, trial_seconds, profile_hash(profile)
        self.log = JsonlLog(run_dir.trial_log, Trial.from_dict)
        self.attempts = JsonlLog(run_dir.attempt_log, Attempt.from_dict)
        self.profiles = [size.apply_to(profile) for size in ladder]
        self.facts = [SizeFacts(tokens_per_step(sized), count_params(sized.model),
                                sum(estimate_mb(sized, threads).values()))
                      for sized in self.profiles]

    @property
    def trials(self) -> dict[int, Trial]:
        """The last trial of every size; not one that failed with a lower memory limit than now."""
        return {self.ladder.index(trial.size): trial for trial in self.log.rows
                if (trial.profile_hash, trial.threads) == (self.hash, self.threads)
                and trial.size in self.ladder and trial.seconds >= self.trial_seconds
                and (trial.finished or trial.memory_limit_mb >= self.limits.memory_mb)}

    def verdicts(self) -> dict[int, str]:
        return {i: faults(trial, self.limits, self.facts[i]) for i, trial in self.trials.items()}

    def cost(self, without: int | None = None) -> Cost:
        """From all trials, or from all but one size's: what would have been predicted for it."""
        return Cost(self.profile, self.threads,
                    [trial for i, trial in self.trials.items() if i != without])

    def is_hopeless(self, i: int) -> bool:
        """Whether the cost model thinks that a size breaks a limit."""
        cost, facts = self.cost(), self.facts[i]
        step_s = cost.step_s(self.profiles[i])
        return cost.memory_mb(self.profiles[i]) > self.limits.memory_mb or (
            step_s is not None and facts.tokens / step_s < min_tokens_s(self.limits, facts))

    def next_index(self) -> int | None:
        """Which size to try next, or None if the limit is known."""
        stable = {i: not fault for i, fault in self.verdicts().items()}
        return next_index(stable, len(self.ladder), self.is_hopeless)

    @property
    def chosen(self) -> int | None:
        """The highest stable size below the lowest that failed."""
        verdicts = self.verdicts()
        failed = min((i for i, fault in verdicts.items() if fault), default=len(self.ladder))
        return max((i for i, fault in verdicts.items() if not fault and i < failed), default=None)

    def begin(self, i: int, boot: str) -> Trial | None:
        """Notes on disk that a size is about to be tried in this boot of the board.

        A result if the board went down with it in MAX_BOARD_FAILURES other boots: a single one may
        be a pulled plug.
        """
        size = self.ladder[i]
        boots = {attempt.boot for attempt in self.attempts.rows if attempt.size == size} - {boot}
        if len(boots) >= MAX_BOARD_FAILURES:
            return Trial(size, self.hash, self.threads, self.trial_seconds, self.limits.memory_mb,
                         Outcome.BOARD_WENT_DOWN, f"the board went down {len(boots)} times")
        attempt = Attempt(size, boot)
        if boot and attempt not in self.attempts.rows:
            self.attempts.append([attempt], [attempt._asdict()])
        return None

    def remember(self, trial: Trial) -> bool:
        """False if the disk refuses a trial. One that may end otherwise later is not written."""
        is_written = not trial.outcome.may_change and self.log.append([trial], [asdict(trial)])
        if not is_written:
            self.log.rows.append(trial)
        self.attempts.clear()
        return is_written or trial.outcome.may_change

    def run(self, log: Log, stopped_fn: Callable[[], bool],
            after_trial_fn: Callable[[], None] = lambda: None) -> None:
        """Tries sizes until the limit is known, then writes the ladder and the limit's profile.

        Raises ConfigError if no size is stable, NotEnoughMemory if that may change;
        KeyboardInterrupt once `stopped_fn` returns true.
        """
        governor = self.profile.governor
        while (i := self.next_index()) is not None:
            self.run_dir.limit_profile.unlink(missing_ok=True)   # of other limits
            if governor.thermal:
                cool_down(governor.resume_c, stopped_fn)
            log(f"trying {self.ladder[i]}")
            try:
                trial = self.begin(i, system_health.boot_id()) or run_trial(
                    self.profile, self.ladder[i], self.threads, self.trial_seconds,
                    self.limits.memory_mb, self.run_dir.trial, stopped_fn=stopped_fn)
            except BaseException:   # the search ends, and the board did not go down
                self.attempts.clear()
                raise
            if not self.remember(trial):
                log(f"WARNING: cannot write {self.run_dir.trial_log.name}; this trial will be "
                    f"repeated")
            log(self.line(i))
            after_trial_fn()
        atomic_file.write(self.run_dir.ladder, json.dumps(self.rows()).encode())
        if self.chosen is None:
            self.run_dir.limit_profile.unlink(missing_ok=True)
            error = NotEnoughMemory if self.trials[0].outcome.may_change else ConfigError
            raise error(f"no size is stable: {self.ladder[0]}: {self.verdicts()[0]}; allow more "
                        f"with --memory or a lower --tokens-per-s")
        atomic_file.write(self.run_dir.limit_profile, to_toml(
            replace(self.profiles[self.chosen], name="limit")).encode())

    def rows(self) -> list[dict[str, Any]]:
        """Of the sizes that were tried, in order."""
        return [self.row(i) for i in sorted(self.trials)]

    def row(self, i: int) -> dict[str, Any]:
        """What is predicted for a size from the others, and what was measured."""
        profile, facts, trial = self.profiles[i], self.facts[i], self.trials.get(i)
        cost = self.cost(without=i)
        step_s = cost.step_s(profile)
        return {"size": str(self.ladder[i]), "parameters": facts.parameters,
                "predicted_mb": cost.memory_mb(profile),
                "peak_mb": trial.peak_mb if trial else None,
                "predicted_tokens_s": facts.tokens / step_s if step_s else None,
                "tokens_s": facts.tokens / trial.step_s if trial and trial.step_s else None,
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
    """A prediction and its error, in percent of what was measured."""
    error = f", {100 * (predicted / measured - 1):+.0f} %" if predicted and measured else ""
    return f"predicted {number(predicted)}{error}"


def open_search(profile: Profile, run_dir: RunDir, threads: int,
                options: SearchOptions = SearchOptions(),
                min_tokens_s_per_param: float = 0.0) -> SizeSearch:
    """A search that knows the trials of its run directory and has tried nothing yet."""
    governor = profile.governor
    ladder = ladder_for(profile, options.fixed)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    limits = Limits(ceiling_mb(governor, system_health.read(run_dir.path)), options.tokens_per_s,
                    governor.slow_c if governor.thermal else float("inf"), min_tokens_s_per_param)
    return SizeSearch(profile, threads, limits, run_dir, options.trial_seconds, ladder)


def find_size(profile: Profile, run_dir: RunDir, threads: int = 1,
              options: SearchOptions = SearchOptions(), log: Log = print,
              stopped_fn: Callable[[], bool] = lambda: False) -> SizeSearch:
    """Finds the largest stable size of this board, and writes its profile to
    run_dir.limit_profile. What an earlier search has tried is not tried again.

    Raises as SizeSearch.run does.
    """
    with run_dir.locked():
        search = open_search(profile, run_dir, threads, options)
        search.run(log, stopped_fn)
    return search
