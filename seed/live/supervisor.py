"""A brain that lives on a robot: the fast loop acts; beside it a learner makes candidates of what
was just lived, which act once they have passed the gate, and are watched.

Deadlines come before learning: while the fast loop is late the learner stands still.
"""
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from seed.errors import ConfigError, SeedError
from seed.live import brains as lineage
from seed.live.brains import Brains, Decision
from seed.live.change_point import latest_change
from seed.live.fast_loop import EPISODES, FastLoop, Options
from seed.live.learn import MAX_TICKS, PLAN, Candidate, work_of
from seed.live.learner import Learner, LiveOptions
from seed.live.lived import remove_oldest
from seed.live.safety import Fault
from seed.live.watch import Bounds, Lived, Watch
from seed.storage.run_dir import Log

SAMPLE_TICKS, MAX_SAMPLES = 200, 1000   # of surprise, which is a mean of the 100 ticks before
SETTLING_TICKS = 500      # before the first
MIN_TICKS = 1000          # since a change, of which a candidate learns
MAX_EPISODE_BYTES = 512 * 2 ** 20
FLUSH_S = 5.0             # between two tries to write a decision to a full disk


class Live:
    """One life: from start to stop. `log` gets a line for each event."""

    def __init__(self, options: LiveOptions, log: Log = print,
                 clock: Callable[[], float] = time.monotonic):
        self.options, self._log, self._clock = options, log, clock
        self.brains = Brains(options.live_dir)
        self.watch, self.learner = Watch(), Learner(options, log)
        self._seen = deque[tuple[int, float]](maxlen=MAX_SAMPLES)   # ticks, surprise of one brain
        self._changed_at = -MAX_TICKS   # tick of the body's last change
        self._begins_at = 0             # tick in which the brain that acts began
        self._flush_at_s = 0.0

    def start(self) -> None:
        """Raises SeedError, OSError."""
        if self.brains.promoted is None:
            self._export_first()
        assert self.brains.promoted
        self.loop = FastLoop(Options(
            self.options.live_dir, self.brains.file(self.brains.promoted.brain),
            self.options.body, **self.options.loop))
        self.loop.lock()
        with self._on_disk():
            self.brains.settle()
        promoted = self.brains.promoted
        self.loop.brain_path = self.brains.file(promoted.brain)
        self.loop.start()
        if decision := self.brains.unconfirmed:
            self.watch.begin(0, Bounds.from_dict(decision.bounds))
            self._log(f"brain {promoted.brain} is still watched")

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """A full disk is no reason to stop acting."""
        try:
            yield
        except OSError as error:
            self._log(f"{error.strerror or error}: what was decided is not on the disk; free some")

    def _export_first(self) -> None:
        from seed.export import build
        run_dir = self.options.run_dir
        self._log(f"the brain in {run_dir} is exported and verified")
        build(run_dir, log=self._log)
        self.brains.promote(self.brains.add(run_dir), lineage.FIRST)

    def poll(self) -> None:
        """What is due; some times a second. Raises SeedError."""
        reason = ""
        for event in self.loop.poll():
            self._log(event["text"])
            reason = self._look_at_fault(event) or reason
        now_s, block = self._clock(), self.loop.block
        ticks = int(block["ticks"])
        self._look(ticks, block["surprise"])
        self.learner.yield_to(block.slip(time.monotonic_ns()).fraction, now_s)
        reason = self.watch.look(Lived.of(block.words())) or reason
        candidate = self.learner.result(now_s)
        with self._on_disk():
            if not self.brains.is_written and now_s >= self._flush_at_s:
                self._flush_at_s = now_s + FLUSH_S
                self.brains.flush()
            if self.watch.is_watching:
                self._decide(reason, ticks)
            if candidate:
                self._take(candidate, ticks)
            elif not self.watch.is_watching and self.learner.is_due(ticks, now_s):
                self._learn(ticks)

    def _look_at_fault(self, event: dict[str, Any]) -> str:
        """Why a watched brain fails, by what the fast loop tells of it."""
        brain = self.loop.brain
        if not self.watch.is_watching or brain and event.get("generation") != brain.generation:
            return ""
        reason = self.watch.look_at_fault(Fault(event.get("fault", 0)), event["text"])
        if reason and event["is_latched"]:   # the brain that failed goes
            self.loop.block["clear"] += 1
        return reason

    def _look(self, ticks: int, surprise: float) -> None:
        """A sample of every SAMPLE_TICKS at most. Actions are drawn from a change on, until there
        are as many ticks as a candidate learns of at most, or a brain is confirmed."""
        if ticks > self._changed_at + MAX_TICKS:
            self.loop.block["explore"] = 0
        last = self._seen[-1][0] if self._seen else self._begins_at + SETTLING_TICKS
        if ticks < last + SAMPLE_TICKS or not math.isfinite(surprise):
            return
        self._seen.append((ticks, surprise))
        at = latest_change([surprise for _, surprise in self._seen])
        if at and self._seen[at][0] != self._changed_at:
            if self._changed_at < self._begins_at and self.options.learn_every_ticks:
                self._log("the body has changed: what it does is tried, and learnt")
                self.loop.block["explore"] = 1
            self._changed_at = self._seen[at][0]
            self.learner.abandon(self._changed_at)

    def _forget_surprise(self, ticks: int) -> None:
        """Another brain is surprised by other things."""
        self._seen.clear()
        self._begins_at = ticks

    def _learn(self, ticks: int) -> None:
        assert self.brains.promoted
        newest = ticks - self._changed_at   # since the body is as it is now
        if newest < MIN_TICKS:
            return
        try:
            remove_oldest(self.options.live_dir / EPISODES, MAX_EPISODE_BYTES)
            self.learner.start(self.brains.promoted.brain, ticks, newest)
        except (OSError, ConfigError) as error:
            self._log(f"nothing is learnt now: {error}")

    def _take(self, candidate: Candidate, ticks: int) -> None:
        """Promotes it, or tells why not."""
        promoted = self.brains.promoted
        assert promoted
        self.brains.flush()
        reason = candidate.reason
        if not reason and candidate.parent != promoted.brain:
            reason = "another brain acts meanwhile"
        if not reason:
            try:
                self.loop.promote(self.brains.file(candidate.brain))
            except SeedError as error:
                reason = str(error)
        if reason:
            self.brains.tell(Decision(lineage.REFUSED, candidate.brain, candidate.parent,
                                      promoted.generation, candidate.data, reason,
                                      candidate.figures))
            self._log(f"a candidate is refused: {reason}")
        else:
            self.watch.begin(int(self.loop.block["ticks"]))
            try:
                self.brains.promote(candidate.brain, data=candidate.data,
                                    figures=candidate.figures,
                                    bounds=self.watch.bounds._asdict())
            except OSError:
                self.watch.end()
                self.loop.roll_back(self.brains.file(promoted.brain))   # as after a power cut
                raise
            self._forget_surprise(ticks)
            self._log(f"brain {candidate.brain} acts now; it is watched")
        work_of(self.options.live_dir).path.joinpath(PLAN).unlink(missing_ok=True)

    def _decide(self, reason: str, ticks: int) -> None:
        """What becomes of a brain that is watched."""
        if reason:
            assert self.brains.promoted
            self.loop.roll_back(self.brains.file(self.brains.promoted.parent))
            self._forget_surprise(ticks)
            self.watch.end()
            self._log(f"rolled back: {reason}")
            self.brains.roll_back(reason)
        elif self.watch.is_over(ticks):
            assert self.brains.promoted
            self.loop.confirm()
            self.loop.block["explore"] = 0
            self.watch.end()
            self._log(f"brain {self.brains.promoted.brain} is confirmed")
            self.brains.tell(Decision(lineage.CONFIRMED, self.brains.promoted.brain,
                                      self.brains.promoted.parent,
                                      self.brains.promoted.generation))

    def describe(self) -> str:
        """The fast loop in a line."""
        words, doing = self.loop.block.words(), "learns" if self.learner.is_running else ""
        doing = "watched" if self.watch.is_watching else doing
        return "  ".join(filter(None, [
            f"tick {words['ticks']:,.0f}", f"{words['missed']:.0f} missed",
            f"return {words['last_return']:.4g}", f"surprise {words['surprise']:.2f}",
            f"brain {words['generation']:.0f}", doing, "explores" if words["explore"] else ""]))

    def stop(self) -> dict[str, float]:
        """The last words of the fast loop."""
        self.learner.stop()
        words = self.loop.block.words()
        self.loop.stop()
        return words
