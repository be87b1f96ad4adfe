"""Times one step of exported files, which take turns, with one thread.

    python -m seed.bench.steps brain.tflite peer.tflite

Two figures: the runtime's own call, and a whole step from Python: byte in, logits out, states kept.
Files of another exporter take the byte as an int32 input of one element, and states as inputs and
outputs in the same order.
"""
import argparse
import re
import time
from pathlib import Path
from statistics import median

import numpy as np

from seed.runtime import find_interpreter

TURNS, STEPS_PER_TURN, WARM_UP_STEPS = 20, 200, 20


def numbered(tensor: dict) -> tuple[str, list[int]]:
    """A tensor's name as a key that puts args_2 before args_10."""
    return re.sub(r"\d+", "", tensor["name"]), [int(n) for n in re.findall(r"\d+", tensor["name"])]


class Contender:
    """A file of any exporter."""

    def __init__(self, path: Path):
        make, self.runtime = find_interpreter()
        self.name, self.size = path.name, path.stat().st_size
        self.interpreter = make(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        if "reset" in self.interpreter.get_signature_list():
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        inputs = sorted(self.interpreter.get_input_details(), key=numbered)
        outputs = sorted(self.interpreter.get_output_details(), key=numbered)
        self.token = next(t["index"] for t in inputs if t["dtype"] == np.int32)
        into = [t for t in inputs if t["index"] != self.token]
        self.logits = next(t["index"] for t in outputs if tuple(t["shape"])[-1:] == (256,)
                           and len(t["shape"]) == 2)
        out = [t for t in outputs if t["index"] != self.logits]
        self.states = [(a["index"], b["index"]) for a, b in zip(into, out, strict=True)]
        self.interpreter.set_tensor(self.token, np.array([65], np.int32))
        for t in into:
            self.interpreter.set_tensor(t["index"], np.zeros(t["shape"], np.float32))

    def call(self) -> None:
        self.interpreter.invoke()

    def step(self) -> None:
        self.interpreter.set_tensor(self.token, np.array([65], np.int32))
        self.interpreter.invoke()
        self.interpreter.get_tensor(self.logits)
        for into, out in self.states:
            self.interpreter.set_tensor(into, self.interpreter.get_tensor(out))

    def turn(self, step_fn) -> list[float]:
        """Microseconds of each of one turn's steps."""
        for _ in range(WARM_UP_STEPS):
            step_fn()
        times = []
        for _ in range(STEPS_PER_TURN):
            started = time.perf_counter_ns()
            step_fn()
            times.append((time.perf_counter_ns() - started) / 1e3)
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    contenders = [Contender(path) for path in parser.parse_args().files]
    calls: dict[Contender, list[float]] = {c: [] for c in contenders}
    steps: dict[Contender, list[float]] = {c: [] for c in contenders}
    all_steps: dict[Contender, list[float]] = {c: [] for c in contenders}
    for _ in range(TURNS):
        for c in contenders:
            calls[c].append(median(c.turn(c.call)))
            times = c.turn(c.step)
            steps[c].append(median(times))
            all_steps[c] += times
    print(f"{contenders[0].runtime}\n{'file':<24}{'call us':>9}{'x last':>8}{'step us':>9}"
          f"{'x last':>8}{'p99 us':>8}{'bytes':>12}")
    last = contenders[-1]
    for c in contenders:
        ratios = [median(a / b for a, b in zip(times[c], times[last])) for times in (calls, steps)]
        print(f"{c.name:<24}{median(calls[c]):>9.1f}{ratios[0]:>8.2f}{median(steps[c]):>9.1f}"
              f"{ratios[1]:>8.2f}{np.percentile(all_steps[c], 99):>8.1f}{c.size:>12,}")


if __name__ == "__main__":
    main()
