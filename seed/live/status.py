"""status.json and heartbeat of a life (docs/board.md): the fast loop, the brain, what is learnt and
the board, in a line that a dashboard can read."""
import time
from typing import Any

from seed import governor
from seed.live import brains as lineage
from seed.live.learn import MID, SLOW, work_of
from seed.live.safety import Fault, State
from seed.live.shared_block import quantile_us
from seed.live.supervisor import Live
from seed.regular_file import read_json
from seed.storage.run_dir import Log
from seed.storage.status_file import StatusFiles

LEARNER_KEYS = "step", "total_steps", "loss", "grad_norm"   # of its own status


class LiveStatus:
    """`update` some times a second."""

    def __init__(self, live: Live, log: Log):
        self._live, self._action = live, governor.RUN
        self._files = StatusFiles(live.options.run_dir, time.monotonic, log)

    def update(self) -> None:
        """Writes when that is due, and when the governor's action changes."""
        action = self._live.pace.decision.action
        if self._files.is_due or action != self._action:
            self.write("living", self._live.loop.block.words())
        self._action = action

    def write(self, state: str, words: dict[str, float]) -> None:
        """`words`: of the fast loop's block."""
        live, pace = self._live, self._live.pace
        health, promoted = pace.health, live.brains.promoted
        decisions = [row.decision for row in live.brains.lineage.rows]
        self._files.write({
            "state": state, "run_dir": str(live.options.run_dir.path.absolute()),
            "body": live.options.body, "brain": promoted.brain if promoted else None,
            "generation": promoted.generation if promoted else 0,
            **{name: int(words[name]) for name in ("ticks", "missed", "late", "episodes",
                                                   "faults")},
            "slip": round(pace.late_fraction, 5),
            "p999_late_ms": quantile_us(live.loop.block.lateness(), 0.999) / 1000,
            "last_return": words["last_return"], "surprise": words["surprise"],
            "fast_loop": State(int(words["state"])).name.lower(),
            "fault": Fault(int(words["fault"])).name.lower().replace("_", " "),
            "promotions": decisions.count(lineage.PROMOTED),
            "rollbacks": decisions.count(lineage.ROLLED_BACK),
            "refusals": decisions.count(lineage.REFUSED),
            "learning": live.doing, "idle": pace.is_idle, **self._of_learner(),
            "level": governor.level(pace.decision), "reason": pace.decision.reason,
            "action": pace.decision.action, "duty": pace.decision.duty,
            "temp_c": health.temp_c.value if health else None,
            "memory_mb": health.rss_mb.value if health else None,
            "mem_available_mb": health.mem_available_mb.value if health else None,
            "disk_free_mb": health.disk_free_mb.value if health else None})

    def _of_learner(self) -> dict[str, Any]:
        """Of the training that runs; None without one."""
        kind = next((kind for kind in (MID, SLOW) if self._live.learners[kind].is_running), None)
        facts: Any = {}
        if kind:
            try:
                facts = read_json(
                    work_of(self._live.options.live_dir, kind).adaptation.status)
            except (OSError, ValueError):
                pass   # it has none yet
        return {key: facts.get(key) if isinstance(facts, dict) else None for key in LEARNER_KEYS}
