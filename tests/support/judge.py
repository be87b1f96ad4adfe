"""Runs an exported file in whatever runtime is installed: `python judge.py FILE EXPECTED.npz`.

Prints as JSON how far its logits are from those expected, what the delegate took, the text that it
generates, and how many of the expected file's questions it answers. Exits with 1 unless that is
what a file of its kind of weights must do; a tie is no excuse, but it is told. Needs the package on
PYTHONPATH, numpy and a TFLite runtime.
"""
import json
import sys
from pathlib import Path

import numpy as np

from seed.curriculum.task import Item
from seed.export.verify import FAULTLESS, Agreement, exact_match, plan_of
from seed.runtime import Brain


def judge(path: str, expected: str) -> dict:
    found = np.load(expected)
    brain, agreement = Brain(path), Agreement()
    for byte, logits in zip(found["bytes"].tolist(), found["logits"], strict=True):
        agreement.see(brain.step(byte), logits)
    plan = plan_of(brain.interpreter)
    items = [Item("", 1, prompt, answer) for prompt, answer in zip(
        found["prompts"].tolist(), found["answers"].tolist(), strict=True)]
    right = sum(level["correct"] for level in exact_match(brain, items))
    brain.reset()
    return {"runtime": brain.runtime, "weights": brain.description["weights"],
            "steps": agreement.steps, "agreed": agreement.agreed, "tied": agreement.tied,
            "relative": agreement.relative, "partitions": plan.partitions, "outside": plan.outside,
            "right": right, "asked": len(items), "size": Path(path).stat().st_size,
            "text": list(bytes(brain.generate_bytes(b"12+30=", 40, temperature=1.0, seed=3)))}


if __name__ == "__main__":
    found = judge(*sys.argv[1:])
    print(json.dumps(found))
    agrees = found["weights"] != "float32" or found["agreed"] == found["steps"]
    near = found["relative"] < FAULTLESS[found["weights"]]
    sys.exit(not (found["partitions"] == 1 and near and agrees))
