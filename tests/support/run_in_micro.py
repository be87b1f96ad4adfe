"""Runs a file with explicit states in tflite-micro, within an arena of so many bytes:
`run_in_micro.py FILE EXPECTED.npz ARENA_BYTES`, in an environment with numpy and tflite-micro.

Prints as JSON how many likeliest bytes are those expected, and how far logits are from those, as a
fraction of their range.
"""
import json
import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def description_of(data: bytes) -> dict:
    start = data.index(b'{"blake2b":"')
    return json.loads(data[start:start + int.from_bytes(data[start - 4:start], "little")])


def run(path: str, expected_path: str, arena_bytes: int) -> dict:
    with open(path, "rb") as file:
        states = description_of(file.read())["states"].values()
    values = [np.full(state["shape"], state["start"], np.float32) for state in states]
    interpreter, expected = runtime.Interpreter.from_file(
        path, arena_size=arena_bytes), np.load(expected_path)
    agreed, delta = 0, 0.0
    for byte, wanted in zip(expected["bytes"].tolist(), expected["logits"]):
        for i, value in enumerate([np.array([byte], np.int32), *values]):
            interpreter.set_input(value, i)
        interpreter.invoke()
        logits = interpreter.get_output(0)[0]
        values = [interpreter.get_output(i + 1) for i in range(len(values))]
        agreed += int(logits.argmax() == wanted.argmax())
        delta = max(delta, float(np.abs(logits - wanted).max() / np.ptp(wanted)))
    return {"steps": len(expected["bytes"]), "agreed": agreed, "relative_delta": delta}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:3], int(sys.argv[3]))))
