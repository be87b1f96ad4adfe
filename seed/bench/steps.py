"""Times one step of exported files, which take turns, with one thread.

    python -m seed.bench.steps brain.tflite peer.tflite

Two figures: the runtime's own call, and a whole step from Python: byte in, logits out, states kept.
Files of another exporter take the byte as an int32 input of one element, and states as inputs and
outputs in the same order.
"""
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seed.bench import command_line
from seed.bench.turns import Turns, take_turns
from seed.curriculum.vocab import VOCAB_SIZE
from seed.errors import ConfigError
from seed.runtime import find_interpreter

TURNS, STEPS_PER_TURN = 20, 200
BYTE = 65   # that each step reads


def numbered(tensor: dict) -> tuple[str, list[int]]:
    """A tensor's name as a key that puts args_2 before args_10."""
    return re.sub(r"\d+", "", tensor["name"]), [int(n) for n in re.findall(r"\d+", tensor["name"])]


class TimedFile:
    """A file of any exporter; its runtime's calls and whole steps take turns."""

    def __init__(self, path: Path):
        """Raises OSError, BrainError if there is no runtime, ConfigError if the file has no step
        of a byte and its states alone."""
        make, self.runtime = find_interpreter()
        self.name, self.size = path.name, path.stat().st_size
        try:
            self.interpreter = make(model_path=str(path), num_threads=1)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"{path} cannot be run by {self.runtime}: {error}; name a TFLite "
                              f"file") from None
        if "reset" in self.interpreter.get_signature_list():
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        inputs = sorted(self.interpreter.get_input_details(), key=numbered)
        outputs = sorted(self.interpreter.get_output_details(), key=numbered)
        tokens = [t["index"] for t in inputs if t["dtype"] == np.int32]
        logits = [t["index"] for t in outputs if tuple(t["shape"])[-1:] == (VOCAB_SIZE,)
                  and len(t["shape"]) == 2]
        into = [t for t in inputs if t["index"] not in tokens]
        out = [t for t in outputs if t["index"] not in logits]
        if (len(tokens), len(logits)) != (1, 1) or (
                [tuple(t["shape"]) for t in into] != [tuple(t["shape"]) for t in out]):
            raise ConfigError(f"{path} has no step of a byte and its states alone: python -m "
                              f"seed.bench.control_steps times one that acts")
        self.token, self.logits = tokens[0], logits[0]
        self.states = [(a["index"], b["index"]) for a, b in zip(into, out, strict=True)]
        self.interpreter.set_tensor(self.token, np.array([BYTE], np.int32))
        for t in into:
            self.interpreter.set_tensor(t["index"], np.zeros(t["shape"], np.float32))
        self.calls = Turns(self.interpreter.invoke, STEPS_PER_TURN)
        self.steps = Turns(self.step, STEPS_PER_TURN)

    def step(self) -> None:
        self.interpreter.set_tensor(self.token, np.array([BYTE], np.int32))
        self.interpreter.invoke()
        self.interpreter.get_tensor(self.logits)
        for into, out in self.states:
            self.interpreter.set_tensor(into, self.interpreter.get_tensor(out))


def cells(turns: Turns, last: Turns) -> str:
    """Microseconds, and the ratio to the last file's."""
    return f"{1e6 * turns.seconds:>9.1f}{turns.ratio(last).median:>8.2f}"


def measured(paths: Sequence[Path]) -> str:
    """The table. Raises ConfigError, BrainError, OSError."""
    files = [TimedFile(path) for path in paths]
    take_turns((turns for file in files for turns in (file.calls, file.steps)), TURNS)
    last = files[-1]
    return "\n".join([
        files[0].runtime, f"{'file':<24}{'call us':>9}{'x last':>8}{'step us':>9}"
        f"{'x last':>8}{'p99 us':>8}{'bytes':>12}",
        *(f"{file.name:<24}{cells(file.calls, last.calls)}{cells(file.steps, last.steps)}"
          f"{1e6 * np.percentile(file.steps.turns, 99):>8.1f}{file.size:>12,}" for file in files)])


def main() -> int:
    parser = command_line.make_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    return command_line.run("steps", lambda: measured(args.files))


if __name__ == "__main__":
    sys.exit(main())
