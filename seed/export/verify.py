"""Runs an exported file beside the numpy reference, the trainer and its scores on the holdout."""
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from seed.curriculum.prompt_questions import questions_are_right
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.export.reference import Reference
from seed.runtime import Brain, choose
from seed.runtime.selftest import BYTES

if TYPE_CHECKING:   # a file is judged where there are no checkpoints too
    from seed.evaluation import TrainedBrain

StepFn = Callable[[int], np.ndarray]     # a byte to the logits (v,) after it
# Largest difference as a fraction of the logits' range: more is a fault of the exporter.
MAX_RELATIVE_DELTA = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}
# As a fraction of a step's range: if the expected logit of the chosen byte is this close to the
# best, the report counts a tie, not a fault. Nothing passes because of it.
MAX_TIE_GAP = 2e-5
# A turn of a state this close to where it is rounded otherwise, in parts and for each unit of
# MAX_RELATIVE_DELTA, may be so in the file. From then on both states are apart, and all begin anew,
# in this fraction of the steps at most.
TURN_MARGIN, MAX_RESTARTS = 10.0, 0.02
MAX_ACCURACY_DROP = 0.05   # on the holdout: weights that cost more are not worth their size
STATE_OPERATORS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")   # never delegated


@dataclass
class Agreement:
    """How far two brains' logits are apart over the same bytes."""
    steps: int = 0
    max_delta: float = 0.0      # largest difference of a logit
    max_range: float = 0.0      # largest range of the expected logits of one step
    agreed: int = 0             # steps with the same likeliest byte
    tied: int = 0               # steps with another one, which the expected logits call a tie
    restarts: int = 0           # steps that do not count: a turn of a state was rounded otherwise

    def add(self, logits: np.ndarray, expected: np.ndarray) -> None:
        """Counts one step's logits (v,)."""
        self.steps += 1
        delta = float(np.abs(logits - expected).max())
        self.max_delta = max(self.max_delta, delta if np.isfinite(delta) else float("inf"))
        self.max_range = max(self.max_range, float(np.ptp(expected)))
        gap = float(expected.max() - expected[logits.argmax()])
        if gap == 0:
            self.agreed += 1
        elif 0 < gap < MAX_TIE_GAP * np.ptp(expected):
            self.tied += 1

    @property
    def relative_delta(self) -> float:
        """The difference as a fraction of the logits' range; infinite if anything is not finite."""
        fraction = self.max_delta / self.max_range if self.max_range else float("inf")
        return fraction if np.isfinite(fraction) else float("inf")


@dataclass
class DelegateCoverage:
    """Which operators of `step` a delegate takes."""
    operators: int
    delegated: int
    partitions: int
    outside: dict[str, int] = field(default_factory=dict)   # all others but STATE_OPERATORS


class ReadsBytes(Protocol):
    """What reads bytes, as Brain does."""

    def reset(self) -> None: ...

    def step(self, byte: int) -> np.ndarray: ...


class Turns:
    """What the reference knows of the turns of its state."""

    def __init__(self, reference: Reference, max_delta: float, steps: int,
                 reset_fns: Sequence[Callable[[], None]] = ()):
        """`max_delta`: of a file's logits, as a fraction of their range; `reset_fns` of all that is
        compared beside the reference."""
        self.reference, self.max_delta, self.reset_fns = reference, max_delta, reset_fns
        self._restarts_left = MAX_RESTARTS * steps

    def explain(self, logits: np.ndarray, expected: Sequence[np.ndarray]) -> bool:
        """Whether these logits may be further apart than they should be because one of the turns
        was rounded otherwise; then all are reset."""
        if (self.reference.least_margin > TURN_MARGIN * self.max_delta or self._restarts_left < 1
                or not any(np.abs(logits - row).max() > self.max_delta * np.ptp(row)
                           for row in expected)):
            return False
        self._restarts_left -= 1
        for reset_fn in (self.reference.reset, *self.reset_fns):
            reset_fn()
        return True


def free_run(brain: ReadsBytes, expected_fns: Sequence[StepFn], steps: int, seed: int = 0,
             turns: Turns | None = None) -> list[Agreement]:
    """Feeds the brain its own samples at temperature 1, until its logits are not finite, and
    compares them to each function's. `turns`: of the reference among them, where states turn."""
    rng, agreements = np.random.default_rng(seed), [Agreement() for _ in expected_fns]
    brain.reset()
    byte = int(rng.integers(256))
    for _ in range(steps):
        logits = brain.step(byte)
        expected = [expected_fn(byte) for expected_fn in expected_fns]
        is_explained = turns is not None and turns.explain(logits, expected)
        if is_explained:
            brain.reset()
        for agreement, row in zip(agreements, expected, strict=True):
            if is_explained:
                agreement.restarts += 1
            else:
                agreement.add(logits, row)
        if not np.isfinite(logits).all():
            break
        byte = choose(logits, 1.0, rng)
    return agreements


def same_logits(first: Brain, second: Brain, steps: int = 100) -> bool:
    """Whether two files give exactly the same logits."""
    second.reset()
    return free_run(first, [second.step], steps)[0].max_delta == 0


def exact_match(brain: Brain, items: Sequence[Item]) -> list[dict[str, Any]]:
    """By task and level, how many answers are right byte for byte, END included, and what is asked
    inside their prompts."""
    groups: dict[tuple[str, int], list[bool]] = {}
    for item in dict.fromkeys(items):
        brain.reset()
        answer = bytes(brain.generate_bytes(item.prompt, len(item.answer) + 1, stop=END))
        is_right = answer == item.answer
        if is_right and item.questions:
            brain.reset()
            is_right = questions_are_right(item, np.array(
                [brain.step(byte) for byte in item.prompt]))
        groups.setdefault((item.task, item.level), []).append(is_right)
    return [{"task": task, "level": level, "correct": sum(hits), "count": len(hits)}
            for (task, level), hits in groups.items()]


def delegate_coverage(interpreter: Any) -> DelegateCoverage:
    """Walks from each DELEGATE node's outputs back to its inputs; an operator that reads what only
    exists inside a partition is delegated too (assignments have no outputs to walk back from)."""
    details = interpreter._get_ops_details()
    operators = [o for o in details if o["op_name"] != "DELEGATE"]
    delegates = [o for o in details if o["op_name"] == "DELEGATE"]
    producer = {int(t): i for i, o in enumerate(operators) for t in o["outputs"]}
    delegated: set[int] = set()
    delegate_outputs = {int(t) for d in delegates for t in d["outputs"]}
    for d in delegates:
        inputs, pending = {int(t) for t in d["inputs"]}, [int(t) for t in d["outputs"]]
        while pending:
            tensor = pending.pop()
            i = producer.get(tensor)
            if i is not None and tensor not in inputs and i not in delegated:
                delegated.add(i)
                pending += [int(t) for t in operators[i]["inputs"]]   # -1 has no producer
    readers = set(delegated)
    while readers:
        inside = {int(t) for i in delegated for t in operators[i]["outputs"]} - delegate_outputs
        readers = {i for i, o in enumerate(operators) if i not in delegated
                   and not inside.isdisjoint(map(int, o["inputs"]))}
        delegated |= readers
    outside = Counter(o["op_name"] for i, o in enumerate(operators) if i not in delegated)
    return DelegateCoverage(len(operators), len(delegated), len(delegates), {
        name: n for name, n in sorted(outside.items()) if name not in STATE_OPERATORS})


@dataclass
class Report:
    """What verification measured."""
    runtime: str
    reference: Agreement
    trainer: Agreement
    holdout: list[dict[str, Any]]       # scores of the file, by task and level
    checkpoint: list[dict[str, Any]]    # the trainer's on the same items
    delegate: DelegateCoverage
    p50_us: float
    p99_us: float


def accuracy(scores: list[dict[str, Any]]) -> float:
    """Fraction of right answers over all tasks."""
    return sum(s["correct"] for s in scores) / max(1, sum(s["count"] for s in scores))


def verify(brain: Brain, trained: "TrainedBrain", items: Sequence[Item],
           checkpoint: list[dict[str, Any]], steps: int = 1000) -> Report:
    """Measures everything; writes nothing. `checkpoint`: the trainer's scores on the items."""
    weights = brain.description["weights"]
    to_reference, to_trainer = beside(brain, trained, steps, MAX_RELATIVE_DELTA[weights])
    brain.reset()
    brain.step_times_s.clear()
    for i in range(steps):
        brain.step(i % 256)
    p50_us, p99_us = brain.latency_us()
    return Report(brain.runtime, to_reference, to_trainer, exact_match(brain, items), checkpoint,
                  delegate_coverage(brain.interpreter), p50_us, p99_us)


def beside(brain: ReadsBytes, trained: "TrainedBrain", steps: int,
           max_delta: float) -> list[Agreement]:
    """A free run beside the reference and the trainer."""
    reference, decoder = Reference(trained.profile.model, trained.params), trained.decoder
    decoder.reset()
    return free_run(brain, [reference.step, lambda byte: decoder.prefill(bytes([byte]))], steps,
                    turns=Turns(reference, max_delta, steps, [decoder.reset]))


def steady_bytes(reference: Reference) -> list[int]:
    """Bytes for a self-test: those during which a turn of a state is least likely to be rounded
    otherwise on another machine."""
    margins: dict[bytes, float] = {}
    for first in range(BYTES[0], 128):
        data = bytes([first]) + BYTES[1:]
        reference.reset()
        for byte in data:
            reference.step(byte)
        margins[data] = reference.least_margin
        if np.isinf(reference.least_margin):   # nothing turns
            break
    best = max(margins, key=margins.__getitem__)
    return list(best)


def rejection_reason(report: Report, weights: str) -> str:
    """Why a file must not be used, and what to do; empty if it is good."""
    for name, agreement in (("reference", report.reference), ("trainer", report.trainer)):
        if not agreement.relative_delta <= MAX_RELATIVE_DELTA[weights]:
            return (f"its logits differ from the {name}'s by {agreement.relative_delta:.1e} of "
                    f"their range; export another checkpoint, or use another TFLite runtime")
    drop = accuracy(report.checkpoint) - accuracy(report.holdout)
    if drop > MAX_ACCURACY_DROP:
        return (f"its holdout accuracy is {100 * drop:.1f} points below the checkpoint's; export "
                f"wider weights than {weights}")
    return ""


def table(report: Report, size: int) -> str:
    """The report in lines. `size`: bytes of the file."""
    coverage = report.delegate
    outside = ", ".join(f"{n} {name}" for name, n in coverage.outside.items()) or "nothing"
    lines = [f"{'runtime':<12}{report.runtime}"]
    for name, agreement in (("reference", report.reference), ("trainer", report.trainer)):
        ties = f" (and {agreement.tied} ties)" if agreement.tied else ""
        ties += (f" ({agreement.restarts} restarts where a turn was rounded otherwise)"
                 if agreement.restarts else "")
        lines.append(f"{name:<12}same likeliest byte in {agreement.agreed} of {agreement.steps} "
                     f"steps{ties}, logits within {agreement.max_delta:.1e} "
                     f"({agreement.relative_delta:.1e} of their range)")
    if accuracy(report.holdout) or accuracy(report.checkpoint):   # a brain may only act
        lines.append(f"{'holdout':<12}{100 * accuracy(report.holdout):.1f} % exact, the checkpoint "
                     f"{100 * accuracy(report.checkpoint):.1f} %")
    lines += [f"{'delegate':<12}takes {coverage.delegated} of {coverage.operators} operators in "
              f"{coverage.partitions} partition(s), outside: {outside}",
              f"{'size':<12}{size:,} bytes",
              f"{'step':<12}{report.p50_us:.0f} us median, {report.p99_us:.0f} us p99, 1 thread"]
    return "\n".join(lines)
