"""Runs an exported file in whatever runtime is installed: `python judge.py FILE EXPECTED.npz`.

Prints as JSON how far its logits are from those expected, what the delegate takes, a generated
text, how many of the expected file's questions it answers, and what its self-test tells here.
Exits with 1 if a file with its type of weights must do better; ties are reported and excuse
nothing. Needs the package on PYTHONPATH, numpy and a TFLite runtime.
"""
import json
import sys
from pathlib import Path

import numpy as np

from seed.curriculum.task import Item
from seed.export.verify import MAX_RELATIVE_DELTA, Agreement, delegate_coverage, exact_match
from seed.runtime import Brain, BrainError


def selftest(brain: Brain) -> str:
    """Of another machine's arithmetic it may tell, which is no fault."""
    try:
        return brain.selftest().describe()
    except BrainError as error:
        return str(error)


def judge(path: str, expected_path: str) -> dict:
    expected = np.load(expected_path)
    brain, agreement = Brain(path), Agreement()
    for byte, logits in zip(expected["bytes"].tolist(), expected["logits"], strict=True):
        agreement.add(brain.step(byte), logits)
    coverage = delegate_coverage(brain.interpreter)
    items = [Item("", 1, prompt, answer) for prompt, answer in zip(
        expected["prompts"].tolist(), expected["answers"].tolist(), strict=True)]
    right = sum(level["correct"] for level in exact_match(brain, items))
    brain.reset()
    return {"runtime": brain.runtime, "weights": brain.description["weights"],
            "steps": agreement.steps, "agreed": agreement.agreed, "tied": agreement.tied,
            "relative_delta": agreement.relative_delta, "partitions": coverage.partitions,
            "outside": coverage.outside, "right": right, "questions": len(items),
            "size": Path(path).stat().st_size, "selftest": selftest(brain),
            "text": list(bytes(brain.generate_bytes(b"12+30=", 40, temperature=1.0, seed=3)))}


if __name__ == "__main__":
    measured = judge(*sys.argv[1:])
    print(json.dumps(measured))
    agrees = measured["weights"] != "float32" or measured["agreed"] == measured["steps"]
    near = measured["relative_delta"] < MAX_RELATIVE_DELTA[measured["weights"]]
    sys.exit(not (measured["partitions"] == 1 and near and agrees))
