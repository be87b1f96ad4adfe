"""Times one step of an exported TFLite file and of a C source, which take turns, with one thread.

    python -m seed.bench.c_step brain.tflite brain.c

The TFLite figure is the runtime's own call, that of the C source a call through ctypes, once for
each compiler that is here. "of first" is the median of the turns' ratios to the TFLite file.
"""
import argparse
import shutil
from functools import partial
from pathlib import Path

from seed.bench.steps import STEPS_PER_TURN, TURNS, TimedFile
from seed.bench.turns import Turns
from seed.export.c_file import COMPILERS, CompiledBrain

BYTE = 65


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tflite", type=Path)
    parser.add_argument("c", type=Path)
    args = parser.parse_args()
    file, source = TimedFile(args.tflite), args.c.read_bytes()
    first = Turns(file.interpreter.invoke, STEPS_PER_TURN)
    contenders = {args.tflite.name: first}
    for compiler in filter(shutil.which, COMPILERS):
        brain = CompiledBrain(source, compiler)
        contenders[f"{args.c.name} {compiler}"] = Turns(partial(brain.call_step, BYTE),
                                                        STEPS_PER_TURN)
    for _ in range(TURNS):
        for turns in contenders.values():
            turns.turn()
    print(f"{file.runtime}\n{'file':<32}{'step us':>9}{'of first':>10}")
    for name, turns in contenders.items():
        print(f"{name:<32}{1e6 * turns.seconds:>9.2f}{turns.ratio(first).median:>10.2f}")


if __name__ == "__main__":
    main()
