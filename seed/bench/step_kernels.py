"""The kernels of a training step: their C texts, and the launches that a step is made of."""
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from seed.bench.worker import LR, batch
from seed.config import Profile
from seed.errors import BenchError
from seed.training.step import TrainStep
from seed.wavecore import kernel_lookup, kernel_set, tinygrad_seam
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.optim import Optimizer
from seed.wavecore.tinygrad_seam import CapturedGraph, Launch

CACHE_VARIABLE = "XDG_CACHE_HOME"
FUNCTION = re.compile(r"^void (\w+)\(", re.MULTILINE)
CAPTURE_STEPS = 3


@contextmanager
def compiled_anew(change_fn: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """All kernels are compiled, of a text that `change_fn` makes of theirs, and kept nowhere.
    Yields their own texts by the name of the C function."""
    texts: dict[str, str] = {}
    compile_fn = kernel_lookup.run_compiler

    def run(command: Sequence[str], c_text: bytes) -> bytes:
        text = c_text.decode()
        texts[FUNCTION.findall(text)[-1]] = text
        return compile_fn(command, change_fn(text).encode())
    before = {name: os.environ.pop(name, None) for name in (CACHE_VARIABLE, kernel_set.VARIABLE)}
    os.environ[CACHE_VARIABLE] = os.devnull   # which no cache can be made in
    setattr(kernel_lookup, "run_compiler", run)
    try:
        tinygrad_seam.install()
        yield texts
    finally:
        setattr(kernel_lookup, "run_compiler", compile_fn)
        del os.environ[CACHE_VARIABLE]
        os.environ.update({name: text for name, text in before.items() if text is not None})
        tinygrad_seam.install()


class Step:
    """A training step of an untrained brain."""

    def __init__(self, profile: Profile, threads: int):
        model = WaveCore(profile.model, init_params(profile.model, profile.train.seed), threads)
        config = replace(profile.train, grad_accum_steps=1)
        self.train_step = TrainStep(model, Optimizer(model, config), config.batch_size,
                                    config.seq_len)
        self._batch = batch(profile)
        for _ in range(CAPTURE_STEPS):
            self.run()
        if not self.graph.is_replayed:
            raise BenchError("a step is not a list of launches: tinygrad captured another call")

    @property
    def graph(self) -> CapturedGraph:
        return self.train_step.graph

    def run(self) -> None:
        self.train_step.run(self._batch, LR)

    def launches(self) -> list[Launch]:
        return self.graph.launches()
