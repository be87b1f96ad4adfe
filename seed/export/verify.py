"""Proves an exported file in the runtime at hand: against the numpy reference, against the trainer,
and on the holdout; counts what the delegate took, and times a step."""
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.export.reference import Reference
from seed.runtime import Brain, choose

Step = Callable[[int], np.ndarray]       # a byte to the logits (v,) after it
# Of the logits' range, by the kind of weights: more is a fault of ours.
FAULTLESS = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}
# Of one step's range: when the judge has its best logit this near to the byte that a file says, the
# report calls it a tie, so that a reader can tell a close call from a fault. Nothing passes by it.
TIED = 2e-5
MOST_LOST = 0.05   # of the holdout: narrow weights that cost more are not worth it
BOOKKEEPING = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")   # of states, in whatever runtime


@dataclass
class Agreement:
    """How far two brains are apart over the same bytes."""
    steps: int = 0
    delta: float = 0.0          # largest difference of a logit
    spread: float = 0.0         # largest range of the logits of one step
    agreed: int = 0             # steps with the same likeliest byte
    tied: int = 0               # steps with another, that are a tie to the judge too

    def see(self, found: np.ndarray, expected: np.ndarray) -> None:
        self.steps += 1
        delta = float(np.abs(found - expected).max())
        self.delta = max(self.delta, delta if np.isfinite(delta) else float("inf"))
        self.spread = max(self.spread, float(np.ptp(expected)))
        gap = float(expected.max() - expected[found.argmax()])
        self.agreed += int(gap == 0)
        self.tied += int(0 < gap < TIED * np.ptp(expected))

    @property
    def relative(self) -> float:
        """The difference as a share of the logits' range; infinite if something is not finite."""
        share = self.delta / self.spread if self.spread else float("inf")
        return share if np.isfinite(share) else float("inf")


@dataclass
class Plan:
    """Which operators of `step` a delegate has taken."""
    nodes: int
    delegated: int
    partitions: int
    outside: dict[str, int] = field(default_factory=dict)   # the others, but for state bookkeeping


def free_run(brain: Brain, judges: Sequence[Step], steps: int, seed: int = 0) -> list[Agreement]:
    """Lets the brain talk to itself at temperature 1, and compares it to each judge. Ends with the
    first logits that are not finite."""
    rng, found = np.random.default_rng(seed), [Agreement() for _ in judges]
    brain.reset()
    byte = int(rng.integers(256))
    for _ in range(steps):
        logits = brain.step(byte)
        for judge, agreement in zip(judges, found, strict=True):
            agreement.see(logits, judge(byte))
        if not np.isfinite(logits).all():
            break
        byte = choose(logits, 1.0, rng)
    return found


def replays(brain: Brain, other: Brain, steps: int = 100) -> bool:
    """Whether two files say exactly the same."""
    other.reset()
    return free_run(brain, [other.step], steps)[0].delta == 0


def exact_match(brain: Brain, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Answers that the brain gives byte for byte, END included, by task and level."""
    groups: dict[tuple[str, int], list[bool]] = {}
    for item in dict.fromkeys(items):
        brain.reset()
        answer = bytes(brain.generate_bytes(item.prompt, len(item.answer) + 1, stop=END))
        groups.setdefault((item.task, item.level), []).append(answer == item.answer)
    return [{"task": task, "level": level, "correct": sum(hits), "count": len(hits)}
            for (task, level), hits in groups.items()]


def plan_of(interpreter: Any) -> Plan:
    """Exact: what a DELEGATE node gives is walked back to what it takes; then every operator that
    reads what only exists inside of a partition is in it too (assignments give nothing)."""
    operators = interpreter._get_ops_details()
    own = [o for o in operators if o["op_name"] != "DELEGATE"]
    delegates = [o for o in operators if o["op_name"] == "DELEGATE"]
    maker = {int(t): i for i, o in enumerate(own) for t in o["outputs"]}
    taken: set[int] = set()
    given = {int(t) for d in delegates for t in d["outputs"]}
    for d in delegates:
        stop, todo = {int(t) for t in d["inputs"]}, [int(t) for t in d["outputs"]]
        while todo:
            tensor = todo.pop()
            if tensor not in stop and tensor in maker and maker[tensor] not in taken:
                taken.add(maker[tensor])
                todo += [int(t) for t in own[maker[tensor]]["inputs"] if t >= 0]
    grown = True
    while grown:
        inside = {int(t) for i in taken for t in own[i]["outputs"]} - given
        more = {i for i, o in enumerate(own) if i not in taken
                and inside & {int(t) for t in o["inputs"]}}
        taken, grown = taken | more, bool(more)
    outside = Counter(o["op_name"] for i, o in enumerate(own) if i not in taken)
    return Plan(len(own), len(taken), len(delegates),
                {name: n for name, n in sorted(outside.items()) if name not in BOOKKEEPING})


@dataclass
class Report:
    """What verification found."""
    runtime: str
    reference: Agreement
    trainer: Agreement
    holdout: list[dict[str, Any]]       # of the file, by task and level
    checkpoint: list[dict[str, Any]]    # of the trainer on the same items
    plan: Plan
    p50_us: float
    p99_us: float
    size: int = 0                       # bytes of the file that was written


def exact(scores: list[dict[str, Any]]) -> float:
    """Share of right answers over all tasks."""
    return sum(s["correct"] for s in scores) / max(1, sum(s["count"] for s in scores))


def verify(brain: Brain, reference: Reference, trainer: Step, items: Sequence[Item],
           checkpoint: list[dict[str, Any]], steps: int = 1000) -> Report:
    """Runs everything; nothing is written. `checkpoint`: what the trainer scores on the items."""
    reference.reset()
    judged, trained = free_run(brain, [reference.step, trainer], steps)
    brain.reset()
    brain.step_times_s.clear()
    for i in range(steps):
        brain.step(i % 256)
    p50, p99 = brain.latency_us()
    return Report(brain.runtime, judged, trained, exact_match(brain, items), checkpoint,
                  plan_of(brain.interpreter), p50, p99)


def fault(report: Report, weights: str) -> str:
    """Why a file must not be used, or nothing."""
    for name, agreement in (("reference", report.reference), ("trainer", report.trainer)):
        if not agreement.relative <= FAULTLESS[weights]:
            return f"its logits differ from the {name}'s by {agreement.relative:.1e} of their range"
    lost = exact(report.checkpoint) - exact(report.holdout)
    if lost > MOST_LOST:
        return f"it has {100 * lost:.1f} points less of the holdout right than the checkpoint"
    return ""


def table(report: Report) -> str:
    """The report in lines."""
    plan = report.plan
    outside = ", ".join(f"{n} {name}" for name, n in plan.outside.items()) or "nothing"
    lines = [f"{'runtime':<12}{report.runtime}"]
    for name, agreement in (("reference", report.reference), ("trainer", report.trainer)):
        ties = f" (and {agreement.tied} ties)" if agreement.tied else ""
        lines.append(f"{name:<12}same likeliest byte in {agreement.agreed} of {agreement.steps} "
                     f"steps{ties}, logits within {agreement.delta:.1e} "
                     f"({agreement.relative:.1e} of their range)")
    lines += [f"{'holdout':<12}{100 * exact(report.holdout):.1f} % exact, the checkpoint "
              f"{100 * exact(report.checkpoint):.1f} %",
              f"{'plan':<12}{plan.delegated} of {plan.nodes} operators in {plan.partitions} "
              f"partition{'s' * (plan.partitions != 1)}, outside: {outside}",
              f"{'size':<12}{report.size:,} bytes",
              f"{'step':<12}{report.p50_us:.0f} us median, {report.p99_us:.0f} us p99, 1 thread"]
    return "\n".join(lines)
