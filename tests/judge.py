"""Runs an exported file in whatever runtime is installed: `python judge.py FILE EXPECTED.npz`.

Prints as JSON how far its logits are from those expected, what the delegate took, and the text that
it generates. Needs the package on PYTHONPATH, numpy and a TFLite runtime.
"""
import json
import sys

import numpy as np

from seed.export.verify import Agreement, plan_of
from seed.runtime import Brain


def judge(path: str, expected: str) -> dict:
    found = np.load(expected)
    brain, agreement = Brain(path), Agreement()
    for byte, logits in zip(found["bytes"].tolist(), found["logits"], strict=True):
        agreement.see(brain.step(byte), logits)
    plan = plan_of(brain.interpreter)
    return {"runtime": brain.runtime, "steps": agreement.steps, "agreed": agreement.agreed,
            "relative": agreement.relative, "partitions": plan.partitions, "outside": plan.outside,
            "text": list(bytes(brain.generate_bytes(b"12+30=", 40, temperature=1.0, seed=3)))}


if __name__ == "__main__":
    found = judge(*sys.argv[1:])
    print(json.dumps(found))
    sys.exit(not (found["partitions"] >= 1 and found["relative"] < 0.4))
