"""One optimizer step, captured once as a graph, and the learner that takes it."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

from seed.config import DistillConfig, Profile
from seed.curriculum.dataset import Batch, SoftTargetBatch
from seed.curriculum.vocab import END
from seed.evaluation.forward_pass import varlen_forward
from seed.rng import Stream, stream
from seed.wavecore.optim import Optimizer
from seed.wavecore.decode import Rollout, Rollouts
from seed.wavecore import layout
from seed.wavecore.actor import init_body
from seed.wavecore.average import Average
from seed.wavecore.carried import Hearing
from seed.wavecore.layout import BodyShape
from seed.wavecore.loss import SoftTargets
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.tinygrad_seam import Tensor, buffer_view, CapturedGraph, zeros


class StepResult(NamedTuple):
    loss: float       # mean cross-entropy over the targets, nats
    grad_norm: float  # before clipping
    skipped: bool     # not finite, so nothing was changed


class TrainStep:
    """One optimizer step over `grad_accum_steps` micro-batches of (b, t), captured once.

    With `distill` a batch may have soft targets as well. With `hears`, rows may begin with a state.
    """

    def __init__(self, model: WaveCore, optim: Optimizer, batch_size: int, seq_len: int,
                 grad_accum_steps: int = 1, distill: DistillConfig | None = None,
                 hears: bool = False):
        self.optim, shape, dtypes = optim, (batch_size, seq_len), (np.int32, np.float32)
        self.inputs = [[zeros(shape, np.int32), zeros(shape, np.int32)]   # tokens, targets
                       for _ in range(grad_accum_steps)]
        if distill:
            for buffers in self.inputs:   # topk_ids, topk_probs
                buffers += [zeros((*shape, distill.top_k), dtype) for dtype in dtypes]
        self._input_views = [[buffer_view(tensor) for tensor in buffers] for buffers in self.inputs]
        self.inv_count = zeros((1,), np.float32)
        self._inv_count, self._lr = buffer_view(self.inv_count), buffer_view(optim.lr)
        state = model.init_state(batch_size) if hears else model.empty_state(batch_size)
        self._state = [array for layer in state for array in layer]

        def step() -> list[Tensor]:
            losses: list[Tensor] = []
            grads: list[Tensor] = []
            for tokens, targets, *topk in self.inputs:
                soft = SoftTargets(topk[0], topk[1], distill.temperature,
                                   distill.alpha) if distill else None
                loss, after = model.loss(tokens, targets, self.inv_count, state, soft)
                micro_grads = model.gradients(
                    loss, lambda name: not name.startswith(layout.BODIES))
                grads = [a + b for a, b in zip(grads, micro_grads)] if grads else micro_grads
                losses.append(loss)
                if grad_accum_steps > 1:  # so that one micro-batch's activations live at a time
                    Tensor.realize(loss, *grads)
            total = sum(losses[1:], start=losses[0]).reshape(1).contiguous()
            outputs = [total, *(array for layer in after for array in layer if hears)]
            Tensor.realize(*outputs, *optim.step(grads, total))
            return outputs
        self.graph = CapturedGraph(step, model.arena)

    def run(self, batch: Batch | SoftTargetBatch, lr: float,
            hearing: Hearing | None = None) -> StepResult:
        """A batch of grad_accum_steps * b rows; targets < 0 count only if they have soft ones.
        `hearing`: of the first rows of each micro-batch; it takes the state after the last one."""
        b = len(batch.tokens) // len(self.inputs)
        counts = batch.targets >= 0   # (rows, t)
        if isinstance(batch, SoftTargetBatch):
            counts = counts | (batch.topk_ids[..., 0] >= 0)
        for i, views in enumerate(self._input_views):
            for topk_ids in views[2:3]:
                topk_ids.fill(-1)   # none, unless the batch has them
            for view, values in zip(views, batch):
                np.copyto(view, values[i * b:(i + 1) * b], casting="no")
        self._inv_count[0], self._lr[0] = 1 / max(1, int(counts.sum())), lr
        for array, before in zip(self._state, hearing.state if hearing else ()):
            buffer_view(array)[:len(before)] = before
        total, *after = (buffer_view(output) for output in self.graph())
        if hearing:
            n = len(hearing.state[0])
            hearing.take_fn([array[:n] for array in after])
            for array in self._state:
                buffer_view(array)[:n] = 0
        return StepResult(float(total[0]), self.optim.grad_norm(), self.optim.skipped())


class Learner:
    """A brain in training, its optimizer and their graphs; nothing is compiled before its use. A
    brain with bodies is not averaged: weights learn to act from what just they have done."""

    def __init__(self, profile: Profile, threads: int, bodies: Sequence[BodyShape] = ()):
        config, params = profile.train, init_params(profile.model, profile.train.seed)
        for body in bodies:
            params |= init_body(profile.model, body, config.seed)
        self.model = WaveCore(profile.model, params, threads, bodies=bodies)
        self.optim = Optimizer(self.model, config)
        self.step = TrainStep(self.model, self.optim, config.batch_size, config.seq_len,
                              config.grad_accum_steps,
                              profile.distill if profile.distill.parent else None,
                              hears=bool(profile.body.rounds)).run
        self._average = Average(self.model, config.average_fraction) if (
            config.average_fraction and not bodies) else None
        self.forward = varlen_forward(self.model)
        self._rollouts: Rollouts | None = None

    @contextmanager
    def as_brain(self) -> Iterator[None]:
        """It is asked as the brain that a checkpoint has, which may be the mean of weights."""
        with self._average.used() if self._average else nullcontext():
            yield

    @property
    def max_bytes(self) -> int:
        """Of what `state_dict` returns."""
        weights = sum(array.nbytes for array in self.model.state_dict().values())
        moments = sum(array.nbytes for array in self.optim.state_dict().values())
        return (2 if self._average else 1) * weights + moments

    def rollout(self, prompts: Sequence[bytes], max_bytes: int, temperature: float, seed: int,
                index: int) -> list[Rollout]:
        """Sampled answers: a pure function of the brain as it is now and of the arguments."""
        if self._rollouts is None or self._rollouts.rows < len(prompts):
            self._rollouts = Rollouts(self.model, len(prompts))
        return self._rollouts.answer(prompts, max_bytes, END, temperature,
                                     stream(seed, Stream.ROLLOUT, index))

    def follow(self, step: int, rate: float, is_last: bool) -> None:
        """As `Average.follow`, of a brain without bodies."""
        if self._average:
            self._average.follow(step, rate, is_last)

    def load_weights(self, named: dict[str, np.ndarray]) -> None:
        """Of a brain that this one begins as."""
        (self._average or self.model).load_state_dict(named)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {**(self._average or self.model).state_dict(), **self.optim.state_dict()}

    def load_state_dict(self, tensors: dict[str, np.ndarray]) -> None:
        self.optim.load_state_dict(tensors)
        self.load_weights(tensors if self._average else {
            key: tensors[key] for key in self.model.state_dict()})
