"""The optimizer over a model's packed tensors, and the learning rate's input buffer."""
import numpy as np

from seed.config import TrainConfig
from seed.wavecore.fast_optim import OptimizerKernels, OptimizerState
from seed.wavecore import layout
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import Tensor, buffer_view, copy_into, from_array, zeros

LR_WIDTH = 64   # the d_model at which train.lr holds for matrices


class Optimizer:
    """Muon for matrices and AdamW for the rest, or AdamW for all (train.optimizer). Matrices stay
    as they are with train.trainable = "no-matrices", all but the tables of bodies with "tables".

    First moments are one flat tensor in the order of the model's blocks, second moments another,
    of what AdamW trains. The embedding counts as no matrix: AdamW trains it.

    The learning rate of matrices falls with the width: as 1 / d_model for AdamW (Yang et al.
    2203.03466, table 8), as 1 / sqrt(d_model) for Muon, whose update grows with that root.

    A step whose loss or gradient norm is not finite changes nothing but `skipped`.
    """

    def __init__(self, model: WaveCore, config: TrainConfig, body: str = ""):
        """`body`: it changes nothing but what ticks of this body use."""
        self.model = model
        self.kernels = OptimizerKernels(
            model.blocks, config, LR_WIDTH / model.config.d_model, model.threads,
            lambda name: not body or layout.acts(name, body))
        self.moments = {}
        for letter, blocks in (("m", self.kernels.first), ("v", self.kernels.second)):
            size = sum(block.size for block in blocks)
            self.moments[letter] = blocks, zeros((size,))
        state = np.zeros(len(OptimizerState), np.float32)
        state[[OptimizerState.BETA1_POWER, OptimizerState.BETA2_POWER]] = 1.0
        self.state = from_array(state)
        self._state_view = buffer_view(self.state)
        self.lr = zeros((1,))
        self._trained = {block.name for block in self.kernels.first if block.arrays}

    def step(self, grads: list[Tensor], loss: Tensor) -> list[Tensor]:
        """Tensors to realize for one update; grads in the order of model.packed, loss (1,)."""
        m, v = (tensor for _, tensor in self.moments.values())
        return self.kernels(list(self.model.packed.values()), grads, m, v, self.state, self.lr,
                            loss, self.model.changes)

    def trains(self, name: str) -> bool:
        """Whether it may change this packed tensor."""
        return name in self._trained

    def grad_norm(self) -> float:
        """Global norm of the last step's gradient, before clipping."""
        return float(self._state_view[OptimizerState.GRAD_NORM])

    def skipped(self) -> bool:
        """Whether the last step was not finite."""
        return bool(self._state_view[OptimizerState.SKIPPED])

    def state_dict(self) -> dict[str, np.ndarray]:
        """Named moments and the state, as views, not copies; the inverse of load_state_dict."""
        named = {"optim.state": buffer_view(self.state)}
        for letter, (blocks, tensor) in self.moments.items():
            flat, at = buffer_view(tensor), 0
            for block in blocks:
                named |= {f"{letter}.{key}": array
                          for key, array in block.unpack(flat[at:at + block.size]).items()}
                at += block.size
        return named

    def flat(self) -> dict[str, np.ndarray]:
        """Views of the moments and the state, in the optimizer's own order."""
        return {"state": buffer_view(self.state), **{
            letter: buffer_view(tensor) for letter, (_, tensor) in self.moments.items()}}

    def load_state_dict(self, named: dict[str, np.ndarray]) -> None:
        """Copies named moments in; the caller has checked names and shapes."""
        copy_into(self.state, named["optim.state"])
        for letter, (blocks, tensor) in self.moments.items():
            moments = {key[2:]: a for key, a in named.items() if key.startswith(f"{letter}.")}
            copy_into(tensor, np.concatenate([block.pack(moments) for block in blocks]))
