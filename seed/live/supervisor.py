"""A brain that lives on a robot: the fast loop acts; beside it learners make candidates of what was
lived, which act once they have passed the gate, and are watched.

The mid loop learns of what is new, the slow loop of everything while the robot rests; and a brain
that was trained in the run directory since is judged as they are. Deadlines come before learning
(pace.py).
"""
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from seed import system_health
from seed.body.open_body import body_name
from seed.config import Profile
from seed.errors import ConfigError, SeedError, StopRequested
from seed.evaluation.figure import Figure
from seed.interpreter import shown_command
from seed.live import brains as lineage
from seed.live.brains import Brains, Decision
from seed.live.change_point import latest_change
from seed.live.fast_loop import EPISODES, FastLoop, Options
from seed.live.gate import is_level
from seed.live.learn import MID, RENEWED, SLOW, Candidate, Plan, forget
from seed.live.learner import Learner
from seed.live.lived import MAX_LAG_S, Memory, Position, files_of
from seed.live.pace import Pace
from seed.live.safety import Fault
from seed.live.watch import Bounds, Lived, Watch
from seed.storage.run_dir import Log, RunDir

SAMPLE_TICKS, MAX_SAMPLES = 200, 1000   # of surprise, which is a mean of the 100 ticks before
SETTLING_TICKS = 500      # before the first
MIN_TICKS = 1000          # recorded since a change, of which a candidate learns
TRIM_S = 60.0             # between two looks at what episodes take
FLUSH_S = 5.0             # between two tries to write a decision to a full disk
SLOW_FACTOR = 10          # of live.learn_ticks, of which the slow loop learns
ORIGIN = {MID: "of the mid loop", SLOW: "of the slow loop", RENEWED: "of the run directory"}
DECIDED = "what was decided"
DOING = {MID: "learns", SLOW: "consolidates", RENEWED: "judges"}


@dataclass(frozen=True)
class LiveOptions:
    run_dir: RunDir
    body: str
    profile: Profile = Profile()     # its [live] and [governor]
    threads: int = 1                 # of a learner, on the cores that the fast loop leaves
    loop: dict[str, Any] = field(default_factory=dict)   # other fields of fast_loop.Options

    @property
    def live_dir(self) -> Path:
        return self.run_dir.path / "live"


class Sample(NamedTuple):
    """Of surprise, and what was recorded until then."""
    ticks: int
    surprise: float
    time_s: float
    recorded: Position


class Live:
    """One life: from start to stop. `log` gets a line for each event; `should_stop_fn`: whether it
    has to end."""

    def __init__(self, options: LiveOptions, log: Log = print,
                 clock: Callable[[], float] = time.monotonic,
                 should_stop_fn: Callable[[], bool] = bool):
        self.options, self._log, self._clock, self._should_stop_fn = (
            options, log, clock, should_stop_fn)
        self.config = live = options.profile.live
        self.brains = Brains(options.live_dir)
        self.watch = Watch(live.watch_ticks)
        self.pace = Pace(options.profile.governor, live,
                         lambda: system_health.read(options.run_dir.path), clock)
        self.learners = {kind: Learner(options.live_dir, kind, every, options.threads, log, clock)
                         for kind, every in ((MID, live.learn_every_ticks),
                                             (SLOW, live.rest_every_ticks),
                                             (RENEWED, MIN_TICKS))}
        self.memory = Memory(options.live_dir / EPISODES, live.episodes_mb * 2 ** 20, clock)
        self._seen = deque[Sample](maxlen=MAX_SAMPLES)   # while one brain acts
        self._changed_at = -SLOW_FACTOR * live.learn_ticks   # tick of the body's last change
        self._begins_at = 0             # tick in which the brain that acts began
        self._is_renewed = False        # the run directory has a newer brain, not judged yet
        self._candidate: Candidate | None = None   # that is to be promoted or refused
        self._flush_at_s, self._trim_at_s = 0.0, clock() + TRIM_S

    def start(self) -> None:
        """Raises SeedError, OSError."""
        self._look_at_run_dir()
        assert self.brains.promoted
        self.loop = FastLoop(Options(
            self.options.live_dir, self.brains.file(self.brains.promoted.brain),
            self.options.body, record_gb_per_day=self.config.record_gb_per_day,
            **self.options.loop), self._should_stop_fn)
        self.loop.lock()
        if self.brains.lineage.damage:
            self._log(self.brains.lineage.damage)
        with self._on_disk(DECIDED):
            self.brains.settle()
        promoted = self.brains.promoted
        self.loop.brain_path = self.brains.file(promoted.brain)
        self.loop.start()
        if decision := self.brains.unconfirmed:
            self.watch.begin(0, Bounds.from_dict(decision.bounds))
            self._log(f"brain {promoted.brain} is still watched")

    @contextmanager
    def _on_disk(self, what: str) -> Iterator[None]:
        """A full disk is no reason to stop acting, nor to leave out what is done beside that."""
        try:
            yield
        except OSError as error:
            why = f"{error.filename}: {error.strerror}" if error.filename else (
                error.strerror or error)
            self._log(f"{what} is not on the disk: {why}; free some space")

    def _check_body(self, bodies: Collection[str]) -> None:
        """Before an export, which takes long. Raises ConfigError if the brain cannot act in the
        body: its only one may have another name."""
        name = self.options.loop.get("brain_body") or body_name(self.options.body)
        run_dir = self.options.run_dir
        if name not in bodies and len(bodies) != 1:
            known = f" ({', '.join(bodies)})" if bodies else ""
            raise ConfigError(
                f"the brain in {run_dir} does not know the body {name}{known}: train it with "
                f"{shown_command('train', f'--run-dir={run_dir}', f'--body={self.options.body}')}")

    def _look_at_run_dir(self) -> None:
        """Its brain acts if no other does, or if nothing has been lived; a newer one is judged
        beside the one that acts."""
        from seed.export import build
        run_dir = self.options.run_dir
        if self.brains.promoted and not self.brains.is_renewed(run_dir):
            return
        if self.brains.promoted and self.memory.folder.is_dir() and files_of(self.memory.folder):
            self._log(f"the brain in {run_dir} is newer: it is judged beside the one that acts")
            self._is_renewed, self.learners[RENEWED].next_ticks = True, 0
            return
        self._check_body(run_dir.load_brain(self._log).meta.get("bodies", {}))
        self._log(f"exporting the brain in {run_dir} and verifying it, once")
        build(run_dir, log=self._log)
        self.brains.rest_on(run_dir.checkpoint)
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
        self.memory.look(block["surprise"])
        self.pace.poll(block.slip(time.monotonic_ns()))
        reason = self.watch.look(Lived.of(block.words())) or reason
        if self.watch.is_watching:
            with self._on_disk(DECIDED):
                self._decide(reason, ticks)
        self._candidate = self._candidate or self._lead_learners()
        if not self.brains.is_written and now_s >= self._flush_at_s:
            self._flush_at_s = now_s + FLUSH_S
            with self._on_disk(DECIDED):
                self.brains.flush()
        if self._candidate and self.brains.is_written:   # lines are in order
            candidate, self._candidate = self._candidate, None
            with self._on_disk(DECIDED):
                self._take(candidate, ticks)
        elif not self._candidate and not self.watch.is_watching and self.pace.may_begin:
            self._begin_learning(ticks)
        if now_s >= self._trim_at_s:
            self._trim_at_s = now_s + TRIM_S
            with self._on_disk("which episodes stay"):
                self.memory.trim()

    def _look_at_fault(self, event: dict[str, Any]) -> str:
        """Why a watched brain fails, by what the fast loop tells of it."""
        brain = self.loop.brain
        if "fault" not in event or not self.watch.is_watching \
                or brain and event.get("generation") != brain.generation:
            return ""
        reason = self.watch.look_at_fault(Fault(event["fault"]), event["text"])
        if reason and event["is_latched"]:   # the brain that failed goes
            self.loop.clear()
        return reason

    @property
    def _may_rest(self) -> bool:
        """Whether the slow loop may learn: not while the body has changed, which is urgent."""
        return (self.pace.is_idle and self.config.rest_minutes > 0
                and not self.loop.block["explore"])

    def _lead_learners(self) -> Candidate | None:
        """The result of one that has ended."""
        if not self._may_rest:
            self.learners[SLOW].ask_to_stop()   # it continues at the next rest
        for learner in self.learners.values():
            learner.follow(self.pace)
            candidate = learner.result()
            if candidate:
                return candidate
        return None

    def _look(self, ticks: int, surprise: float) -> None:
        """A sample of every SAMPLE_TICKS at most. Actions are drawn from a change on, until there
        are as many ticks as a candidate learns of at most, or a brain is confirmed."""
        if ticks > self._changed_at + self.config.learn_ticks:
            self._end_trying()
        last = self._seen[-1].ticks if self._seen else self._begins_at + SETTLING_TICKS
        if ticks < last + SAMPLE_TICKS or not math.isfinite(surprise):
            return
        self._seen.append(Sample(ticks, surprise, self._clock(), self.memory.recorded))
        at = latest_change([sample.surprise for sample in self._seen])
        if at and self._seen[at].ticks != self._changed_at:
            if self._changed_at < self._begins_at and self.config.learn_every_ticks:
                self._log("the body has changed: what it does is tried, and learnt")
                self.loop.block["explore"] = 1
            first, self._changed_at = self._seen[at], self._seen[at].ticks
            self.memory.forget_before(next(
                (sample.recorded for sample in self._seen
                 if sample.time_s >= first.time_s + MAX_LAG_S), self.memory.recorded))
            self._candidate, self._trim_at_s = None, 0.0   # what is known outlives this process
            for learner in self.learners.values():
                learner.abandon(self._changed_at)

    def _end_trying(self) -> None:
        if self.loop.block["explore"]:
            self.loop.block["explore"] = 0
            self.memory.begin_own()   # as in the gate's model: the most probable actions

    def _forget_surprise(self, ticks: int) -> None:
        """Another brain is surprised by other things."""
        self._seen.clear()
        self._begins_at = ticks
        self.memory.begin_own()

    def _begin_learning(self, ticks: int) -> None:
        """One learner at a time: a newer brain of the run directory is judged first, then the slow
        loop learns if the robot rests, else the mid loop; that alone where the body has just
        changed."""
        if any(learner.is_running for learner in self.learners.values()) or (
                ticks - self._changed_at < MIN_TICKS):
            return
        has_changed = bool(self.loop.block["explore"])   # which is urgent
        may = {RENEWED: self._is_renewed and not has_changed, SLOW: self._may_rest, MID: True}
        learner = next((learner for learner in map(self.learners.__getitem__, may)
                        if may[learner.kind] and learner.is_due(ticks)), None)
        if learner is None:
            return
        try:
            learner.start(self._plan(learner.kind), ticks)
        except OSError as error:
            self._log(f"nothing is learnt now: {error}")

    def _plan(self, kind: str) -> Plan:
        live, promoted = self.config, self.brains.promoted
        assert promoted
        plan = Plan(promoted.brain, live.learn_minutes, live.learn_ticks, live.max_loss,
                    min_ticks=MIN_TICKS, since=self.memory.changed_at,
                    own_since=self.memory.own_since)
        if kind == RENEWED:
            return plan._replace(base=str(self.options.run_dir.checkpoint))
        if kind == MID:
            return plan
        rows = [row for row in self.brains.lineage.rows if row.loop == SLOW]
        is_full = bool(rows and rows[-1].decision == lineage.REFUSED and is_level(
            [Figure(**figure) for figure in rows[-1].figures]))
        return plan._replace(minutes=live.rest_minutes, max_ticks=SLOW_FACTOR * live.learn_ticks,
                             grow_to=live.grow_to if is_full else "")

    def _take(self, candidate: Candidate, ticks: int) -> None:
        """Promotes it, or tells why not."""
        promoted = self.brains.promoted
        assert promoted
        self.brains.remove_old()   # of candidates that were refused
        reason = candidate.reason
        is_late = not reason and candidate.parent != promoted.brain
        if is_late:
            reason = "another brain acts meanwhile"
        if not reason:
            try:
                self.loop.promote(self.brains.file(candidate.brain))
            except StopRequested:   # the next life takes it
                raise
            except SeedError as error:
                reason = str(error)
        facts: dict[str, Any] = {"data": candidate.data, "figures": candidate.figures,
                                 "loop": candidate.loop, "plane": candidate.plane}
        if reason:
            with self._on_disk(DECIDED):
                self.brains.tell(Decision(lineage.REFUSED, candidate.brain, candidate.parent,
                                          promoted.generation, reason=reason, **facts))
            self._log(f"a candidate {ORIGIN[candidate.loop]} is refused: {reason}")
        else:
            self.watch.begin(int(self.loop.block["ticks"]))
            try:
                self.brains.promote(candidate.brain, bounds=self.watch.bounds._asdict(), **facts)
            except OSError:
                self.watch.end()
                self.loop.roll_back(self.brains.file(promoted.brain))   # as after a power cut
                raise
            self._forget_surprise(ticks)
            self._log(f"brain {candidate.brain} {ORIGIN[candidate.loop]} acts now; it is watched"
                      f"{candidate.plane and f'; {candidate.plane}'}")
        if candidate.loop == RENEWED and not is_late:
            self._is_renewed = False
            with self._on_disk(DECIDED):   # else it is judged again in the next life
                self.brains.rest_on(self.options.run_dir.checkpoint)
        forget(self.options.live_dir, candidate.loop)

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
            self._end_trying()
            self.watch.end()
            self._log(f"brain {self.brains.promoted.brain} is confirmed")
            self.brains.tell(Decision(lineage.CONFIRMED, self.brains.promoted.brain,
                                      self.brains.promoted.parent,
                                      self.brains.promoted.generation))

    @property
    def doing(self) -> str:
        """What happens beside acting, in a word."""
        kind = next((kind for kind, learner in self.learners.items() if learner.is_running), "")
        if self.watch.is_watching:
            return "watched"
        return f"{DOING[kind]} {100 * self.pace.decision.duty:.0f} %" if kind else ""

    def describe(self) -> str:
        """The fast loop in a line."""
        words = self.loop.block.words()
        return "  ".join(filter(None, [
            f"tick {words['ticks']:,.0f}", f"{words['missed']:.0f} missed",
            f"return {words['last_return']:.4g}", f"surprise {words['surprise']:.2f}",
            f"brain {words['generation']:.0f}", self.doing,
            "explores" if words["explore"] else ""]))

    def stop(self) -> dict[str, float]:
        """The body gets the safe action first, then what is learnt is saved. The last words of the
        fast loop."""
        for learner in self.learners.values():
            learner.ask_to_stop()
        words = self.loop.block.words()
        self.loop.stop()
        for learner in self.learners.values():
            learner.stop()
        self.pace.close()
        return words
