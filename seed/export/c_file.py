"""From a checkpoint to a C source that is verified: compiled here, it has to give the bits of the
kernels that train, over bytes that it samples itself."""
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
from seed.export.reference import Reference
from seed.export.verify import MAX_RELATIVE_DELTA, Agreement, free_run
from seed.storage import RunDir, atomic_file
from seed.storage.output_file import check_output
from seed.storage.run_dir import Log
from seed.wavecore.compiler import find_compiler, run_compiler

STEPS = 1000
LOGITS = 256
# What a program that compiles the file by itself does not need: it has sizeof.
STATE_BYTES = b"\nconst uint32_t brain_state_bytes = sizeof(brain_state);\n"
MACHINE_FLAGS = {"x86_64": ["-march=native"]}   # others have fused multiply-adds without a flag
COMPILERS = ("clang", "gcc")


class CompiledBrain:
    """A C source, compiled for this machine and loaded, with its state."""

    def __init__(self, source: bytes, compiler: str):
        """Raises CompilerLost if it cannot be compiled, OSError if not loaded."""
        flags = [*FLAGS, *MACHINE_FLAGS.get(platform.machine(), [])]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "brain.so"
            run_compiler([compiler, *flags, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)],
                         source + STATE_BYTES)
            library = ctypes.CDLL(str(path))
        size = ctypes.c_uint32.in_dll(library, "brain_state_bytes").value
        self.state = ctypes.create_string_buffer(size)
        self._logits = (ctypes.c_float * LOGITS)()
        self._reset, self._step = library.brain_reset, library.brain_step
        self._step.argtypes = [ctypes.c_void_p, ctypes.c_uint8, ctypes.c_void_p]
        self._step.restype = self._reset.restype = None
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
            str(self.path), f"{'compiler':<12}{report.compiler} {' '.join(FLAGS)}",
            f"{'trainer':<12}the same bits in {report.trainer.steps} steps",
            f"{'reference':<12}same likeliest byte in {report.reference.agreed} of "
            f"{report.reference.steps} steps, logits within "
            f"{report.reference.relative_delta:.1e} of their range",
            f"{'size':<12}{self.size:,} bytes",
            f"{'step':<12}{report.p50_us:.1f} us median, 1 thread"])


def build_c(run_dir: RunDir, out: Path | None = None, threads: int = 1, verified: bool = True,
            log: Log = print, options: Options = Options(), check_rate: bool = False) -> CFile:
    """Writes the newest brain of a run directory as a C source, `out` or brain.c in it.

    If `verified` and there is a C compiler, it first runs beside the trainer and the numpy
    reference. Raises ExportError if it differs from either, ConfigError if there is no brain, it is
    one that acts, an option is for TFLite files or `out` cannot be used, CheckpointError; nothing
    is written then.
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
    if report and report.trainer.max_delta:
        raise ExportError(f"{path} was not written: compiled by {report.compiler} its logits are "
                          f"not the trainer's, but {report.trainer.relative_delta:.1e} of their "
                          f"range away; name another compiler in CC")
    if report and not report.reference.relative_delta <= MAX_RELATIVE_DELTA["float32"]:
        raise ExportError(f"{path} was not written: its logits differ from the reference's by "
                          f"{report.reference.relative_delta:.1e} of their range; export another "
                          f"checkpoint")
    atomic_file.write(path, source)
    return CFile(path, len(source), report, reason)


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
    reference = Reference(trained.profile.model, trained.params)
    trained.decoder.reset()
    to_reference, to_trainer = free_run(
        brain, [reference.step, lambda byte: trained.decoder.prefill(bytes([byte]))], steps)
    return CReport(compiler, to_reference, to_trainer, brain.step_us())
