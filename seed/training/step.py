"""One optimizer step, captured once as a graph, and the learner that takes it."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seed.config import DistillConfig, Profile
from seed.curriculum.dataset import Batch, SoftTargetBatch
from seed.curriculum.vocab import END
from seed.evaluation.forward_pass import forward_by_length
from seed.rng import Stream, stream
from seed.wavecore.optim import Optimizer
from seed.wavecore.decode import Rollout, Rollouts
from seed.wavecore import layout
from seed.wavecore.actor import init_body
from seed.wavecore.layout import BodyShape
from seed.wavecore.loss import SoftTargets
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.tinygrad_seam import Tensor, buffer_view, CapturedGraph, copy_into, zeros


class StepResult(NamedTuple):
    loss: float       # mean cross-entropy over the targets, nats
    grad_norm: float  # before clipping
    skipped: bool     # not finite, so nothing was changed


class TrainStep:
    """One optimizer step over `grad_accum_steps` micro-batches of (b, t), captured once.

    With `distill` a batch may have soft targets as well.
    """

    def __init__(self, model: WaveCore, optim: Optimizer, batch_size: int, seq_len: int,
                 grad_accum_steps: int = 1, distill: DistillConfig | None = None):
        self.optim, shape, dtypes = optim, (batch_size, seq_len), (np.int32, np.float32)
        self.inputs = [[zeros(shape, np.int32), zeros(shape, np.int32)]   # tokens, targets
                       for _ in range(grad_accum_steps)]
        if distill:
            for buffers in self.inputs:   # topk_ids, topk_probs
                buffers += [zeros((*shape, distill.top_k), dtype) for dtype in dtypes]
        self.inv_count = zeros((1,), np.float32)

        def step() -> Tensor:
            losses: list[Tensor] = []
            grads: list[Tensor] = []
            for tokens, targets, *topk in self.inputs:
                soft = SoftTargets(topk[0], topk[1], distill.temperature,
                                   distill.alpha) if distill else None
                loss, _ = model.loss(tokens, targets, self.inv_count, soft=soft)
                micro_grads = model.gradients(
                    loss, lambda name: not name.startswith(layout.BODIES))
                grads = [a + b for a, b in zip(grads, micro_grads)] if grads else micro_grads
                losses.append(loss)
                if grad_accum_steps > 1:  # so that one micro-batch's activations live at a time
                    Tensor.realize(loss, *grads)
            total = sum(losses[1:], start=losses[0]).reshape(1).contiguous()
            return total.realize(*optim.step(grads, total))
        self._step = CapturedGraph(step)

    def run(self, batch: Batch | SoftTargetBatch, lr: float) -> StepResult:
        """A batch of grad_accum_steps * b rows; targets < 0 count only if they have soft ones."""
        b = len(batch.tokens) // len(self.inputs)
        counts = batch.targets >= 0   # (rows, t)
        if isinstance(batch, SoftTargetBatch):
            counts = counts | (batch.topk_ids[..., 0] >= 0)
        for i, buffers in enumerate(self.inputs):
            for topk_ids in buffers[2:3]:
                buffer_view(topk_ids).fill(-1)   # none, unless the batch has them
            for buffer, values in zip(buffers, batch):
                copy_into(buffer, values[i * b:(i + 1) * b])
        copy_into(self.inv_count, np.array([1 / max(1, int(counts.sum()))], np.float32))
        copy_into(self.optim.lr, np.array([lr], np.float32))
        loss = float(buffer_view(self._step())[0])
        return StepResult(loss, self.optim.grad_norm(), self.optim.skipped())


class Learner:
    """A brain in training, its optimizer and their graphs; nothing is compiled before its use."""

    def __init__(self, profile: Profile, threads: int, bodies: Sequence[BodyShape] = ()):
        config, params = profile.train, init_params(profile.model, profile.train.seed)
        for body in bodies:
            params |= init_body(profile.model, body, config.seed)
        self.model = WaveCore(profile.model, params, threads, bodies=bodies)
        self.optim = Optimizer(self.model, config)
        self.step = TrainStep(self.model, self.optim, config.batch_size, config.seq_len,
                              config.grad_accum_steps,
                              profile.distill if profile.distill.parent else None).run
        self.forward = forward_by_length(self.model)
        self._rollouts: Rollouts | None = None

    def rollout(self, prompts: Sequence[bytes], max_bytes: int, temperature: float, seed: int,
                index: int) -> list[Rollout]:
        """Sampled answers: a pure function of the brain as it is now and of the arguments."""
        if self._rollouts is None or self._rollouts.rows < len(prompts):
            self._rollouts = Rollouts(self.model, len(prompts))
        return self._rollouts.answer(prompts, max_bytes, END, temperature,
                                     stream(seed, Stream.ROLLOUT, index))

    def state_dict(self) -> dict[str, np.ndarray]:
        return {**self.model.state_dict(), **self.optim.state_dict()}

    def load_state_dict(self, tensors: dict[str, np.ndarray]) -> None:
        self.optim.load_state_dict(tensors)
        self.model.load_state_dict({key: tensors[key] for key in self.model.state_dict()})
