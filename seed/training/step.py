"""One optimizer step, captured once as a graph."""
from typing import NamedTuple

import numpy as np
from tinygrad import Tensor

from seed.config import DistillConfig
from seed.curriculum.dataset import Batch, SoftTargetBatch
from seed.training.optim import Optimizer
from seed.wavecore.model import WaveCore
from seed.wavecore.loss import SoftTargets
from seed.wavecore.tinygrad_seam import buffer_view, capture, copy_into


class StepResult(NamedTuple):
    loss: float       # mean cross-entropy over all that is learnt, nats
    grad_norm: float  # before clipping
    skipped: bool     # not finite, so nothing was changed


class TrainStep:
    """One optimizer step over `grad_accum_steps` micro-batches of (b, t), captured once.

    With `distill` a batch may say what a teacher expects as well.
    """

    def __init__(self, model: WaveCore, optim: Optimizer, batch_size: int, seq_len: int,
                 grad_accum_steps: int = 1, distill: DistillConfig | None = None):
        self.optim, self.micro = optim, grad_accum_steps
        shape, top = (batch_size, seq_len), (distill.top_k,) if distill else ()
        self.inputs = [(_buffer(shape, np.int32), _buffer(shape, np.int32))
                       for _ in range(grad_accum_steps)]
        self.said = [(_buffer(shape + top, np.int32), _buffer(shape + top, np.float32))
                     for _ in range(grad_accum_steps * len(top))]
        self.inv_count = _buffer((1,), np.float32)
        params = list(model.packed.values())

        def step() -> Tensor:
            losses: list[Tensor] = []
            grads: list[Tensor] = []
            for i, (tokens, targets) in enumerate(self.inputs):
                soft = SoftTargets(*self.said[i], distill.temperature,
                                   distill.alpha) if distill else None
                loss, _ = model.loss(tokens, targets, self.inv_count, soft=soft)
                own = loss.gradient(*params)
                grads = [a + b for a, b in zip(grads, own)] if grads else own
                losses.append(loss)
                if grad_accum_steps > 1:  # so that one micro-batch's activations live at a time
                    Tensor.realize(loss, *grads)
            total = sum(losses[1:], start=losses[0]).reshape(1).contiguous()
            return total.realize(*optim.step(grads, total))
        self._step = capture(step)

    def run(self, batch: Batch | SoftTargetBatch, lr: float) -> StepResult:
        """A batch of grad_accum_steps * b rows; targets < 0 are learnt only if a teacher speaks."""
        b = batch.tokens.shape[0] // self.micro
        learnt = batch.targets >= 0
        for i, buffers in enumerate(self.inputs):
            for buffer, values in zip(buffers, (batch.tokens, batch.targets)):
                copy_into(buffer, values[i * b:(i + 1) * b])
        if isinstance(batch, SoftTargetBatch):
            learnt = learnt | (batch.topk_ids[..., 0] >= 0)
            for i, buffers in enumerate(self.said):
                for buffer, values in zip(buffers, (batch.topk_ids, batch.topk_probs)):
                    copy_into(buffer, values[i * b:(i + 1) * b])
        else:
            for topk_ids, _ in self.said:
                buffer_view(topk_ids).fill(-1)   # nobody has said anything
        copy_into(self.inv_count, np.array([1 / max(1, int(learnt.sum()))], np.float32))
        copy_into(self.optim.lr, np.array([lr], np.float32))
        loss = float(buffer_view(self._step())[0])
        return StepResult(loss, self.optim.grad_norm(), self.optim.skipped())


def _buffer(shape: tuple[int, ...], dtype: type) -> Tensor:
    return Tensor(np.zeros(shape, dtype)).realize()
