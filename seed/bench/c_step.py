"""Times one step of an exported TFLite file and of a C source, which take turns, with one thread.

    python -m seed.bench.c_step brain.tflite brain.c

The TFLite figure is the runtime's own call, that of the C source a call through ctypes, once for
each compiler that is here. "of first" is the median of the turns' ratios to the TFLite file.
"""
import argparse
import shutil
from pathlib import Path
from statistics import median

from seed.bench.steps import STEPS_PER_TURN, TURNS, WARM_UP_STEPS, TimedFile
from seed.bench.worker import timed
from seed.export.c_file import COMPILERS, CompiledBrain

BYTE = 65


def row(name: str, turns: list[float], first: list[float]) -> str:
    ratio = median(a / b for a, b in zip(turns, first, strict=True))
    return f"{name:<32}{1e6 * median(turns):>9.2f}{ratio:>10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tflite", type=Path)
    parser.add_argument("c", type=Path)
    args = parser.parse_args()
    file, source = TimedFile(args.tflite), args.c.read_bytes()
    step_fns = {args.tflite.name: file.interpreter.invoke}
    for compiler in filter(shutil.which, COMPILERS):
        brain = CompiledBrain(source, compiler)
        step_fns[f"{args.c.name} {compiler}"] = lambda brain=brain: brain.call_step(BYTE)
    turns: dict[str, list[float]] = {name: [] for name in step_fns}
    for _ in range(TURNS):
        for name, step_fn in step_fns.items():
            turns[name].append(median(timed(step_fn, WARM_UP_STEPS, STEPS_PER_TURN)))
    print(f"{file.runtime}\n{'file':<32}{'step us':>9}{'of first':>10}")
    for name in step_fns:
        print(row(name, turns[name], turns[args.tflite.name]))


if __name__ == "__main__":
    main()
