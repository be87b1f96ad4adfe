"""Whether this machine computes what was verified: some bytes, and the logits after the last.

The exporter writes the file's own logits where it verified them. Float arithmetic gives the same on
other machines, to the last digits. That of int8 on LiteRT rounds activations to 8 bits, and does so
differently from one architecture to another.
"""
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sealed_file import BrainError
from .tflite import installed_runtime

BYTES = b"Seed: 12+30=42.\n"
TOLERANCE, INTEGER_TOLERANCE = 1e-4, 2e-3   # differences, as fractions of the logits' range
DIGITS = 7           # of a logit in the file


@dataclass(frozen=True)
class SelfTest:
    """The result of a file that gives the logits that it should. `delta`: how far they are apart,
    as a fraction of their range."""
    delta: float
    tolerance: float
    verified_on: str
    here: str
    is_same_machine: bool
    is_integer: bool

    def describe(self) -> str:
        """In a line for a person."""
        text = (f"logits within {self.delta:.1e} of their range ({self.tolerance:g} allowed); "
                f"verified on {self.verified_on}, this is {self.here}")
        if self.is_integer and not self.is_same_machine:
            text += "; int8 arithmetic differs between machines: export and verify it here too"
        return text


def measure_selftest(brain: Any, data: Sequence[int] = BYTES) -> dict[str, Any]:
    """What a file says of its own self-test, measured here with that file."""
    logits = _logits(brain, list(data))
    tolerance = INTEGER_TOLERANCE if _is_integer(brain.description) else TOLERANCE
    return {"machine": platform.machine() or "unknown", "runtime": installed_runtime(),
            "bytes": list(data), "tolerance": tolerance,
            "logits": [float(f"{logit:.{DIGITS}g}") for logit in logits.tolist()]}


def run_selftest(brain: Any) -> SelfTest:
    """Raises BrainError if the file has no self-test, or gives other logits here."""
    fields = brain.description.get("selftest")
    if fields is None:
        raise BrainError(f"{brain.name} has no self-test: it was not verified; export it without "
                         f"--no-verify")
    expected = np.array(fields["logits"])
    difference = np.abs(_logits(brain, fields["bytes"]) - expected).max()
    machine = platform.machine() or "unknown"
    test = SelfTest(
        float(difference / max(np.ptp(expected), 1e-9)), fields["tolerance"],
        f"{fields['machine']} with {fields['runtime']}", f"{machine} with {installed_runtime()}",
        machine == fields["machine"], _is_integer(brain.description))
    if not test.delta <= test.tolerance:   # or not finite
        raise BrainError(f"{brain.name} gives other logits here than where it was verified: "
                         f"{test.describe().partition('; int8')[0]}; export and verify it on this "
                         f"machine")
    return test


def _logits(brain: Any, data: list[int]) -> np.ndarray:
    """After these bytes from a fresh state; the state is a fresh one afterwards."""
    brain.reset()
    for byte in data:
        logits = brain.step(byte)
    brain.reset()
    return logits


def _is_integer(description: dict[str, Any]) -> bool:
    """Whether its products are computed in 8 bits: portable files only store them so."""
    return (description.get("weights"), description.get("target")) == ("int8", "litert")
