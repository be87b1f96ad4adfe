"""From a checkpoint to a C source that is verified: compiled here, it has to give the bits of the
kernels that train, over bytes that it samples itself, and over observations at random."""
import ctypes
import platform
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from seed.errors import CompilerError, CompilerLost, ConfigError, ExportError
from seed.evaluation import TrainedBrain
from seed.export.c_source import FLAGS, MARK, c_source
from seed.export.graph import Options
from seed.export.verify import MAX_RELATIVE_DELTA, Agreement, beside
from seed.storage import RunDir, atomic_file
from seed.storage.output_file import check_output
from seed.storage.run_dir import Log
from seed.wavecore.compiler import find_compiler, run_compiler

STEPS = 1000
LOGITS = 256
# What a program that compiles the file by itself does not need: it has sizeof.
STATE_BYTES = b"\nconst uint32_t brain_state_bytes = sizeof(brain_state);\n"
CONTROL_LOGITS = b"""
int brain_act_logits(brain_state *state, const double *observation, const double *noise,
                     double *action, float *control) {
    return act(state, observation, noise, action, control);
}
"""
TICKS = 300             # of each body, with observations at random
BEYOND = 0.1            # of a channel's range, that they reach on either side
ABSENT_EVERY = 7        # numbers
MACHINE_FLAGS = {"x86_64": ["-march=native"]}   # others have fused multiply-adds without a flag
COMPILERS = ("clang", "gcc")


def flags() -> list[str]:
    """With which a source gives the bits of the kernels on this machine."""
    return [*FLAGS, *MACHINE_FLAGS.get(platform.machine(), [])]


class CompiledBrain:
    """A C source, compiled for this machine and loaded, with its state."""

    def __init__(self, source: bytes, compiler: str):
        """Raises CompilerLost if it cannot be compiled, OSError if not loaded."""
        acts = b"int brain_act(" in source
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "brain.so"
            run_compiler([compiler, *flags(), "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o",
                          str(path)], source + STATE_BYTES + (CONTROL_LOGITS if acts else b""))
            library = ctypes.CDLL(str(path))
        size = ctypes.c_uint32.in_dll(library, "brain_state_bytes").value
        self.state = ctypes.create_string_buffer(size)
        self._logits = (ctypes.c_float * LOGITS)()
        self._reset, self._step = library.brain_reset, library.brain_step
        self._step.argtypes = [ctypes.c_void_p, ctypes.c_uint8, ctypes.c_void_p]
        self._step.restype = self._reset.restype = None
        if acts:
            self._begin, self._act = library.brain_begin, library.brain_act_logits
            self._act.argtypes = [ctypes.c_void_p] * 5
        self.reset()

    def reset(self) -> None:
        self._reset(self.state)

    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) after one byte."""
        self.call_step(byte)
        return np.array(self._logits)

    def call_step(self, byte: int) -> None:
        """The step alone, to be timed."""
        self._step(self.state, byte, self._logits)

    def begin(self, body: int) -> bool:
        """An episode of a body, by its number; False if there is none of that number."""
        return not self._begin(self.state, body)

    def act(self, observation: np.ndarray, action: np.ndarray, control: np.ndarray,
            noise: np.ndarray | None = None) -> bool:
        """Writes the action (parts,), float64, and the logits of the control heads, float32; False
        if those are not finite. `noise`, float64, is added to those of the choices."""
        assert (observation.dtype, action.dtype, control.dtype) == (float, float, np.float32)
        return not self._act(self.state, observation.ctypes.data,
                             None if noise is None else noise.ctypes.data, action.ctypes.data,
                             control.ctypes.data)

    def step_us(self, steps: int = STEPS) -> float:
        """Median microseconds of a step, called from here."""
        seconds = []
        for i in range(steps):
            start = time.perf_counter()
            self.call_step(i % 256)
            seconds.append(time.perf_counter() - start)
        self.reset()
        return 1e6 * median(seconds)


@dataclass(frozen=True)
class CReport:
    """What verification measured."""
    compiler: str
    reference: Agreement
    trainer: Agreement
    p50_us: float
    same_ticks: dict[str, bool]   # by body, whether all had the trainer's bits and actions


@dataclass(frozen=True)
class CFile:
    """What was written; `report` is None if it was not verified, for which `reason` there may be
    one."""
    path: Path
    size: int   # bytes
    report: CReport | None = None
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        return {"size": self.size, "verified": bool(self.report),
                **(asdict(self.report) if self.report else {})}

    def describe(self) -> str:
        if self.report is None:
            why = f": {self.reason}" if self.reason else ""
            return f"{self.path}: {self.size:,} bytes, not verified{why}"
        report = self.report
        return "\n".join([
            str(self.path), f"{'compiler':<12}{report.compiler} {' '.join(flags())}",
            f"{'trainer':<12}the same bits in {report.trainer.steps} steps",
            *(f"{'acting':<12}{name}: the same bits and actions in {TICKS} ticks"
              for name in report.same_ticks),
            f"{'reference':<12}same likeliest byte in {report.reference.agreed} of "
            f"{report.reference.steps} steps, logits within "
            f"{report.reference.relative_delta:.1e} of their range",
            f"{'size':<12}{self.size:,} bytes",
            f"{'step':<12}{report.p50_us:.1f} us median, 1 thread"])


def build_c(run_dir: RunDir, out: Path | None = None, threads: int = 1, verified: bool = True,
            log: Log = print, options: Options = Options(), check_rate: bool = False) -> CFile:
    """Writes the newest brain of a run directory as a C source, `out` or brain.c in it.

    If `verified` and there is a C compiler, it first runs beside the trainer and the numpy
    reference. Raises ExportError if it differs from either, ConfigError if there is no brain, an
    option is for TFLite files or `out` cannot be used, CheckpointError; nothing is written then.
    """
    if options != Options() or check_rate:
        raise ConfigError("--c writes one step, with a struct for the state: leave out --target, "
                          "--explicit-state, --prefill and --check-rate")
    path = out or run_dir.exported_c
    trained = TrainedBrain.load(run_dir, threads, log)
    check_output("--out", path, "a C source of a brain", lambda head: head.startswith(MARK),
                 bool(out))
    source = c_source(trained)
    report, reason = None, ""
    if verified:
        try:
            report = verify_c(source, trained, any_compiler())
        except (CompilerError, CompilerLost, OSError) as error:
            reason = str(error)
    rejection = rejection_reason(report) if report else ""
    if rejection:
        raise ExportError(f"{path} was not written: {rejection}")
    atomic_file.write(path, source)
    return CFile(path, len(source), report, reason)


def rejection_reason(report: CReport) -> str:
    """Why a source must not be used, and what to do; empty if it is good."""
    by, change = f"compiled by {report.compiler}", "use another clang, or --no-verify"
    if report.trainer.max_delta:
        return (f"{by} its logits are not the trainer's, but {report.trainer.relative_delta:.1e} "
                f"of their range away; {change}")
    differs = [name for name, is_same in report.same_ticks.items() if not is_same]
    if differs:
        return f"{by} it does not act in {', '.join(differs)} as the trainer does; {change}"
    if not report.reference.relative_delta <= MAX_RELATIVE_DELTA["float32"]:
        return (f"its logits differ from the reference's by {report.reference.relative_delta:.1e} "
                f"of their range; export another checkpoint")
    return ""


def any_compiler() -> str:
    """That of the kernels, or else one that they cannot be built with. Raises CompilerError."""
    try:
        return find_compiler()
    except CompilerError:
        name = next(filter(shutil.which, COMPILERS), None)
        if name is None:
            raise CompilerError("there is no C compiler here") from None
        return name


def verify_c(source: bytes, trained: TrainedBrain, compiler: str, steps: int = STEPS) -> CReport:
    """Runs the source beside the reference and the trainer. Raises CompilerLost, OSError."""
    brain = CompiledBrain(source, compiler)
    to_reference, to_trainer = beside(brain, trained, steps, MAX_RELATIVE_DELTA["float32"])
    return CReport(compiler, to_reference, to_trainer, brain.step_us(), {
        name: acts_alike(brain, trained, number, name)
        for number, name in enumerate(trained.bodies)})


def acts_alike(brain: CompiledBrain, trained: TrainedBrain, number: int, name: str) -> bool:
    """Whether a body's logits and actions are the trainer's, bit for bit, for observations at
    random: the body itself does not run."""
    from seed.body.player import Player   # needs tinygrad
    codec, rng = trained.bodies[name].codec, np.random.default_rng(0)
    player, previous = Player(trained.model, codec, 1), np.full((1, len(codec.actions)), -1)
    low, high = (np.array([getattr(channel, end) for channel in codec.channels])
                 for end in ("low", "high"))
    action = np.empty(len(codec.actions))
    control = np.empty(codec.body.control.rows, np.float32)
    brain.reset()
    brain.begin(number)
    for _ in range(TICKS):
        observation = rng.uniform(low - BEYOND * (high - low), high + BEYOND * (high - low))
        observation[rng.random(len(observation)) < 1 / ABSENT_EVERY] = np.nan
        logits = player.tick(*codec.encode(codec.levels(observation[None])[0], previous))
        previous = codec.sample(logits)[1]
        numbers = [part[choice] for part, choice in zip(codec.actions, previous[0].tolist())]
        if not (brain.act(observation, action, control) and action.tolist() == numbers
                and control.tobytes() == logits[0].tobytes()):
            return False
    return True
