"""Times one step of an exported TFLite file and of a C source, which take turns, with one thread.

    python -m seed.bench.c_step brain.tflite brain.c

The TFLite figure is the runtime's own call, that of the C source a call through ctypes, once for
each compiler that is here. "of first" is the median of the turns' ratios to the TFLite file.
"""
import shutil
import sys
from functools import partial
from pathlib import Path

from seed.bench import command_line
from seed.bench.steps import BYTE, STEPS_PER_TURN, TURNS, TimedFile
from seed.bench.turns import Turns, take_turns
from seed.errors import ConfigError
from seed.export.c_file import COMPILERS, CompiledBrain
from seed.export.c_source import MARK


def measured(tflite: Path, c: Path) -> str:
    """The table. Raises ConfigError, BrainError, CompilerLost, OSError."""
    file, source = TimedFile(tflite), c.read_bytes()
    if not source.startswith(MARK):
        raise ConfigError(f"{c} is not a C source of a brain: write one with seed export --c")
    first = Turns(file.interpreter.invoke, STEPS_PER_TURN)
    contenders = {tflite.name: first}
    for compiler in filter(shutil.which, COMPILERS):
        brain = CompiledBrain(source, compiler)
        contenders[f"{c.name} {compiler}"] = Turns(partial(brain.call_step, BYTE), STEPS_PER_TURN)
    take_turns(contenders.values(), TURNS)
    return "\n".join([
        file.runtime, f"{'file':<32}{'step us':>9}{'of first':>10}",
        *(f"{name:<32}{1e6 * turns.seconds:>9.2f}{turns.ratio(first).median:>10.2f}"
          for name, turns in contenders.items())])


def main() -> int:
    parser = command_line.make_parser(__doc__)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("c", type=Path)
    args = parser.parse_args()
    return command_line.run("c_step", lambda: measured(args.tflite, args.c))


if __name__ == "__main__":
    sys.exit(main())
